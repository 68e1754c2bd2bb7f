"""What is told at once, and what the trail keeps."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.fix import Fix, FixMode
from agent.domain.geodesy import distance_m, offset_m
from agent.domain.picture import EXTRAPOLATE_S, extrapolated
from agent.domain.record import Position
from agent.domain.reporting import Bounds, Due, LivePolicy, TrailPolicy, position_of

S = 1_000_000_000


def fix(
    second: float,
    east_m: float = 0.0,
    north_m: float = 0.0,
    *,
    speed_mps: float | None = 10.0,
    course_deg: float | None = 90.0,
    hdop: float | None = 0.6,
) -> Fix:
    return Fix(
        utc_ms=None,
        lat_deg=42.0 + math.degrees(north_m / 6_371_008.8),
        lon_deg=-71.0 + math.degrees(east_m / 6_371_008.8 / math.cos(math.radians(42.0))),
        alt_m=None,
        speed_mps=speed_mps,
        course_deg=course_deg,
        mode=FixMode.FIX_3D,
        satellites=9,
        hdop=hdop,
        received_boottime_ns=round(second * S),
    )


def placed(one: Fix) -> Position:
    position = position_of(one)
    assert position is not None
    return position


def told(policy: LivePolicy, fixes: list[Fix]) -> list[tuple[float, Due]]:
    due = [(one, policy.decide(one, placed(one), one.received_boottime_ns)) for one in fixes]
    return [(one.received_boottime_ns / S, why) for one, why in due if why is not None]


def straight(seconds: int, speed_mps: float = 10.0) -> list[Fix]:
    return [fix(second, speed_mps * second, speed_mps=speed_mps) for second in range(seconds)]


def test_straight_on_dispatch_draws_the_unit_itself() -> None:
    assert told(LivePolicy(Bounds()), straight(35)) == [
        (0, Due.FIRST), (10, Due.AGE), (20, Due.AGE), (30, Due.AGE)
    ]  # fmt: skip


def test_a_parked_unit_is_told_once_a_minute_and_on_an_incident_every_ten_seconds() -> None:
    parked = [fix(second, speed_mps=0.1, course_deg=None) for second in range(125)]
    assert told(LivePolicy(Bounds()), parked) == [(0, Due.FIRST), (60, Due.AGE), (120, Due.AGE)]
    policy = LivePolicy(Bounds())
    policy.on_incident = True
    assert [second for second, _ in told(policy, parked)] == list(range(0, 125, 10))


def test_start_stop_turn_and_request_are_told_at_once() -> None:
    policy = LivePolicy(Bounds(max_error_m=500))
    assert told(policy, [fix(0, speed_mps=0.1, course_deg=None), fix(1, speed_mps=0.9)])[1] == (1, Due.MOTION)
    assert told(policy, [fix(2, 5, speed_mps=9)]) == []
    assert told(policy, [fix(3, 12, speed_mps=0.1)]) == [(3, Due.MOTION)]
    turning = LivePolicy(Bounds(max_error_m=500))
    bend = [fix(second, course_deg=(340 + 10 * second) % 360) for second in range(8)]
    assert told(turning, bend) == [(0, Due.FIRST), (5, Due.HEADING)]
    turning.request()
    assert told(turning, [fix(8, course_deg=60)]) == [(8, Due.REQUESTED)]
    turning.lost()
    assert told(turning, [fix(9, course_deg=60)]) == [(9, Due.FIRST)]


@given(
    st.lists(
        st.tuples(st.floats(-4, 4), st.floats(-0.4, 0.4)),  # acceleration, and turn in radians, each second
        min_size=5,
        max_size=120,
    ),
    st.floats(15, 60),
    st.sampled_from([0.5, 1.0]),
)
def test_between_two_fixes_the_picture_stays_within_the_bound(
    drive: list[tuple[float, float]], max_error_m: float, hdop: float
) -> None:
    """Of a vehicle that accelerates and turns as ambulances do, drawn at dispatch a second late."""
    east_m = north_m = course = 0.0
    speed_mps = 10.0
    policy = LivePolicy(Bounds(max_error_m=max_error_m, max_age_s=10))
    reports: list[tuple[float, Position]] = []
    for second, (acceleration, turn) in enumerate(drive):
        one = fix(
            second, east_m, north_m, speed_mps=speed_mps, course_deg=math.degrees(course) % 360, hdop=hdop
        )
        if policy.decide(one, placed(one), second * S) is not None:
            reports.append((second, placed(one)))
        speed_mps = min(40.0, max(0.0, speed_mps + acceleration))
        # A turn of more than 4 m/s2 would slide.
        course += max(-4 / max(speed_mps, 1), min(4 / max(speed_mps, 1), turn))
        east_m += speed_mps * math.sin(course)
        north_m += speed_mps * math.cos(course)
        for part in (0.25, 0.5, 0.75, 1.0):
            seen = [one for one in reports if one[0] <= second + part - 0.9]
            if not seen:
                continue
            at_s, position = seen[-1]
            # Where it is between the fixes, near enough: on the way from one to the next.
            true_east = one_between(one.lon_deg, east_m, part)
            lat_deg, lon_deg = extrapolated(position, second + part - at_s)
            drawn = offset_m(42.0, -71.0, lat_deg, lon_deg)
            true_north = one_between_north(one.lat_deg, north_m, part)
            assert math.hypot(drawn[0] - true_east, drawn[1] - true_north) <= max_error_m + 1


def one_between(lon_deg: float | None, east_m: float, part: float) -> float:
    before_m = offset_m(42.0, -71.0, 42.0, lon_deg or 0.0)[0]
    return before_m + (east_m - before_m) * part


def one_between_north(lat_deg: float | None, north_m: float, part: float) -> float:
    before_m = offset_m(42.0, -71.0, lat_deg or 0.0, -71.0)[1]
    return before_m + (north_m - before_m) * part


def test_a_picture_that_is_not_renewed_stops_somewhere() -> None:
    position = placed(fix(0))
    assert extrapolated(position, EXTRAPOLATE_S) == extrapolated(position, 3600)
    assert extrapolated(replace(position, course_deg=None), 10) == (position.lat_deg, position.lon_deg)
    assert extrapolated(replace(position, speed_mps=0.3), 10) == (position.lat_deg, position.lon_deg)
    assert extrapolated(position, -5) == pytest.approx((position.lat_deg, position.lon_deg))


def trail_of(fixes: list[Fix], tolerance_m: float = 5.0) -> list[Fix]:
    policy: TrailPolicy[Fix] = TrailPolicy(
        tolerance_m=tolerance_m, moving_interval_s=1, stationary_interval_s=60, moving_above_mps=0.7
    )
    kept = []
    for one in fixes:
        kept += policy.take(placed(one), one.received_boottime_ns, one)
    return kept + policy.flush()


def test_the_trail_of_a_straight_way_is_a_point_every_ten_seconds() -> None:
    assert [one.received_boottime_ns // S for one in trail_of(straight(35))] == [0, 10, 20, 30, 34]


def test_the_trail_of_a_parked_unit_is_a_point_a_minute() -> None:
    parked = [fix(second, speed_mps=0.1) for second in range(130)]
    assert [one.received_boottime_ns // S for one in trail_of(parked)] == [0, 60, 120]


def test_what_an_event_refers_to_stays() -> None:
    policy: TrailPolicy[int] = TrailPolicy(
        tolerance_m=5, moving_interval_s=1, stationary_interval_s=60, moving_above_mps=0.7
    )
    kept = [
        number
        for number, one in enumerate(straight(4))
        for number in policy.take(placed(one), one.received_boottime_ns, number)
    ]
    assert kept == [0]
    assert policy.flush() == [3]
    assert policy.flush() == []


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(-0.5, 0.5)), min_size=2, max_size=80),
    st.floats(1, 30),
)
def test_what_is_left_out_of_the_trail_lies_within_the_tolerance(
    drive: list[tuple[float, float]], tolerance_m: float
) -> None:
    east_m = north_m = course = 0.0
    fixes = []
    for second, (speed_mps, turn) in enumerate(drive):
        course += turn
        east_m += speed_mps * math.sin(course)
        north_m += speed_mps * math.cos(course)
        fixes.append(fix(second, east_m, north_m, speed_mps=max(1.0, speed_mps)))
    kept = trail_of(fixes, tolerance_m)
    assert kept[0] is fixes[0]
    assert kept[-1] is fixes[-1]
    times = [one.received_boottime_ns for one in kept]
    assert times == sorted(set(times))
    for before, after in pairwise(kept):
        for one in fixes:
            if before.received_boottime_ns < one.received_boottime_ns < after.received_boottime_ns:
                share = (one.received_boottime_ns - before.received_boottime_ns) / (
                    after.received_boottime_ns - before.received_boottime_ns
                )
                a, b, c = placed(before), placed(after), placed(one)
                lat_deg = a.lat_deg + (b.lat_deg - a.lat_deg) * share
                lon_deg = a.lon_deg + (b.lon_deg - a.lon_deg) * share
                assert distance_m(lat_deg, lon_deg, c.lat_deg, c.lon_deg) <= tolerance_m + 0.01


def test_a_fix_without_a_position_has_none() -> None:
    assert position_of(replace(fix(0), lat_deg=None, lon_deg=None, mode=FixMode.NONE)) is None
