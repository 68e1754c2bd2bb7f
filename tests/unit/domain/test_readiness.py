"""Whether a unit is ready for its shift."""

from __future__ import annotations

from typing import Any

from agent.domain.readiness import Ready, readiness

GOOD: dict[str, Any] = {
    "link": {"connected": True, "last_failure": ""},
    "backlog": {"events": 0, "trail": 3},
    "clock": {"utc_source": "gnss"},
    "position": {"age_s": 0.4},
    "crew": {"status": "available"},
    "health": {},
    "vehicle": {"Powertrain.FuelSystem.RelativeLevel": 71, "LowVoltageBattery.CurrentVoltage": 12.6},
    "vehicle_events": {"outside_limits": [], "trouble_codes": []},
}


def found(**given: Any) -> dict[str, Ready]:
    return {one.name: one.ready for one in readiness({**GOOD, **given})}


def test_a_unit_that_is_well_is_ready() -> None:
    assert set(found().values()) == {Ready.GOOD}


def test_each_thing_that_is_not_well_is_named() -> None:
    cut = {"connected": False, "last_failure": "no route"}
    assert found(link=cut)["dispatch"] is Ready.BAD
    assert found(link=cut)["backlog"] is Ready.BAD
    assert found(position=None)["position"] is Ready.BAD
    assert found(position={"age_s": 40.0})["position"] is Ready.BAD
    assert found(clock={"utc_source": "last_known"})["time"] is Ready.BAD
    assert found(health={"button_stuck": "emergency"})["button_stuck"] is Ready.BAD
    assert found(vehicle={"Powertrain.FuelSystem.RelativeLevel": 9})["fuel"] is Ready.BAD
    assert found(vehicle_events={"outside_limits": ["drug_fridge"]})["stores"] is Ready.BAD


def test_what_is_not_known_is_unknown_and_what_the_vehicle_does_not_have_is_not_asked_for() -> None:
    assert found(vehicle={"Powertrain.FuelSystem.RelativeLevel": None})["fuel"] is Ready.UNKNOWN
    assert "fuel" not in found(vehicle={})
    assert found(crew={"status": None})["status"] is Ready.UNKNOWN
