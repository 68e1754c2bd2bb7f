"""What holds of the presses: status and emergency as `state/status` tells them, and what can be amended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.domain.crew import CrewState
from agent.domain.record import Amendment, Emergency, StatusChange, Stream, Withdrawal
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import StatusState
from agent.domain.status import MOMENTARY
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.outbox.deposit import Deposit
from agent.outbox.outbox import Outbox
from agent.wire.body import unpack_body
from agent.wire.row import Row
from agent.wire.time_text import unix_ms_of

MOST_RECENT = 8
"""Presses that can be amended on the page."""
LOOKED_BACK_RECORDS = 512
"""Newest events in which a restart looks for them, and for what was said of them later."""
MOST_LOOKED_BACK_RECORDS = 4096
"""The same, where the status that holds is older."""
_PAGE_RECORDS = 256
_PAGE_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class Held:
    """The newest press of its kind, as `state/status` tells it.

    Attributes:
        body: what it said.
        utc: when, as well as it was known then; None when it was not.
        boottime_ns: when, for a press of this boot, so that a better clock can still date it; else None.
        deposit: what became of it; None for what only follows from another press, or lies in the past. The
            outbox keeps true, and stores again, only what somebody still holds: the presses that are shown.
        place: journal and sequence number of one that lies in the past.
    """

    body: StatusChange | Emergency
    utc: Utc | None
    boottime_ns: int | None
    deposit: Deposit | None
    place: tuple[int, int] | None = None


class Standing:
    """The presses that hold, and the few before them. Used from the event loop.

    Args:
        clock: boot time.
        time_base: derives UTC, also later than the press.
        outbox: whose sequence numbers count.
    """

    def __init__(self, clock: Clock, time_base: TimeBase, outbox: Outbox) -> None:
        self._clock = clock
        self._time_base = time_base
        self._outbox = outbox
        self.status: Held | None = None
        """The press of the status that holds."""
        self.emergency: Held | None = None
        """The newest press of an emergency, or its end."""
        self.recent: list[Held] = []
        """Statuses on the disk, oldest first."""
        self._edits: dict[int, list[Amendment]] = {}
        """What was said of presses later, as it was read last."""
        self._before: Held | None = None
        """The status before the one that holds, to go back to."""

    def remember(self, held: Held) -> None:
        """Take the newest press of its kind."""
        if isinstance(held.body, Emergency):
            self.emergency = held
        elif held.body.status not in MOMENTARY:
            self._before = None if self.status is None else self._past(self.status)
            self.status = held
        elif self.status is None and held.body.previous is not None:
            # After a restart only the newest press is read: a momentary one tells what holds, not since when.
            self.status = Held(replace(held.body, status=held.body.previous), None, None, None)

    def go_back(self) -> Held | None:
        """What was before the status that holds, holds again; returns what was taken back."""
        taken, self.status, self._before = self.status, self._before, None
        if taken is not None and taken.deposit is not None:
            self.recent = [one for one in self.recent if self.seq_of(one) != taken.deposit.seq]
        return taken

    def keep_for_amendments(self, stored: Sequence[Deposit]) -> None:
        """The press that holds is on the disk, if it is one of `stored`: from now on it can be corrected."""
        held = self.status
        if held is not None and held.deposit in stored:
            self.recent = [*self.recent[-MOST_RECENT + 1 :], self._past(held)]

    def press(self, seq: object) -> Held | None:
        """The press with that number among those that can be amended on the page."""
        return next((one for one in self.recent if self.seq_of(one) == seq), None)

    def put_in_place(self, held: Held, by: Held) -> bool:
        """Take `by` for `held` wherever it stands; returns whether that is what holds."""
        seq = self.seq_of(held)
        self.recent = [
            replace(by, deposit=None, place=one.place) if self.seq_of(one) == seq else one
            for one in self.recent
        ]
        if self.status is None or self.seq_of(self.status) != seq:
            return False
        self.status = replace(by, deposit=self.status.deposit, place=self.status.place)
        return True

    # ------------------------------------------------------------------ what the disk has

    async def look_back(self, from_seq: int | None) -> None:
        """Read the recent presses, and what was said of them later, after a restart.

        Args:
            from_seq: of the status that holds, whose corrections must be among what is read.

        Raises:
            StoreFaultError: the disk can not be read.
        """
        last = self._outbox.last_seq(Stream.EVENTS)
        after = (
            last - LOOKED_BACK_RECORDS if from_seq is None else min(from_seq - 1, last - LOOKED_BACK_RECORDS)
        )
        presses, self._edits = await self._read(max(after, last - MOST_LOOKED_BACK_RECORDS, 0))
        lasting = [one for one in presses if _lasts(one.body)]
        self.recent = [self.as_corrected(one) for one in lasting[-MOST_RECENT:]]

    def find_status(self, token: str | None) -> None:
        """After `look_back`: the press of the status that holds, where only its token is known so far."""
        newest = self.recent[-1] if self.recent else None
        known = self.status is not None and (self.status.deposit is not None or self.status.place is not None)
        if not known and newest is not None and isinstance(newest.body, StatusChange):
            self.status = newest if newest.body.status == token else self.status

    async def read(self, seq: int) -> Held | None:
        """A press of whatever day, as it holds now; None when that is none, or was taken back.

        Raises StoreFaultError.
        """
        last = self._outbox.last_seq(Stream.EVENTS)
        presses, self._edits = await self._read(seq - 1, last_seq=min(last, seq + MOST_LOOKED_BACK_RECORDS))
        found = next((one for one in presses if self.seq_of(one) == seq), None)
        return None if found is None else self.as_corrected(found)

    def as_corrected(self, held: Held) -> Held:
        """The press as the amendments that were read left it."""
        body = held.body
        if not isinstance(body, StatusChange):
            return held
        for edit in self._edits.get(self.seq_of(held) or 0, ()):
            if edit.field == "status" and edit.value is not None:
                body = replace(body, status=edit.value)
            elif edit.field == "reason":
                body = replace(body, reason=edit.value)
            elif edit.field == "utc" and (unix_ms := unix_ms_of(edit.value)) is not None:
                source = UtcSource.LAST_KNOWN if held.utc is None else held.utc.source
                held = replace(held, utc=Utc(unix_ms, source, None), boottime_ns=None)
        return replace(held, body=body)

    async def _read(
        self, after: int, *, last_seq: int | None = None
    ) -> tuple[list[Held], dict[int, list[Amendment]]]:
        """Statuses that were not taken back, and the amendments by what they are of, ascending."""
        last = self._outbox.last_seq(Stream.EVENTS) if last_seq is None else last_seq
        presses: dict[int, Held] = {}
        edits: dict[int, list[Amendment]] = {}
        while after < last:
            page = await self._outbox.read(
                Stream.EVENTS, after, max_records=_PAGE_RECORDS, max_bytes=_PAGE_BYTES, last_seq=last
            )
            if not page:
                break
            for row in page:
                try:
                    body = unpack_body(row.kind, row.body)
                except ValueError:
                    continue  # told when it is sent; it ends nothing
                if isinstance(body, Withdrawal):
                    presses.pop(body.of_seq, None)
                elif isinstance(body, Amendment):
                    edits.setdefault(body.of_seq, []).append(body)
                elif isinstance(body, StatusChange):
                    presses[row.seq] = self._of_row(row, body)
            after = page[-1].seq
        return list(presses.values()), edits

    def _of_row(self, row: Row, body: StatusChange) -> Held:
        utc = None
        if row.utc_ms is not None:
            utc = Utc(row.utc_ms, UtcSource(row.utc_source), row.utc_uncertainty_ms)
        boottime_ns = row.boottime_ms * 1_000_000 if row.boot == self._outbox.boot else None
        return Held(body, utc, boottime_ns, None, (self._outbox.journal, row.seq))

    # ------------------------------------------------------------------ what is told

    def state(self, crew: CrewState) -> StatusState:
        """`state/status`, as far as presses tell it."""
        now_ns = self._clock.boottime_ns()
        status, emergency = self.status, self.emergency
        raised = emergency.body if emergency is not None and crew.emergency else None
        raised = raised if isinstance(raised, Emergency) else None
        return StatusState(
            boottime_ms=now_ns // 1_000_000,
            utc=self._time_base.utc(now_ns),
            status=status.body.status if status and isinstance(status.body, StatusChange) else None,
            since=self.utc_of(status),
            seq=self.seq_of(status),
            emergency=crew.emergency,
            emergency_since=self.utc_of(emergency) if crew.emergency else None,
            emergency_seq=self.seq_of(emergency),
            journal=self._outbox.journal or None,
            reason=status.body.reason if status and isinstance(status.body, StatusChange) else None,
            emergency_silent=None if raised is None else raised.silent,
            emergency_test=None if raised is None else raised.test,
        )

    def seq_of(self, held: Held | None) -> int | None:
        """Its sequence number in the journal in use."""
        if held is None:
            return None
        if held.deposit is not None:
            return held.deposit.seq
        return None if held.place is None or held.place[0] != self._outbox.journal else held.place[1]

    def utc_of(self, held: Held | None) -> Utc | None:
        """When it was, as well as it is known now."""
        if held is None or held.boottime_ns is None:
            return None if held is None else held.utc
        better = self._time_base.utc(held.boottime_ns)
        if held.utc is None or (better is not None and better.source > held.utc.source):
            return better
        return held.utc

    def _past(self, held: Held) -> Held:
        """The same press without keeping the outbox busy with it."""
        seq = self.seq_of(held)
        return replace(held, deposit=None, place=None if seq is None else (self._outbox.journal, seq))


def _lasts(body: StatusChange | Emergency) -> bool:
    return isinstance(body, StatusChange) and body.status not in MOMENTARY
