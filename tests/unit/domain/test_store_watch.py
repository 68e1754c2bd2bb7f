"""Watched places: an excursion begins after its dwell, ends well inside, and knows its extreme."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.record import Excursion
from agent.domain.store_watch import StoreWatch, WatchedPlace
from agent.domain.vehicle import Signal

S = 1_000_000_000
FRIDGE = "Ambulance.DrugFridge.Temperature"
PLACE = WatchedPlace("drug_fridge", FRIDGE, low=2, high=8, dwell_ns=300 * S, hysteresis=0.5)


def feed(watch: StoreWatch, values: list[tuple[int, object]]) -> list[tuple[int, Excursion]]:
    told: list[tuple[int, Excursion]] = []
    for at_s, value in values:
        told += watch.take([Signal(FRIDGE, value, at_s * S)])  # type: ignore[arg-type]
    return told


def test_a_door_that_is_opened_for_a_moment_is_no_excursion() -> None:
    assert feed(StoreWatch([PLACE]), [(0, 5), (60, 12), (300, 12), (359, 7), (900, 5)]) == []


def test_an_excursion_has_begin_end_and_extreme() -> None:
    watch = StoreWatch([PLACE])
    ((begun_ns, opened),) = feed(watch, [(0, 5), (60, 9), (200, 11), (360, 10)])
    assert begun_ns == 60 * S
    assert (opened.open, opened.place, opened.signal, opened.extreme) == (True, "drug_fridge", FRIDGE, 11)
    assert (opened.low, opened.high, opened.duration_s) == (2, 8, 300)
    assert watch.open() == ["drug_fridge"]
    ((_, ended),) = feed(watch, [(600, 13), (700, 7.8), (900, 7.4), (1100, None), (1199, 7), (1200, 7)])
    assert (ended.open, ended.extreme, ended.duration_s) == (False, 13, 900 - 60)
    assert watch.open() == []


def test_cold_counts_like_warm_and_the_farther_one_is_told() -> None:
    ((_, opened),) = feed(StoreWatch([PLACE]), [(0, 1), (100, -4), (300, 1)])
    assert opened.extreme == -4


def test_what_is_not_known_ends_nothing() -> None:
    watch = StoreWatch([PLACE])
    feed(watch, [(0, 20), (300, 20)])
    assert feed(watch, [(400, None), (4000, None)]) == []
    assert watch.open() == ["drug_fridge"]


def test_only_the_watched_signal_is_looked_at() -> None:
    watch = StoreWatch([PLACE])
    assert watch.take([Signal("Speed", 100, at * S) for at in range(0, 1000, 10)]) == []
    assert watch.take([Signal(FRIDGE, True, at * S) for at in range(0, 1000, 10)]) == []


@given(st.lists(st.tuples(st.integers(1, 400), st.floats(-30, 40)), max_size=200))
def test_begin_and_end_take_turns_and_durations_add_up(steps: list[tuple[int, float]]) -> None:
    watch = StoreWatch([PLACE])
    at_s, expected_open, longest = 0, True, 0
    for pause_s, value in steps:
        at_s += pause_s
        for begun_ns, record in feed(watch, [(at_s, value)]):
            assert record.open == expected_open
            expected_open = not expected_open
            assert record.duration_s is not None
            longest += record.duration_s if not record.open else 0
            assert 0 <= begun_ns <= at_s * S
            assert record.extreme is not None
            assert record.extreme < 2 or record.extreme > 8
    assert longest <= at_s
