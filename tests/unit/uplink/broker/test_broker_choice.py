"""Which broker is tried, and when."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from agent import config
from agent.uplink.broker.broker_choice import STABLE_S, BrokerChoice

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
    limits = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    waits: list[list[float]] = [[] for _ in limits]
    for seed in range(400):
        choice = make(count=1, seed=seed)
        for drawn in waits:
            drawn.append(choice.closed(0.0).at)
    for limit, drawn in zip(limits, waits, strict=True):
        assert 0.0 <= min(drawn) < 0.1 * limit
        assert 0.9 * limit < max(drawn) <= limit
        assert abs(sum(drawn) / len(drawn) - limit / 2) < 0.08 * limit


def test_stable_connection_begins_the_back_off_anew_but_a_short_one_does_not() -> None:
    choice = make(count=1)
    for _ in range(8):
        choice.closed(0.0)
    choice.opened(100.0)
    short = choice.closed(100.0 + STABLE_S / 2)
    assert short.at - (100.0 + STABLE_S / 2) > 1.0  # drawn up to 60 s with this seed
    choice.opened(200.0)
    assert choice.closed(200.0 + STABLE_S).at <= 200.0 + STABLE_S + 1.0


def test_fails_over_after_the_configured_time_and_round_again() -> None:
    choice = make()
    now, seen = 0.0, []
    while now <= 200.0:
        seen.append((now, choice.closed(now).index))
        now += EVERY_S
    assert [index for at, index in seen if at < 60.0] == [0] * 12
    assert [index for at, index in seen if 60.0 <= at < 120.0] == [1] * 12
    assert [index for at, index in seen if 120.0 <= at < 180.0] == [0] * 12


def test_one_broker_never_fails_over() -> None:
    choice = make(count=1)
    assert {choice.closed(float(at)).index for at in range(0, 1000, 50)} == {0}


def on_second(choice: BrokerChoice, now: float) -> float:
    choice.closed(now)
    choice.closed(now + 60.0)
    choice.opened(now + 61.0)
    assert choice.index == 1
    return now + 61.0


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
