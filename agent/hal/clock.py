"""The computer's clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SystemUtc:
    """What the system clock says.

    Attributes:
        unix_ms: CLOCK_REALTIME in milliseconds.
        synchronised: True while the kernel says that a time service disciplines it.
        max_error_ms: the kernel's own bound of its error.
    """

    unix_ms: int
    synchronised: bool
    max_error_ms: int


class Clock(Protocol):
    """Clocks of one boot."""

    @property
    def boot_id(self) -> str:
        """The kernel's random id of this boot, 32 hexadecimal digits."""
        ...

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME: nanoseconds since boot; never steps, counts through suspend."""
        ...

    def suspended_ns(self) -> int:
        """How long the computer has slept since boot: what CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC."""
        ...

    def system_utc(self) -> SystemUtc:
        """The wall clock, which a Pi has wrong at boot."""
        ...
