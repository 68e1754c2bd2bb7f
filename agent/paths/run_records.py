"""Where the parts of a run put their records, each with the time it is of."""

from __future__ import annotations

from typing import Any, Protocol

from agent.domain.record import Body, CommandResult, Draft, Outcome
from agent.domain.stamp import Utc
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.outbox.fault import OutboxClosedError
from agent.runtime.log import EventLog

log = EventLog("run")


class Records(Protocol):
    """Where records go; the outbox."""

    def put(self, draft: Draft) -> Any:
        """Store a record of the events."""
        ...

    def stage(self, draft: Draft) -> None:
        """Store a record of the trail with the next group."""
        ...


class RunRecords:
    """Stamps bodies and hands them to the outbox; one that is closed is logged. Used from the event loop."""

    def __init__(self, clock: Clock, time_base: TimeBase, records: Records) -> None:
        self._clock = clock
        self._time_base = time_base
        self._records = records

    def now_ns(self) -> int:
        """CLOCK_BOOTTIME."""
        return self._clock.boottime_ns()

    def utc(self) -> Utc | None:
        """The UTC of now, as well as it is known."""
        return self._time_base.utc(self.now_ns())

    def put(self, body: Body, boottime_ns: int | None = None) -> Any:
        """A record of the events, of now or of another moment; returns what the outbox gives for it."""
        at_ns = self.now_ns() if boottime_ns is None else boottime_ns
        try:
            return self._records.put(Draft(self._time_base.stamp(at_ns), body))
        except OutboxClosedError:
            log.error("record_not_stored", body=type(body).__name__)
            return None

    def stage(self, body: Body, boottime_ns: int | None = None) -> None:
        """A record of the trail, of now or of another moment."""
        at_ns = self.now_ns() if boottime_ns is None else boottime_ns
        try:
            self._records.stage(Draft(self._time_base.stamp(at_ns), body))
        except OutboxClosedError:
            log.error("record_not_stored", body=type(body).__name__)

    def refuse(self, command: str, request: str, reason: str, text: str | None = None) -> None:
        """A command of dispatch was not done; `reason` is a token, `text` a sentence."""
        self.stage(
            CommandResult(
                command, str(Outcome.REFUSED), request=request, by="dispatch", reason=reason, text=text
            )
        )
