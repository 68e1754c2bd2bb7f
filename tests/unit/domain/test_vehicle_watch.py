"""Idling with its cause, weak cranking, theft: what is told of a vehicle, and what is not."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.record import Warned
from agent.domain.vehicle import Signal
from agent.domain.vehicle_watch import LOOKED_AT, Situation, VehicleWatch, WatchLimits

S = 1_000_000_000


class Bench:
    def __init__(self, limits: WatchLimits | None = None) -> None:
        self.watch = VehicleWatch(limits or WatchLimits())
        self.at_s = 0
        self.told: list[Warned] = []
        self.lat = 42.36

    def passes(
        self, seconds: int, situation: Situation | None = None, *, metres_a_s: float = 0, **said: Any
    ) -> None:
        names = {name.rpartition(".")[2]: name for name in sorted(LOOKED_AT)} | {"Speed": "Speed"}
        for _ in range(seconds):
            now_ns = self.at_s * S
            self.lat += metres_a_s / 111_200
            self.watch.on_fix(now_ns, self.lat, -71.06, metres_a_s)
            signals = [Signal(names[name], value, now_ns) for name, value in said.items()]
            self.watch.on_signals(signals)
            self.told += [warned for _, warned in self.watch.look(now_ns, situation or Situation())]
            self.at_s += 1


def test_idling_has_its_place_its_need_and_its_end() -> None:
    bench = Bench()
    hospital = Situation(place="bmc", category="hospital")
    bench.passes(400, hospital, IsRunning=True, Speed=0.0, LowVoltageSystemState="ON")
    bench.passes(3, hospital, Speed=20.0)
    begun, ended = bench.told
    assert (begun.warning, begun.open, begun.place, begun.category, begun.need) == (
        "idling", True, "bmc", "hospital", None,
    )  # fmt: skip
    assert (ended.open, ended.category) == (False, "hospital")
    assert ended.duration_s is not None
    assert 398 <= ended.duration_s <= 402


def test_idling_on_scene_and_for_heat_or_high_idle_says_so() -> None:
    bench = Bench()
    bench.passes(310, Situation(status="on_scene"), IsRunning=True, Speed=0.0, AirTemperature=-4.0)
    assert [(one.category, one.need) for one in bench.told] == [("scene", "heat")]
    bench = Bench()
    bench.watch.on_signals([Signal("Ambulance.HighIdle.IsActive", True, 0)])
    bench.passes(310, IsRunning=True, Speed=0.0)
    assert [one.need for one in bench.told] == ["high_idle"]


def test_an_engine_that_is_not_known_to_run_does_not_idle() -> None:
    bench = Bench()
    bench.passes(1000, Speed=0.0, LowVoltageSystemState="ON")
    assert bench.told == []


def test_the_lowest_voltage_of_a_start_is_told_when_it_is_low() -> None:
    bench = Bench()
    for state, volts in (("ON", 12.4), ("START", 9.8), ("START", 7.9), ("START", 10.4), ("ON", 13.9)):
        bench.passes(1, LowVoltageSystemState=state, CurrentVoltage=volts)
    assert [(one.warning, one.value, one.open) for one in bench.told] == [("weak_cranking", 7.9, None)]
    bench = Bench()
    for state, volts in (("ON", 7.0), ("START", 10.1), ("ON", 13.9)):
        bench.passes(1, LowVoltageSystemState=state, CurrentVoltage=volts)
    assert bench.told == []


def test_a_vehicle_that_is_towed_away_is_told_once_and_at_once() -> None:
    bench = Bench()
    bench.passes(60, LowVoltageSystemState="OFF")
    bench.passes(60, LowVoltageSystemState="OFF", metres_a_s=6)
    assert [(one.warning, one.open) for one in bench.told] == [("unattended", True)]
    assert bench.watch.unattended
    bench.passes(200, LowVoltageSystemState="OFF")
    assert [one.open for one in bench.told] == [True, False]
    assert bench.told[1].value is not None
    assert bench.told[1].value > 300
    assert not bench.watch.unattended


def test_a_receiver_that_wanders_moves_no_vehicle() -> None:
    bench = Bench()
    for turn in range(200):
        bench.passes(1, LowVoltageSystemState="OFF", metres_a_s=8 if turn % 2 else -8)
    assert bench.told == []


def test_with_the_ignition_on_it_is_a_drive() -> None:
    bench = Bench()
    bench.passes(300, LowVoltageSystemState="ON", metres_a_s=15)
    assert bench.told == []


def test_without_a_crew_a_drive_can_be_a_theft() -> None:
    bench = Bench(WatchLimits(without_crew=True))
    bench.passes(20, Situation(crew_aboard=True), LowVoltageSystemState="ON", metres_a_s=15)
    assert bench.told == []
    bench.passes(20, Situation(), LowVoltageSystemState="ON", metres_a_s=15)
    assert [one.warning for one in bench.told] == ["unattended"]


def test_leaving_the_area_without_a_call_is_told() -> None:
    bench = Bench()
    bench.passes(100, Situation(incident="1", outside_area_m=900.0), LowVoltageSystemState="ON")
    assert bench.told == []
    bench.passes(40, Situation(outside_area_m=900.0), LowVoltageSystemState="ON")
    bench.passes(5, Situation(outside_area_m=0.0), LowVoltageSystemState="ON")
    assert [(one.warning, one.open) for one in bench.told] == [("left_area", True), ("left_area", False)]


WORDS = st.sampled_from(["ON", "OFF", "START"])
anything = st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5), WORDS)
told = st.tuples(st.sampled_from(sorted(LOOKED_AT)), anything, st.integers(0, 10**13), st.booleans())


@given(st.lists(told, max_size=80))
def test_whatever_a_vehicle_says_little_is_told(said: list[tuple[str, Any, int, bool]]) -> None:
    watch = VehicleWatch(WatchLimits())
    records = 0
    for name, value, at_ns, aboard in said:
        watch.on_signals([Signal(name, value, at_ns)])
        records += len(watch.look(at_ns, Situation(crew_aboard=aboard)))
    assert records <= len(said) + 1


def test_a_bus_that_fell_silent_does_not_idle_on() -> None:
    bench = Bench()
    bench.passes(100, IsRunning=True, Speed=0.0)
    bench.passes(600)
    assert bench.told == []
