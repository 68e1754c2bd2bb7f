"""How a vehicle moves along a line: as fast as limits, corners, lights and its own powers let it."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from hil.drive.route import STEP_M, End, Line, Place

TRAFFIC_M = 150.0
"""Traffic changes about once a block."""
CREEP_MPS = 4.0
"""At a red light with lights and siren on: look, then go (15 km/h)."""
APART = 8
"""Samples between two halts, at least: what follows closer belongs to the same junction."""
STOP_SIGN_S = (1.0, 3.0)
RED_S = (6.0, 28.0)
RED_SHARE = 0.4
"""How often a light is red on arrival."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How the driver drives. An ambulance of 5 t; the patient is not to be thrown about.

    Attributes:
        accelerate_mps2: strongest acceleration.
        brake_mps2: strongest braking.
        lateral_mps2: strongest sideways acceleration in a curve.
        limit_factor: highest speed over the speed limit.
        traffic: slowest and fastest flow of the traffic over that speed.
        runs_reds: True with lights and siren on: slows down at a red light instead of waiting.
    """

    accelerate_mps2: float
    brake_mps2: float
    lateral_mps2: float
    limit_factor: float
    traffic: tuple[float, float]
    runs_reds: bool


NORMAL = Manner(1.5, 2.0, 1.8, 1.0, (0.7, 1.0), runs_reds=False)
EMERGENCY = Manner(2.2, 3.0, 2.6, 1.3, (0.8, 1.0), runs_reds=True)
WITH_PATIENT = Manner(1.3, 1.8, 1.5, 1.15, (0.75, 1.0), runs_reds=True)


@dataclass(frozen=True, slots=True)
class Moment:
    """The state of motion at one time.

    Attributes:
        place: where on the line.
        along_m: distance from the line's beginning.
        speed_mps: speed.
        acceleration_mps2: positive when getting faster.
    """

    place: Place
    along_m: float
    speed_mps: float
    acceleration_mps2: float


class Trajectory:
    """The motion along one line from standstill to standstill: distance and speed as functions of time.

    Between two samples of the line the acceleration is constant, so every time has an exact answer and
    nothing drifts with the rate at which it is asked.

    Attributes:
        line: the line it follows.
        duration_s: from setting off to standing still.
    """

    def __init__(self, line: Line, manner: Manner, rng: random.Random) -> None:
        self.line = line
        speeds, waits_s = _allowed(line, manner, rng)
        _limit_acceleration(speeds, manner)
        self._times: list[float] = []
        """Arrival at a sample and, where the vehicle waits, departure from it, alternating with `_knots`."""
        self._knots: list[tuple[int, float]] = []
        self.duration_s = self._schedule(speeds, waits_s)

    def at(self, t_s: float) -> Moment:
        """The moment `t_s` seconds after setting off; stands at the ends before and after."""
        index = min(max(bisect_right(self._times, t_s) - 1, 0), len(self._times) - 2)
        (here, v0), (there, v1) = self._knots[index], self._knots[index + 1]
        since_s = min(max(t_s - self._times[index], 0.0), self._times[index + 1] - self._times[index])
        acceleration = (v1 * v1 - v0 * v0) / (2 * STEP_M) if there > here else 0.0
        along_m = here * STEP_M + (v0 + acceleration * since_s / 2) * since_s
        stands = t_s < 0 or t_s >= self.duration_s
        speed = 0.0 if stands else max(v0 + acceleration * since_s, 0.0)
        return Moment(self.line.at(along_m), along_m, speed, 0.0 if stands else acceleration)

    def reaches_s(self, along_m: float) -> float:
        """When the vehicle first is `along_m` metres down the line, in seconds after setting off."""
        sample = along_m / STEP_M
        for (index, _), t_s in zip(self._knots, self._times, strict=True):
            if index >= sample:
                return t_s
        return self.duration_s

    def _schedule(self, speeds: list[float], waits_s: dict[int, float]) -> float:
        t_s = 0.0
        for index, speed in enumerate(speeds):
            if index:
                t_s += 2 * STEP_M / (speeds[index - 1] + speed)
            self._times.append(t_s)
            self._knots.append((index, speed))
            if index in waits_s:
                t_s += waits_s[index]
                self._times.append(t_s)
                self._knots.append((index, speed))
        return t_s


def _allowed(line: Line, manner: Manner, rng: random.Random) -> tuple[list[float], dict[int, float]]:
    """The highest speed at each sample, and how long the vehicle waits where that is 0."""
    count = len(line.curvature)
    speeds: list[float] = []
    flow = 1.0
    for index in range(count):
        if index % round(TRAFFIC_M / STEP_M) == 0:
            flow = rng.uniform(*manner.traffic)
        stretch = line.stretches[line.stretch_at(index * STEP_M)]
        in_flow = stretch.limit_kmh / 3.6 * manner.limit_factor * flow
        in_curve = math.sqrt(manner.lateral_mps2 / max(line.curvature[index], 1e-4))
        speeds.append(max(min(in_flow, in_curve), 1.0))
    waits_s: dict[int, float] = {}
    last = 0
    for index, wait_s in _halts(line, manner, rng):
        if not last + APART < index < count - APART:
            continue
        last = index
        speeds[index] = CREEP_MPS if wait_s is None else 0.0
        if wait_s is not None:
            waits_s[index] = wait_s
    speeds[0] = speeds[-1] = 0.0
    return speeds, waits_s


def _halts(line: Line, manner: Manner, rng: random.Random) -> Iterator[tuple[int, float | None]]:
    """(sample, seconds to wait, None to pass slowly) for each light and stop sign that matters."""
    for stretch, end_m in zip(line.stretches[:-1], line.ends_m, strict=False):
        # The line is 10 m before the corner, so that the vehicle waits before the junction, not in it.
        index = max(round((end_m - 10) / STEP_M), 1)
        if stretch.ends_at is End.LIGHT and rng.random() < RED_SHARE:
            wait_s = rng.uniform(*RED_S)
            yield index, None if manner.runs_reds else wait_s
        elif stretch.ends_at is End.STOP:
            wait_s = rng.uniform(*STOP_SIGN_S)
            yield index, None if manner.runs_reds else wait_s


def _limit_acceleration(speeds: list[float], manner: Manner) -> None:
    """Lower speeds so that the vehicle can brake for what comes and does not accelerate beyond its power."""
    for index in range(len(speeds) - 2, -1, -1):
        within = math.sqrt(speeds[index + 1] ** 2 + 2 * manner.brake_mps2 * STEP_M)
        speeds[index] = min(speeds[index], within)
    for index in range(1, len(speeds)):
        within = math.sqrt(speeds[index - 1] ** 2 + 2 * manner.accelerate_mps2 * STEP_M)
        speeds[index] = min(speeds[index], within)
