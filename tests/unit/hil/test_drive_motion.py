"""Motion along a line: physics that no vehicle may break."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.drive.route import STEP_M, End, GeoPoint, Line, Stretch, distance_m
from hil.drive.vehicle_motion import EMERGENCY, NORMAL, WITH_PATIENT, Manner, Trajectory

CORNER: tuple[GeoPoint, ...] = ((42.340, -71.080), (42.344, -71.080), (42.344, -71.074))


def street(*points: GeoPoint, ends_at: End = End.NOTHING) -> Stretch:
    return Stretch("Any Street", 48, points, ends_at=ends_at)


@pytest.mark.parametrize("manner", [NORMAL, EMERGENCY, WITH_PATIENT])
def test_a_leg_begins_and_ends_standing_and_keeps_within_the_vehicle_s_powers(manner: Manner) -> None:
    trajectory = Trajectory(Line([street(*CORNER)]), manner, random.Random(1))
    moments = [trajectory.at(t / 10) for t in range(int(trajectory.duration_s * 10) + 1)]
    assert moments[0].speed_mps == 0
    assert trajectory.at(trajectory.duration_s).speed_mps == 0
    for before, after in pairwise(moments):
        assert -manner.brake_mps2 * 0.1 - 0.01 <= after.speed_mps - before.speed_mps
        assert after.speed_mps - before.speed_mps <= manner.accelerate_mps2 * 0.1 + 0.01
        assert after.along_m >= before.along_m - 1e-9
        moved_m = distance_m(before.place.point, after.place.point)
        assert moved_m <= max(before.speed_mps, after.speed_mps) * 0.1 + 0.05


def test_a_corner_is_taken_slowly() -> None:
    line = Line([street(*CORNER)])
    trajectory = Trajectory(line, NORMAL, random.Random(1))
    corner_m = distance_m(CORNER[0], CORNER[1])
    before = trajectory.at(trajectory.reaches_s(corner_m / 2)).speed_mps
    assert trajectory.at(trajectory.reaches_s(corner_m)).speed_mps < 6
    assert before > 9
    for index, curvature in enumerate(line.curvature):
        speed_mps = trajectory.at(trajectory.reaches_s(index * STEP_M)).speed_mps
        assert speed_mps**2 * curvature <= NORMAL.lateral_mps2 * 1.01


def test_a_red_light_stops_a_normal_drive_and_slows_an_emergency() -> None:
    middle = (42.342, -71.080)
    line = Line([street(CORNER[0], middle, ends_at=End.STOP), street(middle, CORNER[1])])
    light_m = line.ends_m[0] - 10
    normal = Trajectory(line, NORMAL, random.Random(1))
    stood_s = sum(normal.at(t / 10).speed_mps == 0 for t in range(1, int(normal.duration_s * 10))) / 10
    assert 1 <= stood_s <= 3.2
    emergency = Trajectory(line, EMERGENCY, random.Random(1))
    assert 0 < emergency.at(emergency.reaches_s(light_m)).speed_mps < 6


def test_the_line_follows_the_streets() -> None:
    line = Line([street(*CORNER)])
    assert line.length_m == pytest.approx(
        distance_m(CORNER[0], CORNER[1]) + distance_m(CORNER[1], CORNER[2]), rel=0.02
    )
    assert line.at(100).course_deg == pytest.approx(0, abs=0.1)
    assert line.at(line.length_m - 100).course_deg == pytest.approx(90, abs=0.1)
    assert distance_m(line.at(0).point, CORNER[0]) < STEP_M
    assert distance_m(line.at(line.length_m).point, CORNER[-1]) < 2 * STEP_M


def test_a_leg_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="no length"):
        Line([street(CORNER[0], CORNER[0])])


@settings(max_examples=40, deadline=None)
@given(
    points=st.lists(
        st.tuples(st.floats(42.33, 42.34), st.floats(-71.09, -71.08)), min_size=2, max_size=6, unique=True
    ),
    ends=st.lists(st.sampled_from(End), min_size=6, max_size=6),
    seed=st.integers(0, 1000),
)
def test_any_way_can_be_driven(points: list[GeoPoint], ends: list[End], seed: int) -> None:
    stretches = [street(a, b, ends_at=end) for (a, b), end in zip(pairwise(points), ends, strict=False)]
    try:
        line = Line(stretches)
    except ValueError:
        return
    trajectory = Trajectory(line, NORMAL, random.Random(seed))
    assert math.isfinite(trajectory.duration_s)
    assert trajectory.at(trajectory.duration_s).along_m == pytest.approx(line.length_m)
