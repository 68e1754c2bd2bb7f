"""What passed since a service, through power cuts, other instruments and vehicles that have none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.service_book import ServiceBook, ServiceItem
from agent.domain.vehicle import Signal

S = 1_000_000_000
OIL = ServiceItem("oil", 15_000_000, 500, None)
DAY_MS = 86_400_000


def drive(book: ServiceBook, *metres: float) -> None:
    for index, value in enumerate(metres):
        book.take([Signal("TraveledDistance", value, index * S)])


def test_it_counts_by_the_odometer_and_tells_once_what_is_due() -> None:
    book = ServiceBook([OIL])
    book.restore({}, 0)
    drive(book, *(80_000_000 + step * 1_000_000 for step in range(15)))
    assert book.newly_due(0) == []
    drive(book, 95_000_000)
    assert [one.item for one in book.newly_due(0)] == ["oil"]
    assert book.newly_due(0) == []
    book.done("oil", DAY_MS)
    (since,) = book.since(3 * DAY_MS)
    assert (since.distance_m, since.days, since.due) == (0, 2, False)


def test_a_power_cut_loses_nothing_where_there_is_an_odometer() -> None:
    book = ServiceBook([OIL])
    book.restore({}, 0)
    drive(book, 1000, 2000)
    kept = json.loads(json.dumps(book.remembered()))
    drive(book, 3000, 4000)  # never written
    again = ServiceBook([OIL])
    again.restore(kept, 0)
    drive(again, 5000)
    assert again.since(0)[0].distance_m == 4000


def test_another_instrument_or_a_mad_one_adds_nothing() -> None:
    book = ServiceBook([OIL])
    book.restore({}, 0)
    drive(book, 50_000_000, 7, 1007, 4e18, 4e18 + 10)
    assert book.since(0)[0].distance_m == 1000


def test_a_vehicle_without_instruments_is_counted_by_speed_and_engine() -> None:
    book = ServiceBook([OIL])
    book.restore({}, 0)
    for second in range(3601):
        book.take(
            [
                Signal("Speed", 36.0, second * S),
                Signal("Powertrain.CombustionEngine.IsRunning", True, second * S),
            ]
        )
    (since,) = book.since(0)
    assert since.distance_m == pytest.approx(36_000, rel=0.01)
    assert since.engine_h == pytest.approx(1, rel=0.01)


def test_a_service_that_is_not_configured_is_named_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="'wheels' is no service of this vehicle; there are: oil"):
        ServiceBook([OIL]).done("wheels", None)


KEYS = st.sampled_from(["distance_m", "engine_h", "odometer_m", "hours", "done", "told_due", "oil"])


@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.integers(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(KEYS, inner),
    max_leaves=12,
))  # fmt: skip
def test_a_mangled_memory_is_refused_or_taken_whole(found: Any) -> None:
    book = ServiceBook([OIL])
    try:
        book.restore(found if isinstance(found, dict) else {"done": found}, 0)
    except ValueError:
        book.restore({}, 0)
    book.take([Signal("TraveledDistance", 5, 0)])
    json.dumps(book.remembered())
    assert book.since(0)[0].item == "oil"


def test_days_count_from_when_the_time_is_known() -> None:
    book = ServiceBook([ServiceItem("check", None, None, 30)])
    book.restore({}, None)
    assert book.newly_due(None) == []
    assert book.newly_due(DAY_MS) == []
    assert book.newly_due(30 * DAY_MS) == []
    assert [one.item for one in book.newly_due(32 * DAY_MS)] == ["check"]
