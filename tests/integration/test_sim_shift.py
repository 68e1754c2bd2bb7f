"""The agent's own app through a shift in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from agent.domain.record import Emergency, StatusChange, Telemetry
from agent.domain.state import VehicleState
from hil.drive.items import SampleItem
from hil.drive.shift import Options, Shift, load_shift
from hil.sim.sim_rig import SimRig
from hil.sim.virtual_loop import VirtualLoop


def run_simulated(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


async def drive(directory: Path, shift: Shift) -> SimRig:
    async with SimRig(directory, unix_ms=shift.start_utc_ms, seed=7) as rig:
        await rig.boot()
        await rig.play(shift.items())
        assert await rig.wait_delivered(600)
    return rig


def test_a_short_shift_arrives_once_and_in_order(tmp_path: Path) -> None:
    shift = load_shift("emergency_call", 1)
    rig = run_simulated(drive(tmp_path / "one", shift))
    records = [arrival.record for arrival in rig.dispatch.arrivals]
    statuses = [record.body.status for record in records if isinstance(record.body, StatusChange)]
    pressed = [press.key for press in shift.presses if press.key != "emergency"]
    assert statuses == pressed
    assert any(isinstance(record.body, Emergency) for record in records)
    assert rig.dispatch.refused == []
    for stream in {record.stream for record in records}:
        sequence = [record.seq for record in records if record.stream is stream]
        assert sequence == list(range(1, len(sequence) + 1))


def test_the_same_shift_gives_the_same_journal_byte_for_byte(tmp_path: Path) -> None:
    shift = load_shift("emergency_call", 1, Options(can_hz_scale=0.2))
    digests = [
        run_simulated(drive(directory, shift)).digest for directory in (tmp_path / "1", tmp_path / "2")
    ]
    print(f"journal digest {digests[0]}")
    assert digests[0] == digests[1]


def test_what_a_sensor_reads_reaches_dispatch_as_telemetry_and_state(tmp_path: Path) -> None:
    name = "Ambulance.PatientCompartment.Temperature"
    probe = {"device": [{"kind": "temperature_w1", "name": "probe", "path": "none/temperature"}]}
    items = [SampleItem(t_s * 10**9, "probe", name, 20 + t_s / 100, "celsius") for t_s in range(0, 60, 10)]

    async def main() -> SimRig:
        async with SimRig(tmp_path, unix_ms=1_790_000_000_000, overrides=probe) as rig:
            await rig.boot()
            await rig.play(items)
            assert await rig.wait_delivered(60)
            state = rig.dispatch.states["vehicle"]
            assert isinstance(state, VehicleState)
            assert name in dict(state.signals)
        return rig

    rig = run_simulated(main())
    told = [
        value
        for arrival in rig.dispatch.arrivals
        if isinstance(arrival.record.body, Telemetry)
        for signal, value in arrival.record.body.signals
        if signal == name
    ]
    assert told[0] == 20
    assert told[-1] in (20.5, None)  # with the rig's end the probe falls silent
