"""A gyro carries the position through a bend; one that was not seen to be right is not used."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from agent.domain.dead_reckoning import DeadReckoning
from agent.domain.fix import FixMode
from agent.domain.geodesy import EARTH_RADIUS_M, distance_m
from agent.domain.record import Position, PositionQuality

S = 1_000_000_000
SPEED_MPS = 12.0


@dataclass
class Drive:
    """A vehicle that turns as it is told, ten steps a second; `says` is how its gyro counts."""

    says: float
    rest_dps: float = 0.0
    lat_deg: float = 42.36
    lon_deg: float = -71.06
    course_deg: float = 0.0
    now_ns: int = 0

    def __post_init__(self) -> None:
        self.reckoning = DeadReckoning()
        self.fixes = True

    def drive(self, seconds: float, *, clockwise_dps: float, speed_mps: float = SPEED_MPS) -> None:
        for step in range(round(seconds * 10)):
            self.now_ns += S // 10
            self.course_deg = (self.course_deg + clockwise_dps / 10) % 360
            course, way_m = math.radians(self.course_deg), speed_mps / 10
            self.lat_deg += math.degrees(way_m * math.cos(course) / EARTH_RADIUS_M)
            circle_m = EARTH_RADIUS_M * math.cos(math.radians(self.lat_deg))
            self.lon_deg += math.degrees(way_m * math.sin(course) / circle_m)
            self.reckoning.turn(-clockwise_dps * self.says + self.rest_dps, self.now_ns)
            self.reckoning.speed(speed_mps, self.now_ns)
            if self.fixes and step % 10 == 9:
                where = Position(
                    self.lat_deg, self.lon_deg, None, speed_mps, self.course_deg, FixMode.FIX_3D, 9, 0.8
                )
                self.reckoning.fix(where, self.now_ns, 5.0)

    def off(self) -> tuple[float, float]:
        """How far the estimate is off, and how far it says."""
        estimate = self.reckoning.estimate(self.now_ns)
        assert estimate is not None
        assert estimate.quality == PositionQuality.ESTIMATED
        assert estimate.uncertainty_m is not None
        away_m = distance_m(self.lat_deg, self.lon_deg, estimate.lat_deg, estimate.lon_deg)
        return away_m, estimate.uncertainty_m


def learnt(says: float, rest_dps: float = 0.0) -> Drive:
    drive = Drive(says, rest_dps)
    drive.drive(20, clockwise_dps=0, speed_mps=0)
    for clockwise_dps in (0, 6, -6, 4, 0, -5, 0):
        drive.drive(11, clockwise_dps=clockwise_dps)
    drive.fixes = False
    return drive


@pytest.mark.parametrize("rest_dps", [0.0, 1.5, -3.0])
def test_through_a_bend_in_a_tunnel_the_estimate_stays_on_the_road(rest_dps: float) -> None:
    drive = learnt(1.0, rest_dps)
    drive.drive(15, clockwise_dps=6)
    drive.drive(30, clockwise_dps=-2)
    away_m, told_m = drive.off()
    assert away_m < 30
    assert away_m <= told_m
    assert told_m < 0.35 * 45 * SPEED_MPS


@pytest.mark.parametrize("says", [-1.0, 0.0, 3.0])
def test_a_gyro_that_counts_otherwise_is_not_used(says: float) -> None:
    drive = learnt(says)
    drive.drive(20, clockwise_dps=0)
    away_m, told_m = drive.off()
    assert away_m < 15  # straight on, as without one
    assert told_m == pytest.approx(5 + 0.6 * 20 * SPEED_MPS, rel=0.05)
    drive.drive(10, clockwise_dps=5)
    away_m, told_m = drive.off()
    assert away_m <= told_m


def test_a_gyro_that_falls_silent_leaves_the_radius_to_grow_as_without_one() -> None:
    drive = learnt(1.0)
    with_gyro = learnt(1.0)
    with_gyro.drive(20, clockwise_dps=0)
    for _ in range(200):
        drive.now_ns += S // 10
        drive.reckoning.speed(SPEED_MPS, drive.now_ns)
    estimate = drive.reckoning.estimate(drive.now_ns)
    assert estimate is not None
    assert estimate.uncertainty_m is not None
    assert estimate.uncertainty_m > 1.5 * with_gyro.off()[1]


@pytest.mark.parametrize("mad_dps", [float("nan"), float("inf"), 1e300, -500.0])
def test_a_rate_that_nothing_turns_at_is_left_out(mad_dps: float) -> None:
    drive = learnt(1.0)
    drive.reckoning.turn(mad_dps, drive.now_ns + 1)
    drive.drive(15, clockwise_dps=6)
    away_m, told_m = drive.off()
    assert away_m < 20
    assert math.isfinite(told_m)
