"""What the vehicle says reaches dispatch as records, through the whole agent in simulated time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.domain.record import Driving, Excursion, Telemetry, TripRecord, TroubleCode
from hil.drive.items import CanItem
from hil.drive.shift import load_shift
from hil.sim.sim_rig import SimRig
from hil.sim.virtual_loop import VirtualLoop

S = 1_000_000_000
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
