"""The way of one leg: streets as drawn on the map, and the smooth line a vehicle takes along them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

GeoPoint = tuple[float, float]
"""WGS 84 latitude and longitude in degrees, north and east positive."""

METRES_PER_DEGREE = 111_320.0
"""Of latitude, near enough for a city (the ellipsoid makes it 111.1 km at 42° north)."""
STEP_M = 2.0
"""Spacing of the line's samples."""
CORNER_M = 8.0
"""How far before and after a corner the steering begins and ends: half the width of a junction."""


class Sky(StrEnum):
    """What the receiver's antenna sees."""

    OPEN = "open"
    CANYON = "canyon"
    """Tall buildings: fewer satellites, reflections."""
    TUNNEL = "tunnel"
    """Nothing at all."""


class End(StrEnum):
    """What waits at the end of a stretch."""

    NOTHING = ""
    LIGHT = "light"
    """A traffic light, red or green as chance has it."""
    STOP = "stop"
    """A stop sign."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a leg along one street.

    Attributes:
        street: its name.
        limit_kmh: speed limit.
        points: from its beginning to its end, at least two; begins where the stretch before it ends.
        sky: what the receiver sees along it.
        ends_at: what waits at its end.
        coverage: False where the radio network does not reach.
    """

    street: str
    limit_kmh: float
    points: tuple[GeoPoint, ...]
    sky: Sky = Sky.OPEN
    ends_at: End = End.NOTHING
    coverage: bool = True


def distance_m(a: GeoPoint, b: GeoPoint) -> float:
    """Distance on a plane that touches the earth at `a`; good to 0.1 % within a city."""
    east_m = (b[1] - a[1]) * METRES_PER_DEGREE * math.cos(math.radians(a[0]))
    return math.hypot(east_m, (b[0] - a[0]) * METRES_PER_DEGREE)


@dataclass(frozen=True, slots=True)
class Place:
    """A point of a line.

    Attributes:
        point: where.
        course_deg: direction of travel, true north, 0 <= course < 360.
        sky: what the antenna sees there.
    """

    point: GeoPoint
    course_deg: float
    sky: Sky


class Line:
    """The smooth line along a leg's stretches, sampled every STEP_M.

    Attributes:
        stretches: the stretches it follows.
        length_m: its length.
        ends_m: where each stretch ends, measured along the line.
        curvature: 1 / radius in 1/m at each sample.
    """

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self.stretches = tuple(stretches)
        origin = stretches[0].points[0]
        self._origin = origin
        self._east_m_per_deg = METRES_PER_DEGREE * math.cos(math.radians(origin[0]))
        raw, raw_ends_m = self._drawn()
        corners = _resample(raw, STEP_M)
        smooth = _smooth(corners, round(CORNER_M / STEP_M))
        self._samples = _resample(smooth, STEP_M)
        self.length_m = (len(self._samples) - 1) * STEP_M
        scale = self.length_m / raw_ends_m[-1]
        self.ends_m = tuple(end_m * scale for end_m in raw_ends_m)
        self._courses = _courses(self._samples)
        self.curvature = _curvature(self._courses)

    def at(self, along_m: float) -> Place:
        """The place `along_m` metres from the line's beginning; the ends are held beyond them."""
        where = min(max(along_m / STEP_M, 0.0), len(self._samples) - 1.000001)
        index = int(where)
        part = where - index
        (east_a, north_a), (east_b, north_b) = self._samples[index], self._samples[index + 1]
        point = (
            self._origin[0] + (north_a + (north_b - north_a) * part) / METRES_PER_DEGREE,
            self._origin[1] + (east_a + (east_b - east_a) * part) / self._east_m_per_deg,
        )
        turn = _turn_deg(self._courses[index], self._courses[index + 1])
        return Place(
            point,
            (self._courses[index] + turn * part) % 360,
            self.stretches[self.stretch_at(along_m)].sky,
        )

    def stretch_at(self, along_m: float) -> int:
        """Index of the stretch at `along_m`."""
        return min(bisect_right(self.ends_m, along_m), len(self.stretches) - 1)

    def _drawn(self) -> tuple[list[tuple[float, float]], list[float]]:
        raw: list[tuple[float, float]] = []
        ends_m: list[float] = []
        total_m = 0.0
        for stretch in self.stretches:
            for lat, lon in stretch.points:
                point = (
                    (lon - self._origin[1]) * self._east_m_per_deg,
                    (lat - self._origin[0]) * METRES_PER_DEGREE,
                )
                if raw:
                    step_m = math.dist(raw[-1], point)
                    if step_m < 0.01:
                        continue
                    total_m += step_m
                raw.append(point)
            ends_m.append(total_m)
        if total_m < 2 * STEP_M:
            raise ValueError(f"a leg along {self.stretches[0].street} has no length")
        return raw, ends_m


def _resample(line: list[tuple[float, float]], step_m: float) -> list[tuple[float, float]]:
    """Points every `step_m` along `line`; the last is moved by less than a step."""
    samples = [line[0]]
    need_m = step_m
    for (x0, y0), (x1, y1) in pairwise(line):
        length_m = math.hypot(x1 - x0, y1 - y0)
        while need_m <= length_m:
            part = need_m / length_m
            samples.append((x0 + (x1 - x0) * part, y0 + (y1 - y0) * part))
            need_m += step_m
        need_m -= length_m
    if len(samples) == 1:
        samples.append(line[-1])
    return samples


def _smooth(line: list[tuple[float, float]], reach: int) -> list[tuple[float, float]]:
    """Each point as the mean of its neighbours within `reach`, fewer near the ends, which stay."""
    last = len(line) - 1
    smooth = []
    for index in range(len(line)):
        half = min(reach, index, last - index)
        window = line[index - half : index + half + 1]
        smooth.append((sum(x for x, _ in window) / len(window), sum(y for _, y in window) / len(window)))
    return smooth


def _courses(samples: list[tuple[float, float]]) -> list[float]:
    courses = [math.degrees(math.atan2(x1 - x0, y1 - y0)) % 360 for (x0, y0), (x1, y1) in pairwise(samples)]
    return [*courses, courses[-1]]


def _curvature(courses: list[float]) -> tuple[float, ...]:
    turns = [abs(math.radians(_turn_deg(a, b))) / STEP_M for a, b in pairwise(courses)]
    return (*turns, 0.0)


def _turn_deg(before_deg: float, after_deg: float) -> float:
    return (after_deg - before_deg + 180) % 360 - 180
