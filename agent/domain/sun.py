"""Whether the sun is up, for the colours of a screen."""

from __future__ import annotations

import math

CIVIL_TWILIGHT_DEG = -6.0
_J2000_UNIX_S = 946_728_000
_DAY_S = 86_400.0


def sun_elevation_deg(unix_ms: int, lat_deg: float, lon_deg: float) -> float:
    """Height of the sun's centre above the horizon in degrees, without refraction.

    Low-precision formulas of the Astronomical Almanac: within 0.1 degree between 1950 and 2050.
    """
    days = (unix_ms / 1000 - _J2000_UNIX_S) / _DAY_S
    anomaly = math.radians((357.528 + 0.9856003 * days) % 360)
    longitude = (280.460 + 0.9856474 * days) % 360 + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly)
    ecliptic, obliquity = math.radians(longitude), math.radians(23.439 - 0.0000004 * days)
    declination = math.asin(math.sin(obliquity) * math.sin(ecliptic))
    ascension_deg = math.degrees(math.atan2(math.cos(obliquity) * math.sin(ecliptic), math.cos(ecliptic)))
    sidereal_deg = (280.46062 + 360.98564737 * days) % 360
    hour_angle = math.radians(sidereal_deg + lon_deg - ascension_deg)
    lat = math.radians(lat_deg)
    sine = math.sin(lat) * math.sin(declination) + math.cos(lat) * math.cos(declination) * math.cos(
        hour_angle
    )
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


def is_night(unix_ms: int, lat_deg: float, lon_deg: float) -> bool:
    """Whether it is darker than civil twilight."""
    return sun_elevation_deg(unix_ms, lat_deg, lon_deg) < CIVIL_TWILIGHT_DEG
