"""Places: what a file may hold, how far a point is, and when the unit came or left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.geodesy import distance_m, offset_m
from agent.domain.places import LEAVING_MARGIN_M, Place, PlaceEvent, Places, PlaceWatch, places_from_geojson

S = 1_000_000_000
LAT, LON = 42.36, -71.06
NORTH_100_M = 100 / 111_195
HOSPITAL = Place("h", "Hospital", "hospital", LAT, LON, radius_m=150.0, dwell_s=30.0)


def square(half_deg: float = 0.001) -> list[list[float]]:
    west, east, south, north = LON - half_deg, LON + half_deg, LAT - half_deg, LAT + half_deg
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": {"name": "X", **properties}}


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


def test_distances_agree_with_a_known_one_and_with_the_plane() -> None:
    # One degree of latitude on the mean sphere.
    assert distance_m(42, -71, 43, -71) == pytest.approx(111_195, abs=1)
    east, north = offset_m(LAT, LON, LAT + 0.01, LON + 0.01)
    assert (east**2 + north**2) ** 0.5 == pytest.approx(
        distance_m(LAT, LON, LAT + 0.01, LON + 0.01), rel=1e-4
    )


def test_the_short_way_over_the_date_line() -> None:
    east, _ = offset_m(0, 179.999, 0, -179.999)
    assert east == pytest.approx(222.4, abs=0.5)


def test_arrival_is_told_after_the_dwell_time_and_dated_back() -> None:
    watch = PlaceWatch(Places([HOSPITAL]))
    told = [event for second in range(31) for event in watch.take(second * S, LAT, LON)]
    assert [(event.entered, event.since_boottime_ns) for event in told] == [(True, 0)]
    assert watch.inside == (HOSPITAL,)


def test_driving_by_is_no_arrival() -> None:
    watch = PlaceWatch(Places([HOSPITAL]))
    told: list[PlaceEvent] = []
    for second in range(120):
        told += watch.take(second * S, LAT + (second - 60) * NORTH_100_M / 5, LON)
    assert told == []


def test_drift_at_the_border_neither_leaves_nor_arrives_anew() -> None:
    watch = PlaceWatch(Places([HOSPITAL]))
    border = 1.5 * NORTH_100_M
    told: list[PlaceEvent] = []
    for second in range(300):
        drift = 0.3 * NORTH_100_M * (1 if second % 2 else -1)
        told += watch.take(second * S, LAT + border + drift, LON)
    assert [event.entered for event in told] == [True]


def test_leaving_is_dated_back_to_the_first_fix_outside() -> None:
    watch = PlaceWatch(Places([HOSPITAL]))
    for second in range(40):
        watch.take(second * S, LAT, LON)
    told: list[PlaceEvent] = []
    for second in range(40, 80):
        told += watch.take(second * S, LAT + (second - 40) * 0.101 * NORTH_100_M, LON)
    (left,) = told
    assert not left.entered
    assert left.since_boottime_ns == 55 * S  # 15 times 10.1 m is the first point outside of 150 m
    assert watch.inside == ()


def test_an_area_holds_its_inside_and_not_its_corners_circle() -> None:
    places, problems = places_from_geojson(
        collection(feature({"type": "Polygon", "coordinates": [square()]}, kind="station"))
    )
    assert problems == ()
    (area,) = places
    assert area.distance_m(LAT, LON) == 0
    just_outside = LON + 0.001 + 0.0001
    assert area.distance_m(LAT, just_outside) == pytest.approx(8.2, abs=0.1)
    assert distance_m(LAT, LON, LAT, just_outside) < area.radius_m


def test_nearest_tells_the_distance_to_the_border_and_nothing_far_away() -> None:
    places = Places([HOSPITAL])
    near = places.nearest(LAT + 5 * NORTH_100_M, LON)
    assert near is not None
    assert near[1] == pytest.approx(350, abs=1)
    assert places.nearest(LAT + 1, LON) is None
    assert Places().nearest(LAT, LON) is None


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (feature(None), "geometry"),
        (feature({"type": "Point", "coordinates": [LON, 91]}), "latitude"),
        (feature({"type": "Point", "coordinates": "here"}), "longitude"),
        (feature({"type": "Point", "coordinates": [True, 1]}), "longitude"),
        (feature({"type": "Point", "coordinates": [LON, float("nan")]}), "latitude"),
        (feature({"type": "Point", "coordinates": [LON]}), "latitude"),
        (feature({"type": "LineString", "coordinates": []}), "Point or a Polygon"),
        (feature({"type": "Polygon", "coordinates": [square()[:-1]]}), "closed"),
        (feature({"type": "Polygon", "coordinates": [square(), square(0.0001)]}), "one ring"),
        (feature({"type": "Polygon", "coordinates": [[[0, 0]] * 5]}), "extent"),
        (feature({"type": "Point", "coordinates": [LON, LAT]}, kind="palace"), "kind"),
        (feature({"type": "Point", "coordinates": [LON, LAT]}, radius_m=-1), "radius_m"),
        (feature({"type": "Point", "coordinates": [LON, LAT]}, name="a\nb"), "printable"),
        (feature({"type": "Point", "coordinates": [LON, LAT]}, name=" "), "name"),
        ("nonsense", "object"),
    ],
)
def test_a_bad_feature_is_named_and_the_others_serve(bad: Any, why: str) -> None:
    good = feature({"type": "Point", "coordinates": [LON, LAT, 12.0]}, name="Good")
    places, problems = places_from_geojson(collection(bad, good))
    assert [place.id for place in places] == ["Good"]
    (problem,) = problems
    assert problem.startswith("feature 1: ")
    assert why in problem


def test_two_of_one_id_keep_the_first() -> None:
    point = {"type": "Point", "coordinates": [LON, LAT]}
    places, problems = places_from_geojson(collection(feature(point), feature(point)))
    assert len(places) == 1
    assert "twice" in problems[0]


@pytest.mark.parametrize("data", [None, [], {}, {"type": "FeatureCollection", "features": 3}])
def test_no_collection_at_all_is_an_error(data: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|list"):
        places_from_geojson(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=4))
def test_any_features_give_places_or_sentences(features: list[Any]) -> None:
    places, problems = places_from_geojson(collection(*features))
    assert len(places) + len(problems) == len(features)


@given(st.lists(st.tuples(st.integers(1, 20), st.floats(-600, 600)), max_size=60))
def test_arrivals_and_departures_alternate_however_the_unit_moves(steps: list[tuple[int, float]]) -> None:
    watch, now_s, told = PlaceWatch(Places([HOSPITAL])), 0, []
    for seconds, north_m in steps:
        now_s += seconds
        for event in watch.take(now_s * S, LAT + north_m / 111_195, LON):
            told.append(event.entered)
            assert event.since_boottime_ns <= now_s * S
            if not event.entered:
                assert abs(north_m) > 150 + LEAVING_MARGIN_M - 1
    assert told == [index % 2 == 0 for index in range(len(told))]
