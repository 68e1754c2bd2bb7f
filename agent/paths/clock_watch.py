"""Keeps the time base fed with what the system clock says."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable

from agent.domain.clock_correction import CorrectionRule
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Draft
from agent.domain.stamp import UtcSource
from agent.domain.time_base import TimeBase, TimeDoubt
from agent.hal.clock import Clock
from agent.hal.errors import HardwareError
from agent.outbox.outbox import Outbox
from agent.paths.row_time import RowTime
from agent.runtime.log import EventLog

log = EventLog("clock")
_EVERY_S = 1.0
PASSED_ON_WITHIN_MS = 1000
"""A receiver's time that is less certain sets nobody's clock."""
_SLEPT_NS = 200_000_000
"""Less is the time between reading one clock and the other, on a computer that is busy."""
_REASONS = {
    TimeDoubt.CONTRADICTION: HealthReason.TIME_CONTRADICTION,
    TimeDoubt.GNSS_DATE: HealthReason.GNSS_DATE,
}


class ClockWatch:
    """Looks at the system clock once a second, and tells when time is not to be trusted.

    Args:
        clock: the computer's clocks.
        time_base: is fed.
        health: gets TIME_UNSYNCHRONISED, TIME_CONTRADICTION and GNSS_DATE.
        outbox: gets a clock record when the time of what left is known better; none is made without it.
        rows: knows whether records left without a trusted time.
        on_second: called once a second with the boot time.
        pass_on: takes how many seconds the receiver's time is ahead of the system clock, to set it.
        ntp: whether the kernel's word that a time service disciplines its clock counts.
        on_sleep_over: called with how long the computer slept, once it is awake again.
    """

    def __init__(
        self,
        clock: Clock,
        time_base: TimeBase,
        health: HealthBoard,
        *,
        outbox: Outbox | None = None,
        rows: RowTime | None = None,
        on_second: Callable[[int], None] = lambda _: None,
        pass_on: Callable[[float], None] | None = None,
        ntp: bool = True,
        on_sleep_over: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._pass_on = pass_on
        self._on_sleep_over = on_sleep_over
        self._slept_ns = clock.suspended_ns()
        self._rule = CorrectionRule()
        self._outbox = outbox
        self._rows = rows
        self._on_second = on_second
        self._storing: Future[int] | None = None
        self._clock = clock
        self._ntp = ntp
        self._time_base = time_base
        self._health = health

    def look(self) -> None:
        """Take the system clock's word, for what it is worth."""
        now_ns = self._clock.boottime_ns()
        self._look_whether_it_slept()
        system = self._clock.system_utc()
        self._time_base.learn_system(
            system.unix_ms,
            synchronised=system.synchronised and self._ntp,
            max_error_ms=system.max_error_ms,
            boottime_ns=now_ns,
        )
        if self._time_base.source(now_ns) in (UtcSource.NONE, UtcSource.LAST_KNOWN):
            self._health.raise_(HealthReason.TIME_UNSYNCHRONISED)
        else:
            self._health.clear(HealthReason.TIME_UNSYNCHRONISED)
        doubts = self._time_base.doubts(now_ns)
        for doubt, reason in _REASONS.items():
            if doubt in doubts:
                self._health.raise_(reason, doubts[doubt])
            else:
                self._health.clear(reason)

    def _look_whether_it_slept(self) -> None:
        before_ns, self._slept_ns = self._slept_ns, self._clock.suspended_ns()
        slept_ns = self._slept_ns - before_ns
        if slept_ns >= _SLEPT_NS:
            log.warning("slept", for_s=round(slept_ns / 1e9, 1))
            self._time_base.sleep_over()
            self._on_sleep_over(slept_ns)

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop."""
        while True:
            self.tick()
            progress()
            await asyncio.sleep(_EVERY_S)

    def tick(self) -> None:
        """What time brings; once a second."""
        self.look()
        self._correct()
        self._on_second(self._clock.boottime_ns())
        self._tell_system()

    def _tell_system(self) -> None:
        """Pass the receiver's time on while nothing speaks against it."""
        if self._pass_on is None:
            return
        now_ns = self._clock.boottime_ns()
        utc = self._time_base.utc(now_ns)
        if utc is None or utc.source is not UtcSource.GNSS or self._time_base.doubts(now_ns):
            return
        if utc.uncertainty_ms is None or utc.uncertainty_ms > PASSED_ON_WITHIN_MS:
            return
        try:
            self._pass_on((utc.unix_ms - self._clock.system_utc().unix_ms) / 1000)
        except HardwareError as error:
            self._health.raise_(HealthReason.TIME_NOT_PASSED_ON, str(error))
        else:
            self._health.clear(HealthReason.TIME_NOT_PASSED_ON)

    def _correct(self) -> None:
        """Store a clock record when one is due. It waits in the outbox while the disk refuses it."""
        if self._outbox is None or self._rows is None:
            return
        now_ns = self._clock.boottime_ns()
        correction = self._rule.due(
            self._time_base.utc(now_ns),
            now_ns,
            boot=self._outbox.boot,
            untimed_left=self._rows.untimed_left,
        )
        if correction is not None:
            self._rows.untimed_left = False
            self._storing = self._outbox.put(Draft(self._time_base.stamp(now_ns), correction))
