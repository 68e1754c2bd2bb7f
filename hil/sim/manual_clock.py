"""The clocks of a simulated computer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.hal.clock import SystemUtc


class ManualClock:
    """Implements agent.hal.clock.Clock on a loop's time.

    The wall clock can be stepped at will; boot time never steps, as in a real computer, but leaps over a
    sleep.
    """

    def __init__(
        self, now_ns: Callable[[], int], *, boot_id: str, unix_ms: int, synchronised: bool = False
    ) -> None:
        self._now_ns = now_ns
        self._booted_at_ns = now_ns()
        self._boot_id = boot_id
        self._unix_ms_at_boot = unix_ms
        self._synchronised = synchronised
        self._suspended_ns = 0

    @classmethod
    def of_loop(cls, boot_id: str, unix_ms: int) -> ManualClock:
        """A clock on the running loop's time."""
        loop = asyncio.get_running_loop()
        return cls(lambda: round(loop.time() * 1e9), boot_id=boot_id, unix_ms=unix_ms)

    @property
    def boot_id(self) -> str:
        """Id of the simulated boot."""
        return self._boot_id

    def boottime_ns(self) -> int:
        """Nanoseconds since the simulated boot."""
        return self._now_ns() - self._booted_at_ns + self._suspended_ns

    def suspended_ns(self) -> int:
        """How long the simulated computer has slept."""
        return self._suspended_ns

    def suspend(self, for_ns: int) -> None:
        """Sleep and wake: boot time and wall clock leap, what waits on the loop does not notice."""
        self._suspended_ns += for_ns

    def system_utc(self) -> SystemUtc:
        """The simulated wall clock."""
        unix_ms = self._unix_ms_at_boot + self.boottime_ns() // 1_000_000
        return SystemUtc(unix_ms, self._synchronised, 50 if self._synchronised else 0)

    def step(self, by_ms: int, *, synchronised: bool | None = None) -> None:
        """Step the wall clock; optionally say whether a time service now disciplines it."""
        self._unix_ms_at_boot += by_ms
        if synchronised is not None:
            self._synchronised = synchronised
