"""A reason that flaps is told steadily, its flaps are counted, and none is told that is not so for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.steady_health import (
    BLIPS_TOLD,
    FIRST_HOLD_NS,
    FORGET_NS,
    LONGEST_HOLD_NS,
    RECORD_EVERY_NS,
    RECORDS_AT_ONCE,
    HealthRecordBudget,
    SteadyHealth,
)

S = 1_000_000_000
LOST, FULL = HealthReason.GNSS_LOST, HealthReason.STORE_FULL


class Watched:
    """A board and what is told of it."""

    def __init__(self) -> None:
        self.board = HealthBoard()
        self.steady = SteadyHealth()
        self.now_ns = 0

    def look(self, after_s: float = 0.0) -> set[HealthReason]:
        self.now_ns += round(after_s * S)
        return set(self.steady.look(self.board.reasons(), self.board.raises(), self.now_ns))

    def flap(self, times: int = 1) -> None:
        for _ in range(times):
            self.board.raise_(LOST)
            self.board.clear(LOST)


def test_the_first_time_a_reason_and_its_end_are_told_at_once() -> None:
    trial = Watched()
    trial.board.raise_(LOST)
    assert trial.look() == {LOST}
    trial.board.clear(LOST)
    assert trial.look(0.2) == set()
    assert trial.steady.flaps() == {}


def test_a_reason_that_came_back_must_stay_away_longer_each_time() -> None:
    trial = Watched()
    trial.board.raise_(LOST)
    trial.look()
    trial.board.clear(LOST)
    trial.look(30)
    for returned, hold_s in enumerate((5, 10, 20, 40, 80, 160, 300, 300), start=1):
        trial.board.raise_(LOST)
        assert trial.look(1) == {LOST}, "a fault is never told late"
        trial.board.clear(LOST)
        assert trial.look(1) == {LOST}
        assert trial.look(hold_s - 1) == {LOST}
        assert trial.look(1) == set()
        assert trial.steady.flaps() == {LOST: returned}


def test_a_burst_of_flaps_is_counted_and_holds_the_reason_for_seconds_only() -> None:
    trial = Watched()
    trial.board.raise_(LOST)
    trial.look()
    trial.board.clear(LOST)
    for _ in range(10):
        trial.flap(100)
        assert trial.look(0.2) == {LOST}
    assert trial.steady.flaps() == {LOST: 1000}
    assert trial.look(4) == {LOST}
    assert trial.look(2) == set()


def test_a_reason_that_is_quiet_for_ten_minutes_comes_as_if_for_the_first_time() -> None:
    trial = Watched()
    for _ in range(2):
        trial.board.raise_(LOST)
        trial.look(1)
        trial.board.clear(LOST)
        trial.look(1)
    trial.look(FORGET_NS / S)
    assert trial.steady.flaps() == {}
    trial.board.raise_(LOST)
    trial.look(1)
    trial.board.clear(LOST)
    assert trial.look(0.2) == set()


def test_a_reason_too_short_to_be_seen_is_told_when_it_keeps_coming() -> None:
    trial = Watched()
    for _ in range(BLIPS_TOLD - 1):
        trial.flap()
        assert trial.look(1) == set()
    trial.flap()
    assert trial.look(1) == {LOST}
    assert trial.steady.flaps() == {LOST: BLIPS_TOLD}


def test_other_reasons_do_not_suffer_from_one_that_flaps() -> None:
    trial = Watched()
    for _ in range(50):
        trial.flap()
        trial.look(0.5)
    trial.board.raise_(FULL)
    assert trial.look(0.2) == {LOST, FULL}
    trial.board.clear(FULL)
    assert trial.look(0.2) == {LOST}


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 5), st.booleans()), max_size=80))
def test_what_is_told_is_never_a_fault_that_has_long_been_over_nor_silent_on_one(
    steps: list[tuple[int, int, bool]],
) -> None:
    trial = Watched()
    away_since_ns = 0
    for after_s, flaps, present in steps:
        for _ in range(flaps):
            trial.board.clear(LOST)
            trial.board.raise_(LOST)
            away_since_ns = trial.now_ns + after_s * S
        if present:
            trial.board.raise_(LOST)
        else:
            if LOST in trial.board.reasons():
                away_since_ns = trial.now_ns + after_s * S
            trial.board.clear(LOST)
        told = trial.look(after_s)
        if present:
            assert told == {LOST}
        elif trial.now_ns - away_since_ns >= LONGEST_HOLD_NS:
            assert told == set()


@given(st.lists(st.integers(0, 7200 * S), min_size=1, max_size=300))
def test_no_hour_has_more_than_sixty_health_records(waits_ns: list[int]) -> None:
    budget, now_ns, taken = HealthRecordBudget(), 0, []
    for wait_ns in waits_ns:
        now_ns += wait_ns // 100
        if budget.take(now_ns):
            taken.append(now_ns)
    hour_ns = 3600 * S
    most = RECORDS_AT_ONCE + hour_ns // RECORD_EVERY_NS
    assert most == 60
    for start in taken:
        assert sum(start <= at < start + hour_ns for at in taken) <= most


def test_the_first_hold_is_long_enough_for_a_restart_of_a_unit() -> None:
    assert FIRST_HOLD_NS == 5 * S
