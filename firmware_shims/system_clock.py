"""The computer's clocks: the only module that asks the operating system for the time."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from agent.hal.clock import SystemUtc

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_ERROR = 5
"""Return of adjtimex(2) while no service disciplines the clock."""


class _Timex(ctypes.Structure):
    # struct timex of linux/timex.h; only `modes` and `maxerror` are used, the tail is room for the rest.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


class SystemClock:
    """Implements agent.hal.clock.Clock on Linux. Thread-safe."""

    def __init__(self) -> None:
        self._boot_id: str | None = None
        self._libc: ctypes.CDLL | None = None

    @property
    def boot_id(self) -> str:
        """The kernel's boot id; systemd hands it in MDT_BOOT_ID because the sandbox hides /proc/sys."""
        if self._boot_id is None:
            given = os.environ.get("MDT_BOOT_ID", "")
            self._boot_id = (given or _BOOT_ID.read_text(encoding="ascii")).strip().replace("-", "")
        return self._boot_id

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME in nanoseconds."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def suspended_ns(self) -> int:
        """CLOCK_BOOTTIME less CLOCK_MONOTONIC."""
        monotonic_ns = time.monotonic_ns()
        return self.boottime_ns() - monotonic_ns

    def system_utc(self) -> SystemUtc:
        """CLOCK_REALTIME, and whether the kernel believes it (adjtimex(2))."""
        if self._libc is None:
            self._libc = ctypes.CDLL(None)
        timex = _Timex()
        state = self._libc.adjtimex(ctypes.byref(timex))
        return SystemUtc(
            unix_ms=time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000,
            synchronised=0 <= state < _TIME_ERROR,
            max_error_ms=timex.maxerror // 1000,
        )
