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
COURSE_ABOVE_MPS = 4.0
"""Slower the course of a fix is noise to a gyro."""
GYRO_FRESH_NS = 1_500_000_000
"""A bus repeats each second what does not change."""
FASTEST_TURN_DPS = 200.0
BIAS_SHARE = 0.05
BLOCK_NS = 10 * 1_000_000_000
AGREES_DEG, AGREES_SHARE = 8.0, 0.25
"""So far a gyro and the courses of fixes may differ over a block."""
TELLING_DEG = 20.0
"""A block with less of a turn tells nothing of which way it counts."""
AGREED_ENOUGH, AGREED_MOST = 2, 5
GYRO_OFF, GYRO_DRIFT_PER_S = 0.1, 0.006
"""Metres off for each metre with a gyro: by its scale, and as its rest wanders by a third of a degree in a
second."""


@dataclass(frozen=True, slots=True)
class _Start:
    position: Position
    at_ns: int
    uncertainty_m: float


class Gyro:
    """Which way the unit turned, by its rate of turn. Believed only once it agreed with the fixes.

    Where it is mounted, which way it counts and how far it is off at rest nobody has to say: its rest is
    learnt while the wheels stand, and one that does not turn as the fixes do is not used.
    """

    def __init__(self) -> None:
        self._rate: tuple[float, int] | None = None
        self._bias_dps = 0.0
        self._block: tuple[float, int] | None = None
        self._block_deg = 0.0
        self._agreed = 0
        self.turned_deg = 0.0
        """Clockwise since the last fix, as courses count."""

    def rate(self, rate_dps: float, at_ns: int, *, stands: bool) -> None:
        """Take a rate of turn, counter-clockwise as VSS has it."""
        before, self._rate = self._rate, (rate_dps, at_ns)
        if before is None or not 0 < at_ns - before[1] <= GYRO_FRESH_NS:
            return
        if stands:
            self._bias_dps += (rate_dps - self._bias_dps) * BIAS_SHARE
            return
        turned_deg = -((before[0] + rate_dps) / 2 - self._bias_dps) * (at_ns - before[1]) / 1e9
        self.turned_deg += turned_deg
        self._block_deg += turned_deg

    def fix(self, course_deg: float | None, at_ns: int) -> None:
        """Take the course of a good fix, None where it says none or is too slow to have one."""
        self.turned_deg = 0.0
        if course_deg is None:
            self._block = None
            return
        if self._block is None:
            self._block, self._block_deg = (course_deg, at_ns), 0.0
            return
        if at_ns - self._block[1] < BLOCK_NS:
            return
        actual_deg = (course_deg - self._block[0] + 180.0) % 360.0 - 180.0
        off_deg = abs((self._block_deg - actual_deg + 180.0) % 360.0 - 180.0)
        if off_deg > AGREES_DEG + AGREES_SHARE * abs(actual_deg):
            self._agreed = 0
        elif abs(actual_deg) >= TELLING_DEG:
            self._agreed = min(self._agreed + 1, AGREED_MOST)
        self._block, self._block_deg = (course_deg, at_ns), 0.0

    @property
    def is_right(self) -> bool:
        """True once it was seen to turn as the fixes do."""
        return self._agreed >= AGREED_ENOUGH

    def serves(self, now_ns: int) -> bool:
        """True while it is heard, too."""
        heard = self._rate is not None and 0 <= now_ns - self._rate[1] <= GYRO_FRESH_NS
        return heard and self.is_right


