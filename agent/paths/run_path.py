"""The run around the presses: what belongs to a press, what dispatch tells, and what a restart must know.

Its parts: `run_calls` (calls, messages, destination), `run_aboard` (who), `run_surroundings` (where, and how
the unit moves). This never makes or changes a press; it dresses each (`dressed`) with the incident it belongs
to and with what the vehicle itself knew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.config.crew import Crew
from agent.domain.call import ENDING
from agent.domain.fix import Fix
from agent.domain.odometer import OdometerReading
from agent.domain.places import Places
from agent.domain.record import (
    Body,
    Breakdown,
    Emergency,
    Made,
    Position,
    StatusChange,
    StatusFlag,
)
from agent.domain.run_order import is_expected
from agent.domain.state import StatusState
from agent.domain.status import MOMENTARY
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.hal.clock import Clock
from agent.paths.run_aboard import RunAboard
from agent.paths.run_calls import Kept, RunCalls
from agent.paths.run_records import Records, RunRecords
from agent.paths.run_surroundings import RunSurroundings
from agent.paths.state_sink import StateSink
from agent.runtime.log import EventLog

log = EventLog("run")

TICK_S = 1.0


class RunPath:
    """What belongs to a run. Used from the event loop.

    Args:
        settings: the table `[crew]`.
        call_sign: of this unit, by the configuration.
        places: known places.
        clock: boot time.
        time_base: derives UTC.
        records: the outbox.
        states: where states are published.
        on_change: called when the panel has something new to show.
        signals: newest signals of the vehicle by name, None where there is no fresh one.
        odometer: what the odometer says, None where that is not known.
        newest_seq: newest sequence number of the events on the disk.
        keep: given, whenever it changed, what `open` must be given after a restart; returns what is done when
            that is on the disk.
        on_crossing: called when the unit came to a known place or left it.
    """

    def __init__(
        self,
        settings: Crew,
        call_sign: str,
        places: Places,
        clock: Clock,
        time_base: TimeBase,
        *,
        records: Records,
        states: StateSink,
        on_change: Callable[[], None] = lambda: None,
        signals: Callable[[], Mapping[str, Any]] = dict,
        odometer: Callable[[], OdometerReading | None] = lambda: None,
        newest_seq: Callable[[], int] = lambda: 0,
        keep: Callable[[Mapping[str, Any]], Kept] = lambda _: None,
        on_crossing: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._keep = keep
        self._on_change = on_change
        self._on_state: Callable[[], None] = lambda: None
        self._status: str | None = None
        self._records = RunRecords(clock, time_base, records)
        self._around = RunSurroundings(
            places,
            hints=settings.hints,
            records=self._records,
            signals=signals,
            odometer=odometer,
            on_motion=on_change,
            on_crossing=on_crossing,
        )
        self.aboard = RunAboard(settings, call_sign, self._records, states, self._changed)
        self.calls = RunCalls(
            settings,
            self._records,
            states,
            self._around,
            self.aboard,
            on_change=self._changed,
            newest_seq=newest_seq,
        )

    # ------------------------------------------------------------------ for the rest of the agent

    @property
    def incident(self) -> str | None:
        """Number of the incident that the unit is assigned to."""
        return self.calls.book.incident

    @property
    def position(self) -> Position | None:
        """The newest position, however old."""
        return self._around.position

    @property
    def has_fix(self) -> bool:
        """Whether the unit knows where it is now."""
        return self._around.has_fix

    @property
    def places(self) -> Places:
        """All known places."""
        return self._around.places

    def listen(self, on_state: Callable[[], None]) -> None:
        """Call `on_state` when something changed that `state/status` says."""
        self._on_state = on_state

    def on_fix(self, fix: Fix) -> None:
        """Take a believed fix."""
        self._around.on_fix(fix, self.calls.book.current)

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Take changed signals of the vehicle."""
        self._around.on_signals(signals, self.calls.book.current)

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop: reminders, hints, arrival times, and what may no longer be kept."""
        while True:
            progress()
            self.tick()
            await asyncio.sleep(TICK_S)

    def tick(self) -> None:
        """What time brings; once a second."""
        self.calls.tick()
        if self._around.tick(self._status, self.calls.book.current):
            self._changed()
        self.calls.tell_arrival()

    # ------------------------------------------------------------------ presses

    def dressed(self, body: Body, boottime_ns: int) -> Body:
        """A press with what stands beside it; anything else as it is."""
        if not isinstance(body, StatusChange | Emergency):
            return body
        status = body.status if isinstance(body, StatusChange) else None
        evidence = self._around.evidence(boottime_ns, self.calls.book.current, status)
        by = self.aboard.roster.alone
        if isinstance(body, Emergency):
            return replace(body, incident=self.incident, evidence=evidence, by=body.by or by)
        flags = []
        if not is_expected(body.previous, body.status):
            flags.append(str(StatusFlag.UNEXPECTED))
        if evidence.contradictions:
            flags.append(str(StatusFlag.CONTRADICTED))
        return replace(body, incident=self.incident, evidence=evidence, flags=tuple(flags) or None, by=by)

    def breakdown(self, press: StatusChange) -> Breakdown | None:
        """What is told beside a press that says that the vehicle failed on a call; None for any other."""
        if press.incident is None or press.reason not in self._settings.breakdown_reasons:
            return None
        return self._around.breakdown(press, press.reason, press.incident)

    def status_holds(self, status: str | None, *, pressed: bool, seq: int | None = None) -> None:
        """A status holds from now on.

        Args:
            status: its token; None when there is none any more.
            pressed: True when somebody set it just now.
            seq: number of its record, of one that was read after a restart: the press may have ended the call
                and the end came before that could be kept.
        """
        if status is not None and status in MOMENTARY:
            return
        self._status, self._around.hint = status, None
        ended = status in ENDING and seq is not None and seq > self.calls.after_seq
        if status is not None and (pressed or ended):
            self.calls.status_set(status)
        self._changed()

    def taken_back(self, status: str | None) -> None:
        """The newest press was taken back: `status` holds again, and so does the call that it had ended."""
        self.calls.reopen()
        self.status_holds(status, pressed=False)

    def status_amended(self, before: StatusChange, status: str, *, holds: bool) -> None:
        """A press was corrected to be another status, and with it what it did to the call.

        Args:
            before: as it was until now.
            status: what it is from now on.
            holds: whether it is the status that holds.
        """
        if before.status in ENDING and status not in ENDING and before.incident is not None:
            self.calls.reopen_amended(before.incident)
        if holds and status in ENDING and before.incident is not None and before.incident == self.incident:
            self.calls.status_set(status, Made.DISPATCH)
        if holds:
            self._status, self._around.hint = status, None
        self._changed()

    def dressed_state(self, state: StatusState) -> StatusState:
        """The status as dispatch sees it, with the incident and what belongs to it."""
        hint = self._around.hint
        return replace(
            state,
            incident=self.incident,
            for_calls=self.aboard.roster.available_for_calls,
            call_acknowledged=self.calls.book.acknowledged if self.incident is not None else None,
            hint=None if hint is None else str(hint.suggests),
        )

    # ------------------------------------------------------------------ the crew's page

    def actions(self) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """What the panel may ask for, by its word (docs/panel.md)."""
        return {**self.calls.actions(), **self.aboard.actions()}

    def snapshot(self) -> dict[str, Any]:
        """The panel's part of the truth, JSON-able."""
        roster, hint = self.aboard.roster, self._around.hint
        return {
            **self.calls.snapshot(),
            "unit": {"call_sign": roster.call_sign, "vehicle": roster.vehicle},
            "hint": None if hint is None else {"suggests": str(hint.suggests)},
            "available_for_calls": roster.available_for_calls,
            "crew": list(roster.crew),
            "driver": roster.driver,
            "reasons": {status: list(reasons) for status, reasons in self._settings.reasons.items()},
            "delay_reasons": list(self._settings.delay_reasons),
            "motion": {"driving": self._around.is_driving},
        }

    # ------------------------------------------------------------------ across a restart

    def open(self, remembered: Mapping[str, Any] | None = None) -> None:
        """Take up where the last run ended, and say who and what this unit is.

        Args:
            remembered: what `keep` was given last; what makes no sense in it is left out, and logged.
        """
        given, calls = remembered or {}, self.calls
        now_ns, same_boot = self._clock.boottime_ns(), given.get("boot_id") == self._clock.boot_id
        for name, restore in (
            ("calls", lambda one: calls.book.restore(one, now_ns, same_boot=same_boot)),
            ("messages", lambda one: calls.messages.restore(one, now_ns, same_boot=same_boot)),
            ("roster", self.aboard.restore),
            ("call_after_seq", self._restore_after_seq),
        ):
            try:
                if given.get(name) is not None:
                    restore(given[name])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                log.error("not_remembered", what=name, why=type(error).__name__)
        self.aboard.tell_unit()

    def _restore_after_seq(self, given: int) -> None:
        self.calls.after_seq = int(given)

    def _remembered(self) -> dict[str, Any]:
        return {
            "boot_id": self._clock.boot_id,
            "calls": self.calls.book.remembered(),
            "call_after_seq": self.calls.after_seq,
            "messages": self.calls.messages.remembered(),
            "roster": self.aboard.remembered(),
        }

    def _changed(self) -> Kept:
        kept = self._keep(self._remembered())
        self._on_state()
        self._on_change()
        return kept
