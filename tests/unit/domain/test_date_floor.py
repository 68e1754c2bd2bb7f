"""Dates that receivers tell after their week counter rolled over, or with a battery that is flat."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.date_floor import HORIZON_MS, PERIOD_MS, DateFloor, date_text


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


BUILT = ms("2026-01-01")
NOW = ms("2026-11-27T12:00:10")


@pytest.mark.parametrize("periods", [1, 2])
def test_a_week_counter_that_rolled_over_is_put_right_and_told(periods: int) -> None:
    judged = DateFloor(BUILT).judge(NOW - periods * PERIOD_MS)
    assert judged.utc_ms == NOW
    assert f"{periods * 1024} weeks" in judged.why


@pytest.mark.parametrize(
    "said",
    [
        "1980-01-05",
        "1980-01-06T00:00:12",
        "1999-08-22",
        "2000-01-01",
        "2080-01-05",
        "2079-12-31",
        "1970-01-01",
    ],
)
def test_a_default_date_is_refused_and_told(said: str) -> None:
    judged = DateFloor(BUILT).judge(ms(said))
    assert judged.utc_ms is None
    assert said[:10] in judged.why


def test_a_possible_date_is_taken_as_it_is() -> None:
    assert DateFloor(BUILT).judge(NOW).utc_ms == NOW
    assert DateFloor(BUILT).judge(NOW).why == ""
    assert DateFloor(BUILT).judge(BUILT - 3_600_000).utc_ms is not None, "a day of slack, for time zones"


def test_without_a_floor_the_past_plays() -> None:
    assert DateFloor().judge(ms("2010-04-11")).utc_ms == ms("2010-04-11")
    assert DateFloor().possible(0)


def test_an_earlier_floor_lets_the_past_play_and_the_present_too() -> None:
    floor = DateFloor(BUILT, ms("1980-01-06"))
    for said in ("2010-04-11", "2026-03-14", "2026-11-27"):
        assert floor.judge(ms(said)).utc_ms == ms(said)
    assert floor.judge(ms("2080-01-05")).utc_ms is None


def test_the_store_is_a_floor_too_for_a_while() -> None:
    floor = DateFloor(BUILT)
    floor.learn_stored(NOW)
    assert floor.judge(ms("2026-05-01")).utc_ms is None
    assert floor.judge(NOW + 1).utc_ms == NOW + 1
    assert floor.judge(NOW - PERIOD_MS + 5).utc_ms == NOW + 5
    verdicts = [floor.judge(ms("2026-05-01")).utc_ms for _ in range(70)]
    assert verdicts[:60] == [None] * 60
    assert verdicts[-1] == ms("2026-05-01")


def test_an_impossible_date_in_the_store_is_no_floor() -> None:
    floor = DateFloor(BUILT)
    floor.learn_stored(ms("2080-01-01"))
    assert floor.judge(NOW).utc_ms == NOW


@given(st.integers(ms("1900-01-01"), ms("2200-01-01")))
def test_what_comes_out_can_be_true_and_differs_by_whole_periods(said: int) -> None:
    judged = DateFloor(BUILT).judge(said)
    if judged.utc_ms is None:
        assert judged.why
    else:
        assert -86_400_000 <= judged.utc_ms - BUILT <= HORIZON_MS
        assert (judged.utc_ms - said) % PERIOD_MS == 0
        assert bool(judged.why) == (judged.utc_ms != said)


@given(st.integers())
def test_any_number_has_a_text(utc_ms: int) -> None:
    assert date_text(utc_ms)
