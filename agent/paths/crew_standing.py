"""What holds of the presses: status and emergency as `state/status` tells them, and what can be amended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.domain.crew import CrewState
from agent.domain.record import Emergency, StatusChange
from agent.domain.stamp import Utc
from agent.domain.state import StatusState
from agent.domain.status import MOMENTARY
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.outbox.deposit import Deposit
from agent.outbox.outbox import Outbox

MOST_RECENT = 8
"""Presses that can be amended on the page."""


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

    def recent_press(self, seq: object) -> Held | None:
        """The press with that number among those that can be amended."""
        return next((one for one in self.recent if self.seq_of(one) == seq), None)

    def put_in_place(self, held: Held, by: Held) -> bool:
        """Take `by` for `held` wherever it stands; returns whether that is what holds."""
        self.recent = [by if one is held else one for one in self.recent]
        if self.status is None or self.seq_of(self.status) != self.seq_of(held):
            return False
        self.status = replace(by, deposit=self.status.deposit, place=self.status.place)
        return True

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
