"""When something happened: monotonic boot time always, UTC as well as it is known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class UtcSource(IntEnum):
    """Where a UTC came from, best last. The numbers are stored and sent: never renumber."""

    NONE = 0
    """No UTC is known; the record carries boot time only."""
    LAST_KNOWN = 1
    """The system clock, not synchronised: last known time plus the time since."""
    NTP = 2
    """The system clock while the kernel says that it is synchronised."""
    GNSS = 3
    """The time of a valid GNSS fix of this boot."""


@dataclass(frozen=True, slots=True)
class Utc:
    """A UTC with its pedigree.

    Attributes:
        unix_ms: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
        source: where it came from.
        uncertainty_ms: half-width of the interval the true time is believed to lie in;
            None when nobody can say.
    """

    unix_ms: int
    source: UtcSource
    uncertainty_ms: int | None


@dataclass(frozen=True, slots=True)
class Stamp:
    """The moment of an event.

    Attributes:
        boottime_ns: CLOCK_BOOTTIME of this boot; never steps, counts through suspend.
        utc: derived UTC, or None while no source is trusted.
    """

    boottime_ns: int
    utc: Utc | None = None
