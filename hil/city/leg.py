"""How a unit moves along its streets: a speed for every metre, kept as exact as a function of time."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hil.city.streets import Point, Streets
from hil.drive.vehicle_motion import CREEP_MPS, RED_S, RED_SHARE, Manner

STEP_M = 12.0
"""Spacing of the points between which the acceleration is constant."""
DEFAULT_LIMIT_MPS = 30 / 3.6
"""Until the next junction, for a unit that sets out between two."""
TURN_MPS = 5.0
"""Round a corner of a junction."""
BEND_MPS = 9.0
FLOW_M = 240.0
"""Traffic changes about once a block."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a unit is and how it moves.

    Attributes:
        point: metres east and north.
        speed_mps: speed.
        course_deg: direction of travel.
        along_m: metres from the leg's beginning.
    """

    point: Point
    speed_mps: float
    course_deg: float
    along_m: float


class Leg:
    """One way along streets from standstill to standstill.

    Attributes:
        length_m: of the way.
        duration_s: from setting off to standing still.
    """

    def __init__(
        self,
        streets: Streets,
        nodes: Sequence[int],
        manner: Manner,
        rng: random.Random,
        *,
        rolling: tuple[Point, float] | None = None,
    ) -> None:
        """Lay it out.

        Args:
            streets: the graph.
            nodes: the way, each joined to the one before.
            manner: how it is driven.
            rng: traffic and lights.
            rolling: place and speed of a unit that is on its way to the first node already.
        """
        self._points: list[Point] = [streets.points[nodes[0]] if rolling is None else rolling[0]]
        self._node_at: list[tuple[int, int]] = [(0, nodes[0])]
        self._courses: list[float] = []
        limits: list[float] = []
        halts: dict[int, float] = {}
        """Index of a point to how long the unit waits there; 0 for passing at a creep."""
        slow: dict[int, float] = {}
        main_before: bool | None = None
        if rolling is not None and math.dist(rolling[0], streets.points[nodes[0]]) > 1.0:
            self._points.append(streets.points[nodes[0]])
            self._node_at = [(1, nodes[0])]
            self._courses.append(_course(*self._points))
            limits.append(DEFAULT_LIMIT_MPS)
        for a, b in pairwise(nodes):
            _, length_m, limit_mps, main = next(edge for edge in streets.edges[a] if edge[0] == b)
            here = len(self._points) - 1
            course = _course(streets.points[a], streets.points[b])
            if self._courses:
                turn = abs((course - self._courses[-1] + 180) % 360 - 180)
                if turn > 45:
                    slow[here] = TURN_MPS
                elif turn > 20:
                    slow[here] = BEND_MPS
                if main and main_before and rng.random() < RED_SHARE / 2:
                    halts[here] = 0.0 if manner.runs_reds else rng.uniform(*RED_S)
            main_before = main
            parts = max(1, round(length_m / STEP_M))
            (east, north), (east_b, north_b) = streets.points[a], streets.points[b]
            for part in range(1, parts + 1):
                share = part / parts
                self._points.append((east + (east_b - east) * share, north + (north_b - north) * share))
                self._courses.append(course)
                limits.append(limit_mps)
            self._node_at.append((len(self._points) - 1, b))
        self._courses.append(self._courses[-1] if self._courses else 0.0)
        self._lengths = [math.dist(a, b) for a, b in pairwise(self._points)]
        speeds = self._speeds(limits, halts, slow, manner, rng)
        if rolling is not None and self._lengths:
            self._go_on(speeds, rolling[1], manner)
        self._schedule(speeds, halts)

    def at(self, t_s: float) -> Moment:
        """The moment `t_s` seconds after setting off; stands at the ends before and after."""
        if not self._lengths or t_s <= 0:
            return Moment(self._points[0], 0.0, self._courses[0], 0.0)
        if t_s >= self.duration_s:
            return Moment(self._points[-1], 0.0, self._courses[-1], self.length_m)
        knot = bisect_right(self._times, t_s) - 1
        here, v0 = self._knots[knot]
        there, v1 = self._knots[knot + 1]
        if here == there:
            return Moment(self._points[here], 0.0, self._courses[here], self._starts_m[here])
        length_m, since_s = self._lengths[here], t_s - self._times[knot]
        acceleration = (v1 * v1 - v0 * v0) / (2 * length_m)
        moved_m = min((v0 + acceleration * since_s / 2) * since_s, length_m)
        share = moved_m / length_m
        (east, north), (east_b, north_b) = self._points[here], self._points[there]
        point = east + (east_b - east) * share, north + (north_b - north) * share
        speed_mps = max(v0 + acceleration * since_s, 0.0)
        return Moment(point, speed_mps, self._courses[here], self._starts_m[here] + moved_m)

    def _speeds(
        self,
        limits: Sequence[float],
        halts: dict[int, float],
        slow: dict[int, float],
        manner: Manner,
        rng: random.Random,
    ) -> list[float]:
        """The speed at each point: what limits, corners, lights and the unit's powers allow."""
        speeds = [0.0]
        along_m, flow = 0.0, rng.uniform(*manner.traffic)
        for index, limit_mps in enumerate(limits, start=1):
            along_m += self._lengths[index - 1]
            if along_m > FLOW_M:
                along_m, flow = 0.0, rng.uniform(*manner.traffic)
            allowed = limit_mps * manner.limit_factor * flow
            speeds.append(min(allowed, slow.get(index, allowed)))
        for index, wait_s in halts.items():
            speeds[index] = 0.0 if wait_s else min(speeds[index], CREEP_MPS)
        speeds[-1] = 0.0
        for index in range(len(speeds) - 2, -1, -1):
            within = math.sqrt(speeds[index + 1] ** 2 + 2 * manner.brake_mps2 * self._lengths[index])
            speeds[index] = min(speeds[index], within)
        for index in range(1, len(speeds)):
            within = math.sqrt(speeds[index - 1] ** 2 + 2 * manner.accelerate_mps2 * self._lengths[index - 1])
            speeds[index] = min(speeds[index], within)
        return speeds

    def _go_on(self, speeds: list[float], speed_mps: float, manner: Manner) -> None:
        """Begin at a speed, as far as there is room to brake for what comes."""
        speeds[0] = min(speed_mps, math.sqrt(speeds[1] ** 2 + 2 * manner.brake_mps2 * self._lengths[0]))

    def node_ahead(self, t_s: float) -> int:
        """The node that the unit comes to next."""
        here = self._knots[min(max(bisect_right(self._times, t_s) - 1, 0), len(self._knots) - 1)][0]
        at = bisect_right(self._node_at, here, key=lambda one: one[0])
        return self._node_at[min(at, len(self._node_at) - 1)][1]

    def _schedule(self, speeds: Sequence[float], halts: dict[int, float]) -> None:
        """Times at which points are reached, and left where the unit waits."""
        self._times: list[float] = []
        self._knots: list[tuple[int, float]] = []
        self._starts_m: list[float] = []
        t_s = along_m = 0.0
        for index, speed in enumerate(speeds):
            if index:
                length_m = self._lengths[index - 1]
                t_s += 2 * length_m / max(speeds[index - 1] + speed, 0.2)
                along_m += length_m
            self._starts_m.append(along_m)
            self._times.append(t_s)
            self._knots.append((index, speed))
            if halts.get(index):
                t_s += halts[index]
                self._times.append(t_s)
                self._knots.append((index, speed))
        self.length_m, self.duration_s = along_m, t_s


def _course(a: Point, b: Point) -> float:
    return math.degrees(math.atan2(b[0] - a[0], b[1] - a[1])) % 360
