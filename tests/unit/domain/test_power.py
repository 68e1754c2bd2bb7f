"""The ignition's rules: what stays on, what parks, what may be turned off."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.domain.power import (
    AFTER_HOLD_NS,
    AGAIN_NS,
    ANSWER_NS,
    FLAPS,
    FLAPS_HELD_NS,
    LOW_FOR_NS,
    UNKNOWN_AFTER_NS,
    Hold,
    PowerOrder,
    PowerRules,
    PowerSight,
    ignition_of,
    is_low,
)

S = 1_000_000_000
OFF_NS, LOW_OFF_NS = 900 * S, 120 * S
OFF = PowerSight(ignition_on=False, battery_v=12.6)
ON = replace(OFF, ignition_on=True)


def rules(*, may_turn_off: bool = True) -> PowerRules:
    return PowerRules(off_after_ns=OFF_NS, low_off_after_ns=LOW_OFF_NS, low_v=11.8, may_turn_off=may_turn_off)


def seconds(power: PowerRules, sight: PowerSight, first_s: int, last_s: int) -> list[PowerOrder]:
    """What is ordered in each second, both ends included."""
    return [power.look(second * S, sight) for second in range(first_s, last_s + 1)]


def test_unit_parks_and_is_turned_off_after_the_whole_time_and_not_before() -> None:
    power = rules()
    before = seconds(power, OFF, 0, 899)
    assert not any(order.parked or order.turn_off for order in before)
    assert before[0].off_in_s == 900
    assert power.look(900 * S, OFF) == PowerOrder(parked=True, turn_off=True)


def test_unit_that_may_not_be_turned_off_only_parks() -> None:
    power = rules(may_turn_off=False)
    power.look(0, OFF)
    assert power.look(OFF_NS, OFF) == PowerOrder(parked=True)


def test_ignition_on_cancels_at_any_time_and_the_whole_time_counts_anew() -> None:
    power = rules()
    seconds(power, OFF, 0, 899)
    assert power.look(900 * S, ON) == PowerOrder()
    assert not any(order.parked for order in seconds(power, OFF, 901, 1800))
    assert power.look(1801 * S, OFF).turn_off
    power.ask_done(1801 * S)
    assert power.look(1802 * S, OFF) == PowerOrder(parked=True)
    assert power.look(1803 * S, ON) == PowerOrder(withdraw=True)
    assert power.look(1804 * S, ON) == PowerOrder()


@pytest.mark.parametrize("hold", list(Hold))
def test_nothing_is_turned_off_while_something_holds_it_on(hold: Hold) -> None:
    power = rules()
    held = replace(OFF, moving=True) if hold is Hold.MOVING else replace(OFF, holds=frozenset({hold}))
    orders = seconds(power, held, 0, 4000)
    assert not any(order.parked or order.turn_off for order in orders)
    assert orders[-1].holds == (hold,)
    after_s = AFTER_HOLD_NS // S
    assert not any(order.parked for order in seconds(power, OFF, 4001, 4000 + after_s - 1))
    assert power.look((4000 + after_s) * S, OFF).turn_off


def test_hold_that_comes_while_it_is_being_turned_off_takes_that_back() -> None:
    power = rules()
    power.look(0, OFF)
    assert power.look(OFF_NS, OFF).turn_off
    power.ask_done(OFF_NS)
    order = power.look(OFF_NS + S, replace(OFF, holds=frozenset({Hold.EMERGENCY})))
    assert order.withdraw
    assert not order.parked


def test_low_battery_shortens_the_time_but_a_dip_does_not() -> None:
    power, low = rules(), replace(OFF, battery_v=11.2)
    seconds(power, OFF, 0, 200)
    power.look(201 * S, low)
    assert not power.look(205 * S, low).parked
    assert power.look(206 * S, OFF).off_in_s == pytest.approx(694)
    power.look(207 * S, low)
    assert power.look(207 * S + LOW_FOR_NS, low).turn_off


@pytest.mark.parametrize("battery_v", [None, 0.0, 4.9, 1e9, float("nan"), float("inf"), -12.0, True])
def test_voltage_that_can_not_be_shortens_nothing(battery_v: float | None) -> None:
    assert not is_low(battery_v, 11.8)
    power = rules()
    orders = seconds(power, replace(OFF, battery_v=battery_v), 0, 899)
    assert not any(order.parked for order in orders)


def test_sense_that_says_nothing_turns_nothing_off_and_is_told() -> None:
    power, unknown = rules(), PowerSight(ignition_on=None)
    orders = seconds(power, unknown, 0, 5000)
    assert not any(order.parked for order in orders)
    assert not orders[UNKNOWN_AFTER_NS // S - 1].doubt
    assert orders[UNKNOWN_AFTER_NS // S].doubt
    power = rules()
    seconds(power, OFF, 0, 899)
    assert not power.look(900 * S, unknown).parked, "a wire that broke in the last second"
    assert not power.look(901 * S, OFF).parked


def test_sense_that_flaps_ten_times_a_second_turns_nothing_off_and_is_told() -> None:
    power = rules()
    orders = [power.look(tenth * S // 10, ON if tenth % 2 else OFF) for tenth in range(20_000)]
    assert not any(order.parked for order in orders)
    assert all(order.doubt for order in orders[FLAPS + 1 :])
    # It rests in "off": believed again once it was steady, and then for the whole time.
    power.look(2000 * S, OFF)
    until_s = 2000 + FLAPS_HELD_NS // S + OFF_NS // S
    assert not any(order.parked for order in seconds(power, OFF, 2001, until_s - 2))
    assert power.look((until_s + 1) * S, OFF).parked


def test_flaps_between_two_looks_count_as_well() -> None:
    power = rules()
    power.look(0, OFF)
    for n in range(FLAPS):
        power.switched(n * S // 10)
    assert power.look(S, OFF).doubt


def test_off_that_contradicts_the_motion_is_told() -> None:
    power = rules()
    orders = seconds(power, replace(OFF, moving=True), 0, 20)
    assert not orders[5].doubt
    assert "moves" in orders[20].doubt


def test_system_that_does_not_obey_is_told_and_asked_ever_more_seldom() -> None:
    power, now_ns = rules(), OFF_NS
    power.look(0, OFF)
    asked = []
    for _ in range(24 * 3600):
        order = power.look(now_ns, OFF)
        if order.turn_off:
            asked.append(now_ns)
            power.ask_done(now_ns)
        if now_ns == OFF_NS + ANSWER_NS:
            assert order.withdraw
            assert order.failure
        now_ns += S
    gaps_s = [(later - earlier) // S for earlier, later in pairwise(asked)]
    assert gaps_s[0] == (ANSWER_NS + AGAIN_NS) // S
    assert gaps_s == sorted(gaps_s)
    assert len(asked) < 12
    order = power.look(now_ns, ON)
    assert not order.failure, "with the ignition on nothing is to be turned off"


def test_sleep_of_the_computer_is_no_time_with_the_ignition_off() -> None:
    power = rules()
    seconds(power, OFF, 0, 10)
    power.forget_sense()
    assert not power.look(7200 * S, PowerSight(ignition_on=None)).parked
    assert power.look(7201 * S, OFF).off_in_s == 900


@pytest.mark.parametrize(
    ("value", "on"),
    [("ON", True), ("START", True), ("ACC", True), ("OFF", False), ("LOCK", False), ("UNDEFINED", None),
     (None, None), (True, None), (1, None), ("", None)],
)  # fmt: skip
def test_what_values_of_the_signal_say(value: object, on: bool | None) -> None:
    assert ignition_of(value) is on


class PowerMachine(RuleBasedStateMachine):
    """Whatever comes in whatever order: never off too soon, never off against a hold."""

    def __init__(self) -> None:
        super().__init__()
        self.power = rules()
        self.now_ns = 0
        self.sight = PowerSight(ignition_on=None)
        self.off_since_ns: int | None = None
        self.asked = False
        self.order = PowerOrder()

    @rule(
        passed_s=st.sampled_from([0.05, 1, 1, 1, 30, 130, 1000, 90_000]),
        ignition=st.sampled_from([True, False, False, False, None]),
        battery_v=st.sampled_from([None, 0.0, 11.0, 12.6, 1e9, float("nan")]),
        moving=st.sampled_from([False, False, False, True]),
        holds=st.frozensets(st.sampled_from(list(Hold)), max_size=1) | st.just(frozenset[Hold]()),
    )
    def look(
        self,
        passed_s: float,
        ignition: bool | None,
        battery_v: float | None,
        moving: bool,
        holds: frozenset[Hold],
    ) -> None:
        self.now_ns += round(passed_s * S)
        self.sight = PowerSight(ignition, battery_v, moving, holds)
        if ignition is not False:
            self.off_since_ns = None
        elif self.off_since_ns is None:
            self.off_since_ns = self.now_ns
        self.order = self.power.look(self.now_ns, self.sight)
        if self.order.withdraw:
            assert self.asked, "nothing was asked that could be taken back"
            self.asked = False

    @precondition(lambda self: self.order.turn_off)
    @rule(works=st.booleans())
    def turn_off(self, works: bool) -> None:
        assert not self.asked, "it was asked already"
        if works:
            self.power.ask_done(self.now_ns)
        else:
            self.power.ask_failed(self.now_ns, "refused")
        self.asked = works
        self.order = replace(self.order, turn_off=False)

    @rule()
    def sleep(self) -> None:
        self.power.forget_sense()
        self.off_since_ns = None

    @invariant()
    def never_too_soon(self) -> None:
        if self.order.parked:
            assert self.sight.ignition_on is False
            assert not self.sight.holds
            assert not self.sight.moving
            assert self.off_since_ns is None or self.now_ns - self.off_since_ns >= LOW_OFF_NS
        assert self.order.parked or not self.order.turn_off

    @invariant()
    def what_is_asked_is_known(self) -> None:
        assert self.power.asked == self.asked


PowerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPowerMachine = PowerMachine.TestCase
