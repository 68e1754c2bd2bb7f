"""Fixes that can not be true are held back; a receiver that moved for good is believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.fix import Fix, FixMode
from agent.domain.plausibility import AGREEING, FixGate

S = 1_000_000_000


def fix(second: float, lat_deg: float = 42.36, lon_deg: float = -71.06, *, utc: bool = True) -> Fix:
    utc_ms = 1_773_500_400_000 + round(second * 1000) if utc else None
    return Fix(utc_ms, lat_deg, lon_deg, None, None, None, FixMode.FIX_3D, 9, 1.0, round(second * S))


def no_fix(second: float) -> Fix:
    return Fix(None, None, None, None, None, None, FixMode.NONE, None, None, round(second * S))


def test_a_jump_of_five_kilometres_for_a_second_is_held_back() -> None:
    gate = FixGate()
    assert gate.admits(fix(0))
    assert not gate.admits(fix(1, 42.405))
    assert gate.admits(fix(2))
    assert not gate.admits(fix(3, 42.405))
    assert gate.admits(no_fix(4))
    assert gate.admits(fix(5))


def test_a_receiver_that_stays_at_its_new_place_is_believed() -> None:
    gate = FixGate()
    gate.admits(fix(0))
    told = [gate.admits(fix(second, 42.5)) for second in range(1, 6)]
    assert told == [False] * (AGREEING - 1) + [True] * (6 - AGREEING)


def test_after_an_hour_without_a_fix_the_vehicle_may_be_far_away() -> None:
    gate = FixGate()
    gate.admits(fix(0))
    assert gate.admits(fix(3600, 43.5))


def test_a_recording_played_fast_is_judged_by_its_own_times() -> None:
    gate = FixGate()
    assert gate.admits(fix(0))
    fast = fix(60, 42.40)
    assert gate.admits(Fix(fast.utc_ms, 42.40, -71.06, None, None, None, FixMode.FIX_3D, 9, 1.0, 2 * S))


def test_across_the_date_line_there_is_no_jump() -> None:
    gate = FixGate()
    assert gate.admits(fix(0, 10.0, 179.9999))
    assert gate.admits(fix(1, 10.0, -179.9999))


@given(st.lists(st.tuples(st.floats(-89, 89), st.floats(-180, 180)), max_size=30))
def test_never_more_than_a_few_are_held_back_in_a_row_at_one_place(places: list[tuple[float, float]]) -> None:
    gate = FixGate()
    second = 0
    for lat_deg, lon_deg in places:
        told = []
        for _ in range(AGREEING):
            second += 1
            told.append(gate.admits(fix(second, lat_deg, lon_deg)))
        assert told[-1]
