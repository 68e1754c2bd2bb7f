"""A receiver that tells fixes and not sentences: rounded as its sentences would round them.

The errors are those of `hil.drive.gnss_receiver`; what it leaves out are the satellites one by one, which
decide there how many are used.
"""

from __future__ import annotations

import math
import random

from agent.domain.fix import Fix, FixMode
from hil.drive.gnss_receiver import COURSE_ABOVE_MPS, ERRORS
from hil.drive.nmea_writer import KNOTS_PER_MPS
from hil.drive.route import METRES_PER_DEGREE, Sky

USED = {Sky.OPEN: 11, Sky.CANYON: 6, Sky.TUNNEL: 0}


class FixReceiver:
    """Turns the truth into fixes, one a second."""

    def __init__(self, rng: random.Random, first_fix_s: float) -> None:
        self._gauss = rng.gauss
        self._fix_from_s = first_fix_s
        self._error_m = (rng.gauss(0, 2.0), rng.gauss(0, 2.0), rng.gauss(0, 2.0))
        self._kicks = {
            sky: (
                math.exp(-1.0 / error.memory_s),
                error.sigma_m * math.sqrt(1 - math.exp(-2.0 / error.memory_s)),
            )
            for sky, error in ERRORS.items()
        }

    def fix(
        self,
        since_power_s: float,
        utc_ms: int,
        received_boottime_ns: int,
        *,
        place: tuple[float, float],
        speed_mps: float,
        course_deg: float,
        sky: Sky,
    ) -> Fix:
        """The fix of one epoch."""
        gauss = self._gauss
        keep, kick_m = self._kicks[sky]
        east_m, north_m, up_m = self._error_m
        self._error_m = east_m, north_m, up_m = (
            east_m * keep + gauss(0, kick_m),
            north_m * keep + gauss(0, kick_m),
            up_m * keep + gauss(0, kick_m),
        )
        if since_power_s < self._fix_from_s or sky is Sky.TUNNEL:
            return Fix.without_position(None, 0, received_boottime_ns)
        lat_deg = place[0] + (north_m + gauss(0, 0.15)) / METRES_PER_DEGREE
        east_m_per_deg = METRES_PER_DEGREE * math.cos(math.radians(place[0]))
        lon_deg = place[1] + (east_m + gauss(0, 0.15)) / east_m_per_deg
        speed_mps = abs(speed_mps + gauss(0, 0.12 if speed_mps else 0.03))
        course = None
        if speed_mps >= COURSE_ABOVE_MPS:
            course = round((course_deg + gauss(0, 1.5 / max(speed_mps, 1.0))) % 360, 2) % 360
        hdop = max(0.5, 8.5 / USED[sky] + gauss(0, 0.02))
        return Fix(
            utc_ms=utc_ms,
            lat_deg=_of_minutes(lat_deg),
            lon_deg=_of_minutes(lon_deg),
            alt_m=round(9.0 + 1.8 * up_m, 1),
            speed_mps=round(speed_mps * KNOTS_PER_MPS, 3) / KNOTS_PER_MPS,
            course_deg=course,
            mode=FixMode.FIX_3D,
            satellites=USED[sky],
            hdop=round(hdop, 2),
            received_boottime_ns=received_boottime_ns,
        )


def _of_minutes(degrees: float) -> float:
    """A coordinate as five decimals of a minute tell it."""
    return round(degrees * 60, 5) / 60
