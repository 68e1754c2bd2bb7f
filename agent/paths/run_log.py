"""The times of the unit's runs, from its own journal: presses as withdrawals and amendments left them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from agent.domain.clock_correction import corrected_utc
from agent.domain.record import (
    Amendment,
    Body,
    CallRecord,
    CallStep,
    ClockCorrection,
    Kind,
    StatusChange,
    Stream,
    Withdrawal,
)
from agent.domain.run_times import Run, StatusTime, nemsis, runs
from agent.domain.stamp import Utc, UtcSource
from agent.domain.status import UnitStatus
from agent.domain.time_base import TimeBase
from agent.outbox.outbox import Outbox
from agent.wire.body import unpack_body
from agent.wire.row import Row
from agent.wire.time_text import unix_ms_of, utc_text

MOST_RECORDS: Final = 4096
"""Newest records of the events that are looked at: some weeks of a busy unit."""
MOST_RUNS: Final = 50
_PAGE_RECORDS: Final = 256
_PAGE_BYTES: Final = 128 * 1024
_OF_STEP: Final = {
    CallStep.RECEIVED: UnitStatus.DISPATCHED,
    CallStep.ACKNOWLEDGED: UnitStatus.ACKNOWLEDGED,
    CallStep.CANCELLED: UnitStatus.CANCELLED,
}
"""What a step of a call says about the run, where nobody pressed it."""


class RunLog:
    """Reads the runs' times out of the store when somebody asks. Used from the event loop.

    Args:
        outbox: the store.
        time_base: dates what was recorded in this boot before its time was known.
        codes: unit status to the number or letter that the agency's radio has for it.
    """

    def __init__(self, outbox: Outbox, time_base: TimeBase, codes: Mapping[Any, str]) -> None:
        self._outbox = outbox
        self._time_base = time_base
        self._codes = codes

    async def snapshot(self) -> dict[str, Any]:
        """The newest runs, JSON-able. Raises StoreFaultError when the disk can not be read."""
        last = self._outbox.last_seq(Stream.EVENTS)
        after = max(0, last - MOST_RECORDS)
        rows: list[Row] = []
        while after < last:
            page = await self._outbox.read(
                Stream.EVENTS, after, max_records=_PAGE_RECORDS, max_bytes=_PAGE_BYTES, last_seq=last
            )
            if not page:
                break
            rows += page
            after = page[-1].seq
        times, amendments, withdrawals = status_times(rows, self._utc_ms)
        found = runs(times)[-MOST_RUNS:]
        return {
            "runs": [self._run(run) for run in found],
            "from_seq": rows[0].seq if rows else None,
            "amendments": amendments,
            "withdrawals": withdrawals,
        }

    def _utc_ms(self, row: Row, correction: ClockCorrection | None) -> int | None:
        utc = None
        if row.utc_ms is not None:
            utc = Utc(row.utc_ms, UtcSource(row.utc_source), row.utc_uncertainty_ms)
        if row.boot == self._outbox.boot:
            better = self._time_base.utc(row.boottime_ms * 1_000_000)
            if better is not None and (utc is None or better.source > utc.source):
                utc = better
        if correction is not None:
            utc = corrected_utc(row.boottime_ms, utc, correction) or utc
        return None if utc is None else utc.unix_ms

    def _run(self, run: Run) -> dict[str, Any]:
        return {
            "incident": run.incident,
            "closed": run.closed,
            "times": [
                {
                    "seq": time.seq,
                    "status": time.status,
                    "code": self._codes.get(time.status),
                    "utc": None if time.unix_ms is None else utc_text(time.unix_ms),
                    "odometer_km": time.odometer_km,
                    "amended": time.amended,
                    "flags": list(time.flags),
                }
                for time in run.times
            ],
            "legs": [{"name": leg.name, "seconds": leg.seconds, "km": leg.km} for leg in run.legs],
            "nemsis": nemsis(run),
        }


def status_times(
    rows: Iterable[Row], utc_ms: Callable[[Row, ClockCorrection | None], int | None]
) -> tuple[list[StatusTime], int, int]:
    """Statuses with their times as they hold now, in the order they were set.

    Steps of a call stand beside the presses: notified, acknowledged and cancelled have their time from them.

    Args:
        rows: of the events, ascending.
        utc_ms: UTC of a row in Unix milliseconds, given the newest clock record of its boot; None where that
            is not known.

    Returns:
        The statuses; how many amendments and how many withdrawals there are.
    """
    read = [(row, body) for row in rows if (body := _body(row)) is not None]
    corrections = {body.of_boot: body for _, body in read if isinstance(body, ClockCorrection)}
    withdrawn, amended = _edits(body for _, body in read)
    found: list[StatusTime] = []
    modes: dict[str, str | None] = {}
    for row, body in read:
        time = _time(row, body, modes)
        if time is None or row.seq in withdrawn:
            continue
        time = replace(time, unix_ms=utc_ms(row, corrections.get(row.boot)))
        found.append(_amended(time, amended.get(row.seq, ())))
    return found, sum(len(edits) for edits in amended.values()), len(withdrawn)


def _body(row: Row) -> Body | None:
    try:
        return unpack_body(row.kind, row.body)
    except ValueError:
        return None  # told when it is sent; here it only has no time


def _edits(bodies: Iterable[Body]) -> tuple[set[int], dict[int, list[Amendment]]]:
    withdrawn: set[int] = set()
    amended: dict[int, list[Amendment]] = {}
    for body in bodies:
        if isinstance(body, Withdrawal) and body.of_kind == Kind.STATUS.token:
            withdrawn.add(body.of_seq)
        elif isinstance(body, Amendment) and body.of_kind == Kind.STATUS.token:
            amended.setdefault(body.of_seq, []).append(body)
    return withdrawn, amended


def _time(row: Row, body: Body, modes: dict[str, str | None]) -> StatusTime | None:
    if isinstance(body, CallRecord):
        if body.response_mode is not None:
            modes[body.incident] = body.response_mode
        step = next((step for step in _OF_STEP if step == body.step), None)
        if step is None:
            return None
        return StatusTime(row.seq, _OF_STEP[step], None, body.incident, mode=modes.get(body.incident))
    if not isinstance(body, StatusChange):
        return None
    odometer_m = None if body.evidence is None else body.evidence.odometer_m
    return StatusTime(
        row.seq,
        body.status,
        None,
        body.incident,
        odometer_km=None if odometer_m is None else odometer_m / 1000,
        flags=body.flags or (),
        mode=None if body.incident is None else modes.get(body.incident),
    )


def _amended(time: StatusTime, edits: Iterable[Amendment]) -> StatusTime:
    for edit in edits:
        if edit.field == "status" and edit.value is not None:
            time = replace(time, status=edit.value, amended=True)
        elif edit.field == "utc":
            time = replace(time, unix_ms=unix_ms_of(edit.value), amended=True)
    return time
