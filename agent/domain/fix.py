"""One GNSS epoch: where the receiver believes the vehicle is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class FixMode(IntEnum):
    """Kind of fix, numbered as in NMEA GSA and gpsd."""

    NONE = 1
    FIX_2D = 2
    FIX_3D = 3


@dataclass(frozen=True, slots=True)
class Fix:
    """All sentences of one epoch, merged. A value the receiver did not give is None, never 0.

    Attributes:
        utc_ms: the epoch's UTC in Unix milliseconds; None when the receiver gave no full date and time.
        lat_deg: WGS 84 latitude, north positive; None without a fix.
        lon_deg: WGS 84 longitude, east positive; None without a fix.
        alt_m: height above mean sea level.
        speed_mps: speed over ground.
        course_deg: course over ground, true north, 0 <= course < 360; None when the receiver leaves it empty.
        mode: NONE, 2D or 3D.
        satellites: number used in the solution.
        hdop: horizontal dilution of precision.
        received_boottime_ns: CLOCK_BOOTTIME when the first byte of the epoch was read.
        error_m: the receiver's own estimate of its horizontal error, one sigma of the distance.
    """

    utc_ms: int | None
    lat_deg: float | None
    lon_deg: float | None
    alt_m: float | None
    speed_mps: float | None
    course_deg: float | None
    mode: FixMode
    satellites: int | None
    hdop: float | None
    received_boottime_ns: int
    error_m: float | None = None

    @classmethod
    def without_position(cls, utc_ms: int | None, satellites: int | None, received_boottime_ns: int) -> Fix:
        """An epoch in which the receiver knew no position: what it goes on to print of it means nothing."""
        return cls(
            utc_ms=utc_ms,
            lat_deg=None,
            lon_deg=None,
            alt_m=None,
            speed_mps=None,
            course_deg=None,
            mode=FixMode.NONE,
            satellites=satellites,
            hdop=None,
            received_boottime_ns=received_boottime_ns,
        )

    @property
    def has_position(self) -> bool:
        """True when there is a fix with coordinates."""
        return self.mode is not FixMode.NONE and self.lat_deg is not None and self.lon_deg is not None
