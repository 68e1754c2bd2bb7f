"""What one sentence of a receiver says, whatever parsed it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from agent.domain.fix import FixMode

MPS_PER_KNOT = 1852 / 3600
UNIX_DAY_0 = date(1970, 1, 1).toordinal()


@dataclass(slots=True)
class Sentence:
    """What one sentence says; None where it says nothing. Once read it stays: one may stand for many alike.

    Attributes:
        name: talker and type, e.g. "GNRMC": what a receiver repeats in each cycle.
        type: three letters: RMC, GGA...
        is_solution: True for the types that say, with the time of their epoch, whether there is a position.
        time_of_day_ms: UTC since midnight; 86,400,000 and more in a leap second.
        day: days since 1970-01-01.
        has_full_year: True when the day came with a four-digit year.
        valid: whether there is a measured position.
        lat_deg: WGS 84 latitude, north positive; only when valid.
        lon_deg: WGS 84 longitude, east positive; only when valid.
        alt_m: height above mean sea level.
        speed_mps: speed over ground.
        course_deg: course over ground, true, 0 <= course < 360.
        mode: NONE, 2D, 3D.
        satellites: number used in the solution.
        hdop: horizontal dilution of precision.
        error_m: the receiver's own estimate of its horizontal error, one sigma of the distance.
        bad_fields: number of fields that were left out because they are malformed.
    """

    name: str
    type: str
    is_solution: bool
    time_of_day_ms: int | None = None
    day: int | None = None
    has_full_year: bool = False
    valid: bool | None = None
    lat_deg: float | None = None
    lon_deg: float | None = None
    alt_m: float | None = None
    speed_mps: float | None = None
    course_deg: float | None = None
    mode: FixMode | None = None
    satellites: int | None = None
    hdop: float | None = None
    error_m: float | None = None
    bad_fields: int = 0

    @property
    def talker(self) -> str:
        """Two letters: GP, GN, GL, GA, GB..."""
        return self.name[:2]
