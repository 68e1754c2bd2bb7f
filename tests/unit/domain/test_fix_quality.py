"""What the wheels say of a fix, and where they carry a unit without one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.dead_reckoning import LASTS_NS, DeadReckoning
from agent.domain.fix import Fix, FixMode
from agent.domain.fix_quality import REPEATS, FixQuality
from agent.domain.geodesy import distance_m, offset_m
from agent.domain.record import Position, PositionQuality

S = 1_000_000_000


def fix(second: float, *, lat_deg: float = 42.0, speed_mps: float = 15.0, hdop: float = 0.8) -> Fix:
    return Fix(
        utc_ms=None, lat_deg=lat_deg, lon_deg=-71.0, alt_m=None, speed_mps=speed_mps, course_deg=0.0,
        mode=FixMode.FIX_3D, satellites=9, hdop=hdop, received_boottime_ns=round(second * S),
    )  # fmt: skip


def judged(quality: FixQuality, fixes: list[Fix], wheels_mps: float | None) -> list[PositionQuality | None]:
    verdicts = []
    for one in fixes:
        if wheels_mps is not None:
            quality.speed(wheels_mps, one.received_boottime_ns)
        verdicts.append(quality.judge(one))
    return verdicts


def test_the_same_place_to_the_last_digit_while_wheels_turn_is_frozen() -> None:
    frozen = [fix(second) for second in range(6)]
    verdicts = judged(FixQuality(), frozen, 15.0)
    assert verdicts[:REPEATS] == [None] * REPEATS
    assert verdicts[REPEATS:] == [PositionQuality.FROZEN] * (6 - REPEATS)
    assert judged(FixQuality(), frozen, 0.0) == [None] * 2 + [PositionQuality.CONTRADICTED] * 4
    parked = [fix(second, speed_mps=0.0) for second in range(6)]
    assert judged(FixQuality(), parked, 0.0) == [None] * 6
    assert judged(FixQuality(), frozen, None) == [None] * 6, "nobody can tell"


def test_a_speed_at_odds_with_the_wheels_is_told_and_taken_back() -> None:
    quality = FixQuality()
    moving = [fix(second, lat_deg=42 + second * 1e-4, speed_mps=30.0) for second in range(5)]
    assert judged(quality, moving, 15.0)[2:] == [PositionQuality.CONTRADICTED] * 3
    assert judged(quality, [fix(6, lat_deg=42.001)], 15.0) == [None]


@given(st.floats(0.88, 1.12))
def test_the_scale_of_the_wheels_is_learnt_from_good_fixes_at_speed(scale: float) -> None:
    quality = FixQuality()
    fixes = [fix(second, lat_deg=42 + second * 1e-4, speed_mps=20.0) for second in range(200)]
    judged(quality, fixes, 20.0 / scale)
    assert quality.scale == pytest.approx(scale, rel=1e-6)
    poor = FixQuality()
    judged(poor, [replace(one, hdop=3.0) for one in fixes], 20.0 / scale)
    assert poor.scale == 1.0


def start(speed_mps: float = 20.0, course_deg: float | None = 90.0) -> Position:
    return Position(42.0, -71.0, None, speed_mps, course_deg, FixMode.FIX_3D, 9, 0.8)


def driven(reckoning: DeadReckoning, speeds_mps: list[float]) -> None:
    for second, speed_mps in enumerate(speeds_mps, 1):
        reckoning.speed(speed_mps, second * S)


def test_straight_on_the_estimate_goes_with_the_wheels_and_says_what_it_is() -> None:
    reckoning = DeadReckoning()
    reckoning.speed(20.0, 0)
    reckoning.fix(start(), 0, 6.0)
    driven(reckoning, [20.0] * 10)
    estimate = reckoning.estimate(10 * S)
    assert estimate is not None
    assert offset_m(42.0, -71.0, estimate.lat_deg, estimate.lon_deg)[0] == pytest.approx(200, abs=1)
    assert estimate.quality == PositionQuality.ESTIMATED
    assert (estimate.satellites, estimate.hdop, estimate.alt_m) == (None, None, None)
    later = reckoning.estimate(11 * S)
    assert later is not None
    assert (later.uncertainty_m or 0) > (estimate.uncertainty_m or 0) > 6.0


def test_there_is_none_without_a_fix_without_wheels_and_after_a_minute() -> None:
    reckoning = DeadReckoning()
    reckoning.speed(20.0, 0)
    assert reckoning.estimate(0) is None
    reckoning.fix(start(), 0, 6.0)
    assert reckoning.estimate(4 * S) is None, "the wheels are silent"
    driven(reckoning, [20.0] * 70)
    assert reckoning.estimate(60 * S) is None or LASTS_NS >= 60 * S
    assert reckoning.estimate(61 * S) is None
    silent = DeadReckoning()
    silent.speed(20.0, 0)
    silent.fix(start(), 0, 6.0)
    silent.speed(20.0, 10 * S)
    assert silent.estimate(10 * S) is None, "nobody knows how far it drove meanwhile"


@given(
    st.lists(st.floats(-0.035, 0.035), min_size=2, max_size=60),
    st.floats(8.5, 30),
    st.floats(0, 359),
)
def test_in_a_bending_tunnel_the_unit_is_within_the_radius(
    bends: list[float], speed_mps: float, course_deg: float
) -> None:
    """Bends of up to two degrees a second, to either side."""
    reckoning = DeadReckoning()
    reckoning.speed(speed_mps, 0)
    reckoning.fix(start(speed_mps, course_deg), 0, 6.0)
    east = north = 0.0
    course = math.radians(course_deg)
    first = course
    for second, bend in enumerate(bends, 1):
        course = max(first - 0.6, min(first + 0.6, course + bend))
        east += speed_mps * math.sin(course)
        north += speed_mps * math.cos(course)
        reckoning.speed(speed_mps, second * S)
        estimate = reckoning.estimate(second * S)
        assert estimate is not None
        drawn = offset_m(42.0, -71.0, estimate.lat_deg, estimate.lon_deg)
        assert math.hypot(drawn[0] - east, drawn[1] - north) <= (estimate.uncertainty_m or 0) + 1


def test_where_the_course_is_not_known_the_unit_is_somewhere_around() -> None:
    reckoning = DeadReckoning()
    reckoning.speed(3.0, 0)
    reckoning.fix(start(0.0, None), 0, 6.0)
    driven(reckoning, [3.0] * 10)
    estimate = reckoning.estimate(10 * S)
    assert estimate is not None
    assert distance_m(42.0, -71.0, estimate.lat_deg, estimate.lon_deg) == 0
    assert estimate.uncertainty_m == pytest.approx(36, abs=1)
