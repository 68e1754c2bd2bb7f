"""Writes the streets of a call for a drive file, found on a street map."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from hil.drive.route import METRES_PER_DEGREE, End, GeoPoint, Sky, Stretch, distance_m
from hil.drive.street_map import StreetMap

TOLERANCE_M = 3.0
"""Way-points closer than this to the line between their neighbours are left out."""
LIGHTS_EVERY_M = 350.0
"""The map does not know traffic lights: main streets get one about every third block."""
MAIN_KMH = 48
LEGS = ("to_scene", "to_hospital", "to_post")


def plan_call(
    street_map: StreetMap, title: str, places: Sequence[GeoPoint], canyons: Collection[str] = ()
) -> str:
    """The `[[calls]]` block of a drive file for post, scene, hospital and, if given, the post to return to.

    Args:
        street_map: the streets.
        title: what the call is about.
        places: three or four places; each leg runs between two of them along the streets.
        canyons: names of streets between tall buildings.

    Raises:
        NoWayError: two places are not joined by streets.
    """
    lines = ["[[calls]]", f"title = {_quoted(title)}"]
    for leg, start, end in zip(LEGS, places, places[1:], strict=False):
        for stretch in _with_lights(street_map.route(start, end)):
            sky = Sky.CANYON if stretch.street in canyons else stretch.sky
            lines += ["", f"[[calls.{leg}]]", *stretch_lines(replace(stretch, sky=sky))]
    return "\n".join(lines) + "\n"


def stretch_lines(stretch: Stretch) -> Iterator[str]:
    """The keys of one stretch; those with their default value are left out."""
    yield f"street = {_quoted(stretch.street)}"
    if stretch.limit_kmh != 40:
        yield f"limit_kmh = {stretch.limit_kmh:g}"
    if stretch.sky is not Sky.OPEN:
        yield f'sky = "{stretch.sky}"'
    if stretch.ends_at is not End.NOTHING:
        yield f'ends_at = "{stretch.ends_at}"'
    if not stretch.coverage:
        yield "coverage = false"
    points = [f"[{lat:.5f}, {lon:.5f}]" for lat, lon in _simplified(stretch.points)]
    yield "points = [" + ", ".join(points) + "]"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _with_lights(stretches: Sequence[Stretch]) -> Iterator[Stretch]:
    for index, stretch in enumerate(stretches):
        following = stretches[index + 1] if index + 1 < len(stretches) else None
        *parts, last = _split(stretch)
        for part in parts:
            yield replace(part, ends_at=End.LIGHT)
        if following is None:
            yield last
        elif min(stretch.limit_kmh, following.limit_kmh) >= MAIN_KMH:
            yield replace(last, ends_at=End.LIGHT)
        else:
            yield replace(last, ends_at=End.STOP if stretch.limit_kmh < MAIN_KMH else End.NOTHING)


def _split(stretch: Stretch) -> Iterator[Stretch]:
    points: list[GeoPoint] = [stretch.points[0]]
    driven_m = 0.0
    for a, b in pairwise(stretch.points):
        driven_m += distance_m(a, b)
        points.append(b)
        if driven_m >= LIGHTS_EVERY_M and b != stretch.points[-1]:
            yield replace(stretch, points=tuple(points))
            points, driven_m = [b], 0.0
    yield replace(stretch, points=tuple(points))


def _simplified(points: Sequence[GeoPoint]) -> list[GeoPoint]:
    """Douglas-Peucker."""
    if len(points) < 3:
        return list(points)
    distances = [_off_line_m(point, points[0], points[-1]) for point in points[1:-1]]
    farthest = max(range(len(distances)), key=distances.__getitem__)
    if distances[farthest] <= TOLERANCE_M:
        return [points[0], points[-1]]
    middle = farthest + 1
    return _simplified(points[: middle + 1])[:-1] + _simplified(points[middle:])


def _off_line_m(point: GeoPoint, a: GeoPoint, b: GeoPoint) -> float:
    """Distance of `point` from the line between `a` and `b`."""
    scale = math.cos(math.radians(a[0]))
    px, py = (point[1] - a[1]) * scale, point[0] - a[0]
    bx, by = (b[1] - a[1]) * scale, b[0] - a[0]
    length = bx * bx + by * by
    part = min(max((px * bx + py * by) / length, 0.0), 1.0) if length else 0.0
    return math.hypot(px - part * bx, py - part * by) * METRES_PER_DEGREE
