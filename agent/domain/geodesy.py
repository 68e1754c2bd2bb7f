"""Distances on the ground between two WGS 84 coordinates."""

from __future__ import annotations

import math

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the IUGG; a sphere is off by 0.5 % at most, which no rule of this house notices."""


def distance_m(lat_1_deg: float, lon_1_deg: float, lat_2_deg: float, lon_2_deg: float) -> float:
    """Great-circle distance in metres, by the haversine formula; exact also for points close together."""
    lat_1, lat_2 = math.radians(lat_1_deg), math.radians(lat_2_deg)
    half_lat = (lat_2 - lat_1) / 2
    half_lon = math.radians(lon_2_deg - lon_1_deg) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat_1) * math.cos(lat_2) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, chord)))


def offset_m(from_lat_deg: float, from_lon_deg: float, lat_deg: float, lon_deg: float) -> tuple[float, float]:
    """Metres to the east and to the north, on a plane that touches at the first point.

    Good to a metre within 20 km of it and below 70 degrees of latitude; across the date line the short way.
    """
    d_lon_deg = (lon_deg - from_lon_deg + 180.0) % 360.0 - 180.0
    east = math.radians(d_lon_deg) * math.cos(math.radians((from_lat_deg + lat_deg) / 2)) * EARTH_RADIUS_M
    return east, math.radians(lat_deg - from_lat_deg) * EARTH_RADIUS_M