class DeadReckoning:
    """Carries the last fix on. Fed in the order of boot time; not thread-safe.

    Without a gyro it is not known which way the unit turned, so that the radius grows with the way, and much
    faster once it was slow enough to turn.
    """

    def __init__(self) -> None:
        self._start: _Start | None = None
        self._speed: tuple[float, int] | None = None
        self._gyro = Gyro()
        self._north_m = self._east_m = 0.0
        self._way_m = 0.0
        self._off_m = 0.0
        self._turned = False
        self._broken = False

    def fix(self, position: Position, at_ns: int, uncertainty_m: float) -> None:
        """Take a good fix: everything begins anew there."""
        self._start = _Start(position, at_ns, uncertainty_m)
        self._way_m = self._off_m = self._north_m = self._east_m = 0.0
        self._turned = (position.speed_mps or 0.0) < TURNS_BELOW_MPS
        self._broken = False
        quick = (position.speed_mps or 0.0) >= COURSE_ABOVE_MPS
        self._gyro.fix(position.course_deg if quick else None, at_ns)

    def turn(self, rate_dps: float, at_ns: int) -> None:
        """Take a rate of turn in degrees a second, counter-clockwise."""
        if abs(rate_dps) <= FASTEST_TURN_DPS:
            self._gyro.rate(rate_dps, at_ns, stands=self._speed is not None and self._speed[0] == 0)

    def speed(self, speed_mps: float, at_ns: int) -> None:
        """Take the wheels' speed."""
        before, self._speed = self._speed, (abs(speed_mps), at_ns)
        if before is None or self._start is None or at_ns <= self._start.at_ns:
            return
        began_ns = max(before[1], self._start.at_ns)
        if at_ns - began_ns > SPEED_FRESH_NS:
            self._broken = True  # nobody knows how far it drove meanwhile
        self._drive((before[0] + abs(speed_mps)) / 2, at_ns - began_ns, self._start, at_ns)

    def estimate(self, now_ns: int) -> Position | None:
        """Where the unit may be; None without a fix in the last minute or without fresh wheels."""
        start, speed = self._start, self._speed
        if start is None or speed is None or self._broken or now_ns - start.at_ns > LASTS_NS:
            return None
        if now_ns - speed[1] > SPEED_FRESH_NS:
            return None
        ahead_m = speed[0] * max(0, now_ns - max(speed[1], start.at_ns)) / 1e9
        course_deg = self._course_deg(start)
        if course_deg is None:
            # Which way it left is not known at all: around where it was.
            return _estimated(start.position, speed[0], None, start.uncertainty_m + self._way_m + ahead_m)
        course = math.radians(course_deg)
        north_m = self._north_m + ahead_m * math.cos(course)
        east_m = self._east_m + ahead_m * math.sin(course)
        off_m = self._off_m + ahead_m * self._share_off(start, now_ns)
        lat_deg = start.position.lat_deg + math.degrees(north_m / EARTH_RADIUS_M)
        circle_m = EARTH_RADIUS_M * max(math.cos(math.radians(start.position.lat_deg)), 1e-6)
        lon_deg = start.position.lon_deg + math.degrees(east_m / circle_m)
        place = replace(start.position, lat_deg=lat_deg, lon_deg=(lon_deg + 180.0) % 360.0 - 180.0)
        return _estimated(place, speed[0], course_deg, start.uncertainty_m + off_m)

    def _course_deg(self, start: _Start) -> float | None:
        course_deg = start.position.course_deg
        if course_deg is None or not self._gyro.is_right:
            return course_deg
        return (course_deg + self._gyro.turned_deg) % 360.0

    def _share_off(self, start: _Start, now_ns: int) -> float:
        """Metres off for each metre driven at this moment."""
        blind = TURN if self._turned else BEND
        if not self._gyro.serves(now_ns):
            return blind
        return min(blind, GYRO_OFF + GYRO_DRIFT_PER_S * (now_ns - start.at_ns) / 1e9)

    def _drive(self, speed_mps: float, passed_ns: int, start: _Start, now_ns: int) -> None:
        step_m = speed_mps * passed_ns / 1e9
        self._turned = self._turned or 0 < speed_mps < TURNS_BELOW_MPS
        self._way_m += step_m
        self._off_m += step_m * self._share_off(start, now_ns)
        if (course_deg := self._course_deg(start)) is not None:
            self._north_m += step_m * math.cos(math.radians(course_deg))
            self._east_m += step_m * math.sin(math.radians(course_deg))


def _estimated(
    position: Position, speed_mps: float, course_deg: float | None, uncertainty_m: float
) -> Position:
    return replace(
        position,
        course_deg=course_deg,
        alt_m=None,
        speed_mps=speed_mps,
        satellites=None,
        hdop=None,
        quality=PositionQuality.ESTIMATED,
        uncertainty_m=uncertainty_m,
    )
