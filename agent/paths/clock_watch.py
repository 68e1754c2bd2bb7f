"""Keeps the time base fed with what the system clock says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.stamp import UtcSource
from agent.domain.time_base import TimeBase, TimeDoubt
from agent.hal.clock import Clock

_EVERY_S = 1.0
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
        ntp: whether the kernel's word that a time service disciplines its clock counts.
    """

    def __init__(self, clock: Clock, time_base: TimeBase, health: HealthBoard, *, ntp: bool = True) -> None:
        self._clock = clock
        self._ntp = ntp
        self._time_base = time_base
        self._health = health

    def look(self) -> None:
        """Take the system clock's word, for what it is worth."""
        now_ns = self._clock.boottime_ns()
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

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop."""
        while True:
            self.look()
            progress()
            await asyncio.sleep(_EVERY_S)
