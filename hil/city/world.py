"""What a city's day is made of: posts, hospitals, coverage, calls and shifts, drawn from a seed.

Sources: that calls follow a sine over the day with its peak in mid-afternoon is what 311,848,450 records of
the US national information system show (Helander, Formica, Bergen-Cico: The Daily Patterns of Emergency
Medical Events, 2023). The depth of the sine, the share of the centre, and every duration are assumed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hil.city.streets import Point, Streets
from hil.drive.route import Sky

START_UTC_MS = 1_773_468_000_000
"""2026-03-14 06:00 UTC, an ordinary Saturday; hours of the day are UTC's."""
START_HOUR = 6
DAY_S = 86_400
PEAK_HOUR = 15.5
SWING = 0.5
"""Of the sine: at its trough there are a third of the calls that there are at its peak."""
CENTRE_SHARE = 0.45
"""Calls out of the centre; the others are anywhere."""
CENTRE_SIGMA_M = 1_300.0
TRANSPORTED = 0.72
PRIORITIES = (("1", 0.35), ("2", 0.40), ("3", 0.25))
CANYON_M = 900.0
"""Tall buildings stand within this of the centre."""
HOLES = 6
HOLE_M = (250.0, 700.0)
STORM_SHARE = 0.25
ALL_DAY = 0.5
"""Units that are on the road day and night; the others work twelve hours."""
SHIFT_S = 12 * 3600


@dataclass(frozen=True, slots=True)
class Spot:
    """A post or a hospital.

    Attributes:
        id: as in the places file.
        kind: "post" or "hospital".
        node: of the streets.
    """

    id: str
    kind: str
    node: int


