"""What dispatch's map makes of a report until the next one comes: both ends reckon with the same rule."""

from __future__ import annotations

import math

from agent.domain.geodesy import EARTH_RADIUS_M
from agent.domain.record import Position

EXTRAPOLATE_S = 15.0
"""A unit that is not heard for longer is left where it would be by then: it may have stopped."""
STANDS_BELOW_MPS = 0.7
"""A report of less speed is of a unit that stands: what GNSS says then is noise."""


def extrapolated(position: Position, passed_s: float) -> tuple[float, float]:
    """Latitude and longitude in degrees, `passed_s` after a report: straight on at its speed and course.

    A unit whose report tells no course, or less than a walking pace, stays.
    """
    speed_mps, course_deg = position.speed_mps, position.course_deg
    if speed_mps is None or course_deg is None or speed_mps < STANDS_BELOW_MPS:
        return position.lat_deg, position.lon_deg
    away_m = speed_mps * min(max(0.0, passed_s), EXTRAPOLATE_S)
    course = math.radians(course_deg)
    lat_deg = position.lat_deg + math.degrees(away_m * math.cos(course) / EARTH_RADIUS_M)
    circle_m = EARTH_RADIUS_M * max(math.cos(math.radians(position.lat_deg)), 1e-6)
    lon_deg = position.lon_deg + math.degrees(away_m * math.sin(course) / circle_m)
    return min(90.0, max(-90.0, lat_deg)), (lon_deg + 180.0) % 360.0 - 180.0


def velocity_mps(position: Position) -> tuple[float, float]:
    """Speed to the east and to the north that `extrapolated` reckons with."""
    speed_mps, course_deg = position.speed_mps, position.course_deg
    if speed_mps is None or course_deg is None or speed_mps < STANDS_BELOW_MPS:
        return 0.0, 0.0
    course = math.radians(course_deg)
    return speed_mps * math.sin(course), speed_mps * math.cos(course)
