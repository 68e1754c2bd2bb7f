"""Fewer points, same shape: Douglas and Peucker's line simplification, with a floor of a point a minute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_METRES_A_DEGREE = 111_195.0
"""A degree of latitude on a sphere of 6,371.0 km; a per cent of error does not matter to a tolerance."""

MINUTE_MS = 60_000


class TrackPoint(NamedTuple):
    """A position on the trail.

    Attributes:
        at_ms: CLOCK_BOOTTIME in milliseconds.
        boot: times of different boots can not be compared.
        lat_deg: WGS 84 latitude.
        lon_deg: WGS 84 longitude.
    """

    at_ms: int
    boot: int
    lat_deg: float
    lon_deg: float


def points_to_keep(points: Sequence[TrackPoint], tolerance_m: float) -> list[bool]:
    """Say of each point whether it stays.

    Both ends stay, the dropped points lie within `tolerance_m` of the remaining line, and between two points
    that stay there is never more than a minute in which there were others (D. Douglas, T. Peucker: Algorithms
    for the reduction of the number of points required to represent a digitized line, 1973).
    """
    keep = [False] * len(points)
    if not points:
        return keep
    keep[0] = keep[-1] = True
    if not math.isinf(tolerance_m):
        _keep_shape(points, tolerance_m, keep)
    last = points[0]
    for at in range(1, len(points) - 1):
        point, following = points[at], points[at + 1]
        if (
            keep[at]
            or point.boot != following.boot
            or point.boot != last.boot
            or following.at_ms - last.at_ms > MINUTE_MS
        ):
            keep[at] = True
            last = point
    return keep


def _keep_shape(points: Sequence[TrackPoint], tolerance_m: float, keep: list[bool]) -> None:
    middle = points[len(points) // 2]
    east_m = _METRES_A_DEGREE * math.cos(math.radians(middle.lat_deg))
    xs = [_turned(point.lon_deg - middle.lon_deg) * east_m for point in points]
    ys = [(point.lat_deg - middle.lat_deg) * _METRES_A_DEGREE for point in points]
    spans = [(0, len(points) - 1)]
    while spans:
        first, last = spans.pop()
        furthest, distance_m = _furthest(xs, ys, first, last)
        if distance_m > tolerance_m:
            keep[furthest] = True
            spans.append((first, furthest))
            spans.append((furthest, last))


def _turned(degrees: float) -> float:
    """A difference of longitudes the short way round."""
    return (degrees + 180.0) % 360.0 - 180.0


def _furthest(xs: Sequence[float], ys: Sequence[float], first: int, last: int) -> tuple[int, float]:
    """The point between `first` and `last` furthest from their segment, and its distance."""
    x0, y0 = xs[first], ys[first]
    dx, dy = xs[last] - x0, ys[last] - y0
    length2 = dx * dx + dy * dy
    furthest, most = first, -1.0
    for at in range(first + 1, last):
        px, py = xs[at] - x0, ys[at] - y0
        along = 0.0 if length2 == 0.0 else min(1.0, max(0.0, (px * dx + py * dy) / length2))
        ex, ey = px - along * dx, py - along * dy
        distance2 = ex * ex + ey * ey
        if distance2 > most:
            furthest, most = at, distance2
    return furthest, math.sqrt(max(0.0, most))
