"""The thermometer of the patient compartment, from the kernel's file to dispatch by one block."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from agent.domain.record import Telemetry
from agent.domain.state import HealthState, VehicleState
from hil.drive.items import SampleItem
from hil.process.process_rig import ProcessRig
from hil.process.vehicle_config import to_toml
from hil.recording.mcap_file import RecordingReader

NAME = "Ambulance.PatientCompartment.Temperature"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(45):
        while not condition():
            await asyncio.sleep(0.05)


def test_a_probe_is_read_lost_and_found_again_and_never_said_to_be_zero() -> None:
    async def main(folder: Path) -> None:
        file = folder / "28-00000a1b2c3d" / "temperature"
        file.parent.mkdir()
        file.write_text("85000\n")  # what a probe holds before its first conversion
        async with ProcessRig(folder) as rig:

            def temperature() -> object:
                state = rig.dispatch.states.get("vehicle")
                return dict(state.signals).get(NAME, "never") if isinstance(state, VehicleState) else "never"

            def reasons() -> tuple[str, ...]:
                state = rig.dispatch.states.get("health")
                return state.reasons if isinstance(state, HealthState) else ()

            probe = {"kind": "temperature_w1", "path": "28-*/temperature", "interval_s": 1}
            table = rig.configuration()
            table["device"].append(probe)
            table["recorder"] = {"directory": "recordings"}
            rig.config_file.write_text(to_toml(table), encoding="utf-8")
            await rig.boot()
            await until(lambda: "vehicle" in rig.dispatch.states)
            assert temperature() == "never"
            file.write_text("21437\n")
            await until(lambda: temperature() == 21.437)
            file.unlink()
            await until(lambda: temperature() is None and "sensor_lost" in reasons())
            file.write_text("-1250\n")
            await until(lambda: temperature() == -1.25 and "sensor_lost" not in reasons())
            await rig.shut_down()
            bodies = [arrival.record.body for arrival in rig.dispatch.arrivals]
        signals = [signal for body in bodies if isinstance(body, Telemetry) for signal in body.signals]
        told = [value for name, value in signals if name == NAME]
        assert told[:3] == [21.437, None, -1.25]
        (recording,) = (folder / "recordings").iterdir()
        samples = [item for item in RecordingReader(recording).items() if isinstance(item, SampleItem)]
        assert {sample.value for sample in samples} == {21.437, -1.25}

    with tempfile.TemporaryDirectory(prefix="mdt-") as folder:
        asyncio.run(main(Path(folder)))
