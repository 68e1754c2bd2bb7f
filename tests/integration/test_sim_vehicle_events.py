"""What the vehicle says reaches dispatch as records, through the whole agent in simulated time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypeVar

from agent.domain.record import (
    Alert,
    Body,
    Driving,
    Excursion,
    ResponseLeg,
    Telemetry,
    TripRecord,
    TroubleCode,
    Warned,
)
from hil.drive.items import CanItem
from hil.drive.shift import load_shift
from hil.sim.sim_rig import SimRig
from hil.sim.virtual_loop import VirtualLoop

S = 1_000_000_000
T = TypeVar("T", bound=Body)
FRIDGE = "Ambulance.DrugFridge.Temperature"
VEHICLES = Path(__file__).resolve().parents[2] / "config" / "vehicles"


def test_an_excursion_of_the_fridge_and_driving_reach_dispatch(tmp_path: Path) -> None:
    shift = load_shift("emergency_call", 1)
    overrides = {
        # Limits that the shift of the demo vehicle passes for certain.
        "driving": {"acceleration_mps2": [1.0, 1.5], "braking_mps2": [1.5, 5.0], "overspeed_siren_mps": 5},
        "watch": [{"name": "drug_fridge", "signal": FRIDGE, "low": 2, "high": 4.55, "dwell_s": 20}],
    }

    async def main() -> SimRig:
        async with SimRig(tmp_path, unix_ms=shift.start_utc_ms, overrides=overrides) as rig:
            await rig.boot()
            await rig.play(shift.items())
            assert await rig.wait_delivered(600)
        return rig

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        rig = runner.run(main())
    bodies = [arrival.record.body for arrival in rig.dispatch.arrivals]
    excursions = [body for body in bodies if isinstance(body, Excursion)]
    assert [body.open for body in excursions[:2]] in ([True], [True, False])
    assert excursions[0].place == "drug_fridge"
    assert excursions[0].extreme is not None
    assert excursions[0].extreme > 4.55
    driving = [body for body in bodies if isinstance(body, Driving)]
    assert {"acceleration", "overspeed"} <= {body.event for body in driving}
    for event in driving:
        assert event.position is not None
        assert event.response is not None
        assert event.event != "overspeed" or event.limit == 5
    # Each change of the siren is a record of its own, with its own time.
    siren = [
        dict(body.signals)["Ambulance.Siren.IsOn"]
        for body in bodies
        if isinstance(body, Telemetry) and "Ambulance.Siren.IsOn" in dict(body.signals)
    ]
    assert True in siren
    assert False in siren
    assert rig.dispatch.refused == []


def test_trouble_codes_and_a_trip_of_a_j1939_chassis_reach_dispatch(tmp_path: Path) -> None:
    def item(at_s: float, can_id: int, data: str) -> CanItem:
        return CanItem(round(at_s * S), "can0", can_id, True, bytes.fromhex(data))

    items = [item(t / 2, 0x18FEF700, "FFFFFFFF18011801") for t in range(2, 120)]  # ignition on
    items += [item(t / 2, 0x18FEF100, "FF0032FFFFFFFFFF") for t in range(2, 120)]  # 50 km/h
    items += [item(float(t), 0x18FECA00, "40FF6E000301FFFF") for t in range(10, 30)]  # one code, for 20 s
    items += [item(t / 2, 0x18FEF700, "FFFFFFFF18010000") for t in range(120, 140)]
    overrides = {
        "device": [{"kind": "can_socketcan", "name": "can0", "channel": "can0",
                    "vehicle": str(VEHICLES / "j1939_chassis.toml")}],
    }  # fmt: skip

    async def main() -> SimRig:
        async with SimRig(tmp_path, unix_ms=1_790_000_000_000, overrides=overrides) as rig:
            await rig.boot()
            await rig.play(sorted(items, key=lambda one: one.t_ns))
            assert await rig.wait_delivered(600)
        return rig

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        rig = runner.run(main())
    bodies = [arrival.record.body for arrival in rig.dispatch.arrivals]
    codes = [body for body in bodies if isinstance(body, TroubleCode)]
    assert [(body.active, body.spn, body.fmi, body.lamps) for body in codes] == [
        (True, 110, 3, ("malfunction",)),
        (False, 110, 3, ("malfunction",)),
    ]
    (trip,) = [body for body in bodies if isinstance(body, TripRecord)]
    assert 57 <= trip.duration_s <= 60
    assert trip.distance_m is not None
    assert abs(trip.distance_m - trip.duration_s * 50 / 3.6) < 30


def run_shift(tmp_path: Path, overrides: dict[str, Any], items: list[Any], *, seconds: float = 0) -> SimRig:
    async def main() -> SimRig:
        async with SimRig(tmp_path, unix_ms=1_790_000_000_000, overrides=overrides) as rig:
            await rig.boot()
            await rig.play(items)
            await asyncio.sleep(seconds)
            assert await rig.wait_delivered(600)
        return rig

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def bodies_of(rig: SimRig, kind: type[T]) -> list[T]:
    bodies = [arrival.record.body for arrival in rig.dispatch.arrivals]
    return [body for body in bodies if isinstance(body, kind)]


def frame(at_s: float, can_id: int, data: str) -> CanItem:
    return CanItem(round(at_s * S), "can0", can_id, False, bytes.fromhex(data))


def test_each_leg_of_a_run_tells_its_lights_and_siren(tmp_path: Path) -> None:
    shift = load_shift("emergency_call", 1)
    rig = run_shift(tmp_path, {"driving": {}}, list(shift.items()))
    legs = bodies_of(rig, ResponseLeg)
    assert [leg.leg for leg in legs] == ["to_scene", "transport"]
    for leg in legs:
        assert leg.nemsis in ("2224015", "4218011", "4218013", "2224017")
        assert leg.duration_s is not None
        assert leg.distance_m is not None
        assert leg.distance_m > 50
    assert rig.dispatch.refused == []


def test_a_vehicle_that_is_towed_away_is_told_at_once_and_once(tmp_path: Path) -> None:
    off = [frame(t / 2, 0x320, "01000000") for t in range(120)]
    moves = [frame(20 + t / 10, 0x120, "B80B000000000000") for t in range(200)]  # 30 km/h
    items = sorted(off + moves, key=lambda one: one.t_ns)
    rig = run_shift(tmp_path, {"vehicle": {}}, items)
    warned = [body for body in bodies_of(rig, Warned) if body.warning == "unattended"]
    assert [body.open for body in warned] == [True]
    alerts = [body.code for body in bodies_of(rig, Alert)]
    assert alerts.count("unattended_movement") == 1


def test_services_are_counted_and_done_over_the_socket(tmp_path: Path) -> None:
    overrides = {"service": [{"name": "oil", "every_km": 1}], "vehicle": {}}
    odometer = [(50_000_000 + step * 100).to_bytes(4, "little").hex() for step in range(30)]
    items = [frame(float(second), 0x420, text + "FFFFFFFF") for second, text in enumerate(odometer)]

    async def main() -> tuple[list[Any], list[Any], list[Any]]:
        async with SimRig(tmp_path, unix_ms=1_790_000_000_000, overrides=overrides) as rig:
            await rig.boot()
            await rig.play(items)
            assert rig.daemon is not None
            before = rig.daemon._vehicle.services()
            await rig.power_cut()
            await rig.boot()
            assert rig.daemon is not None
            after = rig.daemon._vehicle.services()
            done = rig.daemon._service_done("oil")
            warned = [one for one in bodies_of(rig, Warned) if one.warning == "service_due"]
            assert [one.item for one in warned] == ["oil"]
        return before, after, done

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        before, after, done = runner.run(main())
    assert before[0]["due"]
    # What is due was on the disk when it was told; what came later is found again by the odometer.
    assert after[0]["km"] >= 1
    assert (done[0]["km"], done[0]["due"]) == (0, False)


def test_the_buzzer_sounds_while_a_limit_is_passed(tmp_path: Path) -> None:
    speeds = [50.0] * 40 + [max(0.0, 50 - 1.8 * step) for step in range(30)]
    raw = [round(kmh * 100).to_bytes(2, "little").hex() + "000000000000" for kmh in speeds]
    items = [frame(tick / 10, 0x120, data) for tick, data in enumerate(raw)]

    async def main() -> int:
        async with SimRig(
            tmp_path, unix_ms=1_790_000_000_000, overrides={"driving": {}, "buzzer": {}}
        ) as rig:
            await rig.boot()
            await rig.play(items)
            assert rig.daemon is not None
            buzzer = rig.daemon._crew_parts.buzzer
            assert buzzer is not None
            page = buzzer.page()
            assert page is not None
            return int(page["number"])

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(main()) >= 1