@dataclass(frozen=True, slots=True)
class Hole:
    """A circle without radio coverage."""

    middle: Point
    radius_m: float


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the telephone tells it.

    Attributes:
        incident: its number.
        at_s: when the telephone rings, in seconds of the simulation.
        node: where.
        priority: "1" to "3".
        transported: whether there will be a patient to take to a hospital.
    """

    incident: str
    at_s: float
    node: int
    priority: str
    transported: bool


@dataclass(frozen=True, slots=True)
class Duty:
    """When a unit is on the road: from and to in seconds of the simulation."""

    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class World:
    """Everything about the city that is so before anybody acts.

    Attributes:
        seed: it was drawn with.
        duration_s: of the simulation.
        streets: of the city.
        centre: of the city.
        posts: where units wait.
        hospitals: where patients go.
        holes: in the coverage.
        calls: in the order of time.
        homes: post of each unit, an index.
        duties: of each unit.
    """

    seed: int
    duration_s: int
    streets: Streets
    centre: Point
    posts: tuple[Spot, ...]
    hospitals: tuple[Spot, ...]
    holes: tuple[Hole, ...]
    calls: tuple[Call, ...]
    homes: tuple[int, ...]
    duties: tuple[Duty, ...]

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self.duties)

    def covered(self, point: Point) -> bool:
        """Whether the radio network reaches a place."""
        return all(math.dist(hole.middle, point) > hole.radius_m for hole in self.holes)

    def sky(self, point: Point) -> Sky:
        """What an antenna sees at a place."""
        return Sky.CANYON if math.dist(self.centre, point) < CANYON_M else Sky.OPEN

    def nearest_hospital(self, node: int) -> Spot:
        """As the crow flies."""
        points = self.streets.points
        return min(self.hospitals, key=lambda one: math.dist(points[one.node], points[node]))

    def places(self, hospital_radius_m: float = 150.0) -> dict[str, Any]:
        """Posts and hospitals as the places file of a vehicle."""
        features = []
        for spot in (*self.posts, *self.hospitals):
            lat, lon = self.streets.lat_lon(self.streets.points[spot.node])
            radius_m = hospital_radius_m if spot.kind == "hospital" else 100.0
            features.append(
                {
                    "type": "Feature",
                    "properties": {"id": spot.id, "name": spot.id, "kind": spot.kind, "radius_m": radius_m},
                    "geometry": {"type": "Point", "coordinates": [lon, lat]},
                }
            )
        return {"type": "FeatureCollection", "features": features}


def unit_name(index: int) -> str:
    """What the unit of an index is called."""
    return f"M{index + 1:02d}"


def draw_world(streets: Streets, *, units: int, calls: int, hours: float, seed: int) -> World:
    """Draw a day. The same arguments give the same day."""
    rng = random.Random(f"{seed}/world")
    centre = streets.width_m * 0.48, streets.height_m * 0.45
    hospitals = _spread(streets, max(2, min(5, units // 5)), rng, "hospital")
    posts = _spread(streets, max(2, units * 2 // 3), rng, "post")
    duration_s = round(hours * 3600)
    homes = tuple(index % len(posts) for index in range(units))
    return World(
        seed=seed,
        duration_s=duration_s,
        streets=streets,
        centre=centre,
        posts=posts,
        hospitals=hospitals,
        holes=tuple(_holes(streets, [streets.points[post.node] for post in posts], rng)),
        calls=_calls(streets, centre, calls, duration_s, rng),
        homes=homes,
        duties=tuple(_duty(index, units, duration_s) for index in range(units)),
    )


def rate_at(at_s: float) -> float:
    """Calls at a time of the simulation over the mean of the day."""
    hour = START_HOUR + at_s / 3600
    return 1 + SWING * math.cos(2 * math.pi * (hour - PEAK_HOUR) / 24)


def _duty(index: int, units: int, duration_s: int) -> Duty:
    """Half of the units all day, the others twelve hours from the morning or from noon."""
    if index < math.ceil(units * ALL_DAY) or duration_s < SHIFT_S:
        return Duty(0, duration_s)
    start_s = (1 if index % 2 else 5) * 3600
    return Duty(start_s, min(start_s + SHIFT_S, duration_s))


def _spread(streets: Streets, count: int, rng: random.Random, kind: str) -> tuple[Spot, ...]:
    """Nodes that lie far from each other: of some drawn ones always the farthest from those there are."""
    nodes = [rng.randrange(len(streets.points))]
    while len(nodes) < count:
        drawn = [rng.randrange(len(streets.points)) for _ in range(12)]
        nodes.append(
            max(drawn, key=lambda one: min(math.dist(streets.points[one], streets.points[n]) for n in nodes))
        )
    return tuple(Spot(f"{kind}-{number + 1}", kind, node) for number, node in enumerate(nodes))


def _holes(streets: Streets, posts: Sequence[Point], rng: random.Random) -> Sequence[Hole]:
    """Anywhere but at a post: where units wait, somebody saw to it that they can be reached."""
    holes: list[Hole] = []
    while len(holes) < HOLES:
        middle = rng.uniform(0, streets.width_m), rng.uniform(0, streets.height_m)
        hole = Hole(middle, rng.uniform(*HOLE_M))
        if all(math.dist(middle, post) > hole.radius_m + 50 for post in posts):
            holes.append(hole)
        elif rng.random() < 0.01:
            break  # a city full of posts has fewer
    return holes


def _calls(
    streets: Streets, centre: Point, count: int, duration_s: int, rng: random.Random
) -> tuple[Call, ...]:
    """As many as asked for, their times by the day's curve; the last ones leave time to be answered."""
    times: list[float] = []
    last_s = max(duration_s - 600, duration_s / 2)
    while len(times) < count:
        at_s = rng.uniform(90, last_s)
        if rng.uniform(0, 1 + SWING) < rate_at(at_s):
            times.append(at_s)
    calls = []
    for number, at_s in enumerate(sorted(times), start=1):
        place = rng.uniform(0, streets.width_m), rng.uniform(0, streets.height_m)
        if rng.random() < CENTRE_SHARE:
            place = rng.gauss(centre[0], CENTRE_SIGMA_M), rng.gauss(centre[1], CENTRE_SIGMA_M)
        place = min(max(place[0], 0.0), streets.width_m), min(max(place[1], 0.0), streets.height_m)
        priority = rng.choices([one for one, _ in PRIORITIES], [share for _, share in PRIORITIES])[0]
        calls.append(
            Call(f"26-{number:05d}", at_s, streets.nearest(place), priority, rng.random() < TRANSPORTED)
        )
    return tuple(calls)
