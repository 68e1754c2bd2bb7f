"""Which broker is tried, and when."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from agent import config
from agent.uplink.broker.broker_choice import (
    NEXT_WITHIN_S,
    PRESSED_MAX_S,
    QUICK_FOR_S,
    QUICK_MAX_S,
    STABLE_S,
    TAKEN_OVER_S,
    BrokerChoice,
)

EVERY_S = 5.0


def make(count: int = 2, seed: int = 1, **settings: float) -> BrokerChoice:
    brokers = tuple(config.Broker(host=f"b{n}", port=1883, allow_plaintext=True) for n in range(count))
    table = {
        "reconnect_min_s": 1.0,
        "reconnect_max_s": 60.0,
        "fail_over_after_s": 60.0,
        "return_after_s": 300.0,
    }
    return BrokerChoice(config.Uplink(brokers=brokers, **(table | settings)), random.Random(seed))


def test_back_off_doubles_to_its_limit_and_is_spread_evenly() -> None:
    limits = [1.0, 2.0, 4.0, 5.0, 5.0]
    waits: list[list[float]] = [[] for _ in limits]
    for seed in range(400):
        choice = make(count=1, seed=seed)
        for drawn in waits:
            drawn.append(choice.closed(0.0).at)
    for limit, drawn in zip(limits, waits, strict=True):
        assert 0.0 <= min(drawn) < 0.1 * limit
        assert 0.9 * limit < max(drawn) <= limit
        assert abs(sum(drawn) / len(drawn) - limit / 2) < 0.08 * limit


def test_waits_are_short_for_the_first_minutes_and_grow_only_after_a_long_absence() -> None:
    longest: dict[bool, float] = {True: 0.0, False: 0.0}
    for seed in range(50):
        choice, now = make(count=1, seed=seed), 0.0
        while now < 3600.0:
            attempt = choice.closed(now)
            longest[now < QUICK_FOR_S] = max(longest[now < QUICK_FOR_S], attempt.at - now)
            now = attempt.at + 0.5
    assert 4.0 < longest[True] <= QUICK_MAX_S
    assert 50.0 < longest[False] <= 60.0


def test_broker_that_is_there_and_says_no_is_asked_less_often() -> None:
    choice, now, asked = make(count=1), 0.0, 0
    while now < QUICK_FOR_S:
        now = choice.closed(now, said_no=True).at + 0.5
        asked += 1
    assert asked < 60


def test_press_after_a_long_absence_makes_the_waits_short_again() -> None:
    choice, now = make(count=1), 0.0
    while now < 3600.0:
        now = choice.closed(now).at + 0.5
    choice.hurry(now)
    for _ in range(50):
        attempt = choice.closed(now)
        assert attempt.at - now <= QUICK_MAX_S
        assert attempt.pressed_at - now <= PRESSED_MAX_S
        now = attempt.at


def test_fleet_that_lost_its_broker_at_one_moment_comes_back_spread_out() -> None:
    """Attempts of 400 vehicles in a minute without the broker; a quarter of them has a press to deliver."""
    slots: dict[int, int] = {}
    for seed in range(400):
        choice, now = make(count=1, seed=seed), 0.0
        choice.opened(-100.0)
        while now < 60.0:
            attempt = choice.closed(now)
            now = (attempt.pressed_at if seed % 4 == 0 else attempt.at) + 0.01
            slots[int(now * 4)] = slots.get(int(now * 4), 0) + 1
    settled = [count for slot, count in slots.items() if 40 <= slot < 240]
    assert max(settled) < 2 * sum(settled) / len(settled)
    assert max(slots.values()) < 400 / 2


def test_stable_connection_begins_the_back_off_anew_but_a_short_one_does_not() -> None:
    longest = {"short": 0.0, "stable": 0.0}
    for seed in range(50):
        choice = make(count=1, seed=seed)
        for _ in range(8):
            choice.closed(0.0)
        choice.opened(100.0)
        longest["short"] = max(longest["short"], choice.closed(100.0 + STABLE_S / 2).at - 115.0)
        choice.opened(200.0)
        longest["stable"] = max(longest["stable"], choice.closed(200.0 + STABLE_S).at - 230.0)
    assert longest["short"] > 4.0
    assert longest["stable"] <= 1.0


def test_next_broker_is_tried_at_once_and_all_of_them_before_there_is_a_wait() -> None:
    choice, now, tried = make(count=3), 0.0, [0]
    waits = []
    for _ in range(9):
        attempt = choice.closed(now)
        tried.append(attempt.index)
        waits.append(attempt.at - now)
        now = attempt.at + 0.5
    assert tried == [0, 1, 2] * 3 + [0]
    assert all(wait <= NEXT_WITHIN_S for number, wait in enumerate(waits) if number % 3 != 2)


def test_connection_that_breaks_is_sought_at_the_same_broker_first() -> None:
    choice = make()
    choice.opened(0.0)
    assert choice.closed(50.0).index == 0
    assert choice.closed(51.0).index == 1
    choice.opened(52.0)
    assert choice.closed(100.0).index == 1


def test_place_taken_by_another_client_is_not_fought_for() -> None:
    for seed in range(50):
        choice = make(count=1, seed=seed)
        choice.opened(0.0)
        attempt = choice.closed(100.0, taken_over=True)
        assert TAKEN_OVER_S[0] <= attempt.at - 100.0 <= TAKEN_OVER_S[1]
        assert attempt.pressed_at - 100.0 <= PRESSED_MAX_S


def test_one_broker_never_fails_over() -> None:
    choice = make(count=1)
    assert {choice.closed(float(at)).index for at in range(0, 1000, 50)} == {0}


def on_second(choice: BrokerChoice, now: float) -> float:
    choice.closed(now)
    choice.opened(now + 1.0)
    assert choice.index == 1
    return now + 1.0


def probe_until_return(choice: BrokerChoice, now: float) -> float:
    start = now
    while not choice.probed(True, now):
        now += EVERY_S
    return now - start


def test_returns_after_the_preferred_one_was_reachable_long_enough() -> None:
    choice = make()
    now = on_second(choice, 0.0)
    assert choice.preferred_to_probe == 0
    assert not choice.probed(True, now)
    assert not choice.probed(True, now + 299.0)
    assert not choice.probed(False, now + 299.5)  # one failure begins the patience anew
    assert not choice.probed(True, now + 301.0)
    assert choice.probed(True, now + 601.0)
    assert choice.go_back(now + 601.0) == (attempt := choice.try_soon(now + 601.0))
    assert attempt.index == 0
    assert choice.preferred_to_probe is None


def test_preferred_broker_that_fails_again_is_believed_more_slowly() -> None:
    choice = make()
    now = on_second(choice, 0.0)
    patience = []
    for _ in range(7):
        patience.append(probe_until_return(choice, now))
        now += patience[-1]
        choice.go_back(now)
        now = on_second(choice, now)
    assert patience == [300.0, 600.0, 1200.0, 2400.0, 4800.0, 4800.0, 4800.0]


def test_first_attempt_of_a_fleet_is_spread() -> None:
    assert len({make(seed=seed).first(0.0).at for seed in range(50)}) == 50


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 500.0)), max_size=60), st.integers(1, 4))
def test_attempts_are_never_in_the_past_nor_beyond_the_limit(
    steps: list[tuple[bool, float]], count: int
) -> None:
    choice = make(count=count)
    now = 0.0
    for opens, passes in steps:
        now += passes
        if opens:
            choice.opened(now)
            now += passes
        attempt = choice.closed(now)
        assert 0 <= attempt.index < count
        assert now <= attempt.at <= now + 60.0


def test_being_let_in_is_not_being_served() -> None:
    choice = make()
    now, seen = 0.0, []
    while now < 70.0:
        choice.opened(now)
        seen.append((now, choice.closed(now + 2.0).index))
        now += 5.0
    assert [index for at, index in seen if at < 60.0] == [0] * 12
    assert seen[-1][1] == 1


def test_service_ends_the_time_of_failing() -> None:
    choice = make()
    for now in range(0, 600, 5):
        choice.opened(float(now))
        choice.served(now + 1.0)
        assert choice.closed(now + 2.0).index == 0
    choice.opened(600.0)
    assert not choice.idle(600.0 + STABLE_S / 2)
    assert choice.idle(600.0 + STABLE_S)
    assert choice.closed(700.0).index == 0
    choice.opened(701.0)
    assert choice.closed(759.0).index == 0


def test_stall_counts_from_its_beginning_but_not_before_the_last_service() -> None:
    choice = make()
    choice.opened(0.0)
    choice.failing(100.0 - 60.0)
    assert choice.closed(100.0).index == 1
    choice = make()
    choice.opened(0.0)
    choice.served(90.0)
    choice.failing(100.0 - 60.0)
    assert choice.closed(100.0).index == 0


def test_standing_connection_is_given_up_after_the_configured_time_of_its_own() -> None:
    choice = make()
    choice.opened(-1.0)
    choice.closed(0.0)
    choice.opened(50.0)
    choice.failing(51.0)
    assert not choice.gives_up(70.0)  # the outage before is not this connection's fault
    assert choice.gives_up(110.0)
    attempt = choice.give_up(110.0)
    assert attempt.index == choice.index == 1
    assert 110.0 <= attempt.at <= 111.0
    only = make(count=1)
    only.opened(0.0)
    only.failing(1.0)
    assert not only.gives_up(1e6)


def give_up_in_turn(choice: BrokerChoice, now: float, times: int) -> tuple[float, list[float]]:
    waits = []
    for _ in range(times):
        choice.opened(now)
        choice.served(now + 1.0)
        choice.failing(now + 2.0)
        since = now + 2.0
        while not choice.gives_up(now):
            now += 1.0
        waits.append(now - since)
        choice.give_up(now)
    return now, waits


def test_brokers_that_are_all_of_no_use_are_changed_less_and_less_often() -> None:
    choice = make()
    now, waits = give_up_in_turn(choice, 0.0, 10)
    assert waits == [60.0, 60.0, 120.0, 120.0, 240.0, 240.0, 480.0, 480.0, 960.0, 960.0]
    choice.opened(now)
    choice.served(now + 1.0)
    _, waits = give_up_in_turn(choice, now + 3600.0, 1)  # an hour of service: a trouble of its own
    assert waits == [60.0]
