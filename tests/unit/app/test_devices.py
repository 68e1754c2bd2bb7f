"""The table of devices: every row is whole, and a newcomer needs no more than a row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import pytest

from agent.app.daemon import Daemon
from agent.app.devices import KINDS, DeviceKind, load
from agent.app.recording import Recorded, record
from agent.app.vehicle_platform import VehiclePlatform
from agent.config import ButtonDevice, CanDevice, ConfigError, DiagnosticDevice, GnssDevice, SampleDevice
from agent.domain.health import HealthReason
from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError
from agent.hal.samples import Sample
from agent.sources.can import vss
from firmware_shims.polled_sensor import PolledSensor
from hil.drive.items import SampleItem
from hil.recording.mcap_file import RecordingReader

BASE = """
status_socket = "mdt.sock"
[unit]
agency = "test"
unit = "T1"
[store]
directory = "store"
[reporting]
telemetry_interval_s = 0.1
[[uplink.brokers]]
host = "127.0.0.1"
port = 9
allow_plaintext = true
"""


class DoorSwitch(SampleDevice):
    """Settings of a device that the project does not have: this test is the newcomer."""

    kind: Literal["door_switch"] = "door_switch"
    state: Path

    def signals(self) -> tuple[str, ...]:
        return ("Ambulance.PatientCompartment.Door.IsOpen",)


class DoorSwitchFile(PolledSensor):
    """A switch whose state stands in a file."""

    taken = 0

    def __init__(self, settings: DoorSwitch, clock: Clock) -> None:
        super().__init__(str(settings.state), clock, 0.02)
        self._state = settings.state

    def take(self) -> Sequence[Sample]:
        DoorSwitchFile.taken += 1
        try:
            is_open = self._state.read_text() == "open"
        except OSError as error:
            raise DeviceLostError(self.name, "unplugged") from error
        return (Sample("Ambulance.PatientCompartment.Door.IsOpen", is_open, None, self._clock.boottime_ns()),)


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The newcomer's one row, and its block of configuration; returns the switch."""
    monkeypatch.setitem(KINDS, "door_switch", DeviceKind(__name__, "DoorSwitch", "DoorSwitchFile"))
    switch = tmp_path / "switch"
    switch.write_text("open")
    block = f'[[device]]\nkind = "door_switch"\nname = "rear-door"\nstate = "{switch}"\n'
    (tmp_path / "agent.toml").write_text(BASE + block)
    return switch


async def until(condition: object, within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_row_names_settings_and_driver_of_one_of_the_blocks(kind: str) -> None:
    row = KINDS[kind]
    settings = row.settings_class()
    blocks = (GnssDevice, CanDevice, ButtonDevice, SampleDevice, DiagnosticDevice)
    bases = [base for base in blocks if issubclass(settings, base)]
    assert len(bases) == 1, (
        f"{kind}: {row.settings} of {row.module} must derive from exactly one of GnssDevice, CanDevice, "
        "ButtonDevice, SampleDevice and DiagnosticDevice of agent.config: that says where it goes"
    )
    field = settings.model_fields["kind"]
    assert (get_args(field.annotation), field.default) == ((kind,), kind), (
        f'{kind}: {row.settings} needs `kind: Literal["{kind}"] = "{kind}"`'
    )
    assert settings.__doc__, (
        f"{kind}: {row.settings} needs a docstring: the reference of the configuration shows it"
    )
    module = __import__(row.module, fromlist=[row.driver])
    assert callable(getattr(module, row.driver, None)), f"{kind}: {row.module} has no {row.driver}"


def test_a_newcomer_reaches_the_journal_the_live_state_and_the_health_by_its_row_alone(
    door: Path, tmp_path: Path
) -> None:
    name = "Ambulance.PatientCompartment.Door.IsOpen"

    async def main() -> None:
        daemon = Daemon(load(tmp_path / "agent.toml"), VehiclePlatform())
        running = asyncio.create_task(daemon.run())
        try:
            await until(lambda: daemon.status()["vehicle"].get(name) is True)
            door.write_text("closed")
            await until(lambda: daemon.status()["vehicle"].get(name) is False)
            assert daemon.status()["units"]["device-rear-door"] == "running"
            door.unlink()
            await until(lambda: HealthReason.SENSOR_LOST in daemon.health.reasons())
            assert daemon.status()["vehicle"] == {name: None}
            door.write_text("open")
            await until(lambda: HealthReason.SENSOR_LOST not in daemon.health.reasons())
            await until(lambda: daemon.status()["vehicle"].get(name) is True)
        finally:
            daemon.stop()
            await running

    asyncio.run(main())


def test_a_newcomer_is_recorded_by_its_row_alone(door: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mcap"

    async def main() -> Recorded:
        stop = asyncio.Event()
        recording = asyncio.create_task(record(load(tmp_path / "agent.toml"), VehiclePlatform(), out, stop))
        before = DoorSwitchFile.taken
        await until(lambda: DoorSwitchFile.taken >= before + 5)
        stop.set()
        return await recording

    recorded = asyncio.run(main())
    assert (recorded.problem, recorded.heard, recorded.silent) == (None, ("rear-door",), {})
    samples = [item for item in RecordingReader(out).items() if isinstance(item, SampleItem)]
    assert samples
    assert {(item.device, item.value) for item in samples} == {("rear-door", True)}


def test_a_newcomers_settings_are_checked_as_all_others(door: Path, tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(path.read_text().replace("state =", "sate ="))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert any("device[0].sate" in problem for problem in caught.value.problems)
    assert any("device[0].state: missing" in problem for problem in caught.value.problems)


def test_a_driver_is_not_imported_for_a_vehicle_that_does_not_have_it(tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "agent.toml").write_text(BASE)
    code = (
        "import sys, json; from pathlib import Path; from agent.app.devices import load; "
        f"import agent.app.daemon; load(Path({str(tmp_path / 'agent.toml')!r})); "
        "print(json.dumps(sorted(name for name in sys.modules if name.startswith('firmware_shims.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_shipped_overlay_fits_into_a_configuration(tmp_path: Path) -> None:
    """Blocks of an upfitter's lines and inputs, each with a signal that is known, and no two alike."""
    overlay = Path(__file__).parents[3] / "config" / "overlay.example.toml"
    (tmp_path / "agent.toml").write_text(BASE + overlay.read_text(encoding="utf-8"))
    signals = [
        signal
        for device in load(tmp_path / "agent.toml").devices
        if isinstance(device, SampleDevice)
        for signal in device.signals()
    ]
    assert len(signals) == len(set(signals)) >= 15
    assert set(signals) <= set(vss.SIGNALS)
