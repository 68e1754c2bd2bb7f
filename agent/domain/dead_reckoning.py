"""Where a unit may be without a fix: straight on from the last one, by the wheels, for a minute at most."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from agent.domain.geodesy import EARTH_RADIUS_M
from agent.domain.record import Position, PositionQuality

LASTS_NS = 60 * 1_000_000_000
"""Beyond, the circle in which the unit is says nothing any more."""
SPEED_FRESH_NS = 3 * 1_000_000_000
TURNS_BELOW_MPS = 8.0
"""Slower than this a vehicle may turn at a junction; faster it follows its road."""
BEND = 0.6
"""How far off the straight way a road leads, for each metre: it bends by 35 degrees at once."""
TURN = 1.5
"""The same once it may have turned: by 90 degrees, and a bit back."""


@dataclass(frozen=True, slots=True)
class _Start:
    position: Position
    at_ns: int
    uncertainty_m: float


class DeadReckoning:
    """Carries the last fix on. Fed in the order of boot time; not thread-safe.

    There is no gyro: which way the unit turned is not known, so that the radius grows with the way, and much
    faster once it was slow enough to turn.
    """

    def __init__(self) -> None:
        self._start: _Start | None = None
        self._speed: tuple[float, int] | None = None
        self._way_m = 0.0
        self._off_m = 0.0
        self._turned = False
        self._broken = False

    def fix(self, position: Position, at_ns: int, uncertainty_m: float) -> None:
        """Take a good fix: everything begins anew there."""
        self._start = _Start(position, at_ns, uncertainty_m)
        self._way_m = self._off_m = 0.0
        self._turned = (position.speed_mps or 0.0) < TURNS_BELOW_MPS
        self._broken = False

    def speed(self, speed_mps: float, at_ns: int) -> None:
        """Take the wheels' speed."""
        before, self._speed = self._speed, (abs(speed_mps), at_ns)
        if before is None or self._start is None or at_ns <= self._start.at_ns:
            return
        began_ns = max(before[1], self._start.at_ns)
        if at_ns - began_ns > SPEED_FRESH_NS:
            self._broken = True  # nobody knows how far it drove meanwhile
        self._drive((before[0] + abs(speed_mps)) / 2, at_ns - began_ns)

    def estimate(self, now_ns: int) -> Position | None:
        """Where the unit may be; None without a fix in the last minute or without fresh wheels."""
        start, speed = self._start, self._speed
        if start is None or speed is None or self._broken or now_ns - start.at_ns > LASTS_NS:
            return None
        if now_ns - speed[1] > SPEED_FRESH_NS:
            return None
        ahead_m = speed[0] * max(0, now_ns - max(speed[1], start.at_ns)) / 1e9
        way_m, off_m = self._way_m + ahead_m, self._off_m + ahead_m * (TURN if self._turned else BEND)
        course_deg = start.position.course_deg
        if course_deg is None:
            # Which way it left is not known at all: around where it was.
            return _estimated(start.position, speed[0], start.uncertainty_m + way_m)
        course = math.radians(course_deg)
        lat_deg = start.position.lat_deg + math.degrees(way_m * math.cos(course) / EARTH_RADIUS_M)
        circle_m = EARTH_RADIUS_M * max(math.cos(math.radians(start.position.lat_deg)), 1e-6)
        lon_deg = start.position.lon_deg + math.degrees(way_m * math.sin(course) / circle_m)
        place = replace(start.position, lat_deg=lat_deg, lon_deg=(lon_deg + 180.0) % 360.0 - 180.0)
        return _estimated(place, speed[0], start.uncertainty_m + off_m)

    def _drive(self, speed_mps: float, passed_ns: int) -> None:
        step_m = speed_mps * passed_ns / 1e9
        self._turned = self._turned or 0 < speed_mps < TURNS_BELOW_MPS
        self._way_m += step_m
        self._off_m += step_m * (TURN if self._turned else BEND)


def _estimated(position: Position, speed_mps: float, uncertainty_m: float) -> Position:
    return replace(
        position,
        alt_m=None,
        speed_mps=speed_mps,
        satellites=None,
        hdop=None,
        quality=PositionQuality.ESTIMATED,
        uncertainty_m=uncertainty_m,
    )
