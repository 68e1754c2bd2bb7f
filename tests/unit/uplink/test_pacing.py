"""The token bucket keeps its mean rate whatever the sizes of what is sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.uplink.pacing import BURST_S, TokenBucket


def test_burst_then_waits_for_what_was_overdrawn() -> None:
    bucket = TokenBucket(1000)
    assert bucket.delay_s(0.0) == 0.0
    bucket.take(1250, 0.0)
    assert bucket.delay_s(0.0) == 1.0
    assert bucket.delay_s(0.5) == 0.5
    assert bucket.delay_s(1.0) == 0.0


def test_pause_earns_no_more_than_the_burst() -> None:
    bucket = TokenBucket(1000)
    assert bucket.delay_s(0.0) == 0.0
    assert bucket.delay_s(3600.0) == 0.0
    bucket.take(1250, 3600.0)
    assert bucket.delay_s(3600.0) == 1.0


def test_clock_that_stands_still_or_steps_back_gives_nothing_away() -> None:
    bucket = TokenBucket(1000)
    bucket.take(1250, 10.0)
    assert bucket.delay_s(9.0) == 1.0
    assert bucket.delay_s(9.0) == 1.0


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=200), st.integers(100, 1_000_000))
def test_mean_rate_holds(sizes: list[int], rate: int) -> None:
    bucket = TokenBucket(rate)
    now = 0.0
    for size in sizes:
        now += bucket.delay_s(now)
        bucket.take(size, now)
    # Everything but the last message, which may be on credit, fits into the time that passed and the burst.
    assert sum(sizes[:-1]) <= rate * (now + BURST_S) + 1
