"""The trail keeps its shape, and a point a minute."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.outbox.simplify import MINUTE_MS, TrackPoint, points_to_keep

BOSTON = (42.36, -71.06)


def track(steps: list[tuple[float, float]], step_ms: int = 1000) -> list[TrackPoint]:
    return [
        TrackPoint(number * step_ms, 1, BOSTON[0] + north, BOSTON[1] + east)
        for number, (north, east) in enumerate(steps)
    ]


def off_line_m(point: TrackPoint, start: TrackPoint, end: TrackPoint) -> float:
    """Distance from a point to a segment, by another way than the code's: a fine walk along the segment."""
    east = 111_195 * math.cos(math.radians(point.lat_deg))
    best = math.inf
    for step in range(401):
        part = step / 400
        lat = start.lat_deg + part * (end.lat_deg - start.lat_deg)
        lon = start.lon_deg + part * (end.lon_deg - start.lon_deg)
        best = min(best, math.hypot((point.lat_deg - lat) * 111_195, (point.lon_deg - lon) * east))
    return best


def test_a_straight_street_becomes_its_ends() -> None:
    keep = points_to_keep(track([(1e-4 * n, 0) for n in range(40)]), 5)
    assert [at for at, stays in enumerate(keep) if stays] == [0, 39]


def test_a_corner_stays() -> None:
    steps = [(1e-4 * n, 0.0) for n in range(20)] + [(19e-4, 1e-4 * n) for n in range(1, 20)]
    keep = points_to_keep(track(steps), 5)
    assert [at for at, stays in enumerate(keep) if stays] == [0, 19, 38]


def test_a_parked_vehicle_keeps_a_point_a_minute() -> None:
    points = track([(0, 0)] * 100, step_ms=10_000)
    kept = [
        point.at_ms for point, stays in zip(points, points_to_keep(points, math.inf), strict=True) if stays
    ]
    assert kept == [*range(0, 990_000, 60_000), 990_000]


def test_times_of_two_boots_are_not_compared() -> None:
    first = [TrackPoint(n * 1000, 1, *BOSTON) for n in range(100, 110)]
    second = [TrackPoint(n * 1000, 2, *BOSTON) for n in range(10)]
    keep = points_to_keep([*first, *second], math.inf)
    assert [at for at, stays in enumerate(keep) if stays] == [0, 9, 10, 19]


def test_few_points_stay() -> None:
    assert points_to_keep([], 5) == []
    assert points_to_keep(track([(0, 0)]), 5) == [True]
    assert points_to_keep(track([(0, 0), (1, 1)]), 5) == [True, True]


def test_the_date_line_is_no_leap() -> None:
    points = [
        TrackPoint(n * 1000, 1, 0.0, lon) for n, lon in enumerate([179.9998, 179.9999, -180.0, -179.9999])
    ]
    assert points_to_keep(points, 5) == [True, False, False, True]


@given(
    st.lists(st.tuples(st.floats(-0.01, 0.01), st.floats(-0.01, 0.01)), min_size=2, max_size=60),
    st.sampled_from([500, 1000, 7000, 61_000]),
    st.sampled_from([5.0, 80.0]),
)
def test_what_goes_lies_near_what_stays(
    steps: list[tuple[float, float]], step_ms: int, tolerance_m: float
) -> None:
    points = track(steps, step_ms)
    kept = [at for at, stays in enumerate(points_to_keep(points, tolerance_m)) if stays]
    for start, end in pairwise(kept):
        if end - start > 1:
            assert points[end].at_ms - points[start].at_ms <= MINUTE_MS
        for between in range(start + 1, end):
            # Points a minute apart split segments, which may move the line by at most the tolerance again.
            assert off_line_m(points[between], points[start], points[end]) <= 2 * tolerance_m + 1
