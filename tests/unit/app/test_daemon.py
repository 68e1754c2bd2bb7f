"""The daemon as composition: what it starts, how it stops, and what is on the disk afterwards."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from agent.app.daemon import Daemon
from agent.app.devices import KINDS, DeviceKind, validate
from agent.app.vehicle_platform import VehiclePlatform
from agent.config import Config, SampleDevice
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Kind, Stream, Telemetry
from agent.hal.clock import Clock
from agent.hal.samples import Sample
from agent.outbox.outbox import Outbox
from agent.sources.can.decoder_cache import DecoderCache
from agent.supervision.daemon_answer import ask
from agent.supervision.status_socket import DaemonRunningError
from agent.wire.body import unpack_body
from agent.wire.reader_request import Reply
from agent.wire.topics import Topics
from firmware_shims.simulated.scripted_feed import ScriptedFeed
from hil.sim.inline_worker import InlineWorker

IGNITION = "LowVoltageSystemState"
OXYGEN = "Ambulance.Oxygen.Pressure"


class Scripted(SampleDevice):
    """Settings of a sensor that says what the test has it say."""

    kind: Literal["scripted"] = "scripted"

    def signals(self) -> tuple[str, ...]:
        return (OXYGEN, IGNITION)


class ScriptedSensor(ScriptedFeed[Sample]):
    """The sensor; its closing can be made to hang."""

    made: ScriptedSensor
    hangs = False

    def __init__(self, settings: Scripted, clock: Clock) -> None:
        super().__init__(settings.name)
        self._clock = clock
        ScriptedSensor.made = self

    def read_out(self, signal: str, value: float | str, unit: str | None = None) -> None:
        self.say(Sample(signal, value, unit, self._clock.boottime_ns()))

    async def close(self) -> None:
        await super().close()
        while self.hangs:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "scripted", DeviceKind(__name__, "Scripted", "ScriptedSensor"))


def configuration(folder: Path, *devices: dict[str, Any], **tables: Any) -> Config:
    table = {
        "status_socket": "mdt.sock",
        "unit": {"agency": "test", "unit": "T1"},
        "store": {"directory": "store", "group_commit_s": 300},
        "device": list(devices),
        "uplink": {"brokers": [{"host": "127.0.0.1", "port": 9, "allow_plaintext": True}]},
        "supervision": {"stop_uplink_s": 0.2},
        **tables,
    }
    return validate(table, folder / "agent.toml")


async def running(config: Config, act: Callable[[Daemon], Awaitable[None]]) -> None:
    daemon = Daemon(config, VehiclePlatform())
    task = asyncio.create_task(daemon.run())
    try:
        await until(lambda: len(daemon.status()["units"]) >= 5 or task.done())
        if not task.done():
            await act(daemon)
    finally:
        daemon.stop()
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def last_telemetry(config: Config) -> dict[str, object]:
    """Signals of the newest telemetry record on the disk, once no daemon has the store."""
    outbox = Outbox(config.store, VehiclePlatform().clock(), InlineWorker(), HealthBoard())
    await outbox.open()
    try:
        row = await outbox.latest(Kind.TELEMETRY)
        assert row is not None
        body = unpack_body(Kind.TELEMETRY, row.body)
        assert isinstance(body, Telemetry)
        return dict(body.signals)
    finally:
        await outbox.close()


SENSOR = {"kind": "scripted", "name": "sensor"}


def test_only_what_is_configured_has_units(tmp_path: Path) -> None:
    async def bare(daemon: Daemon) -> None:
        units = set(daemon.status()["units"])
        assert {"outbox", "uplink", "clock", "crew", "health"} <= units
        assert not {"telemetry", "black-box"} & units
        assert not [unit for unit in units if unit.startswith("device-")]

    async def equipped(daemon: Daemon) -> None:
        await until(lambda: {"telemetry", "black-box", "device-sensor"} <= set(daemon.status()["units"]))

    asyncio.run(running(configuration(tmp_path / "1"), bare))
    recorder = {"directory": "recordings"}
    asyncio.run(running(configuration(tmp_path / "2", SENSOR, recorder=recorder), equipped))
    assert list((tmp_path / "2" / "recordings").iterdir())


def test_what_was_read_last_is_on_the_disk_after_an_orderly_stop(tmp_path: Path) -> None:
    async def act(daemon: Daemon) -> None:
        await until(lambda: daemon.status()["units"].get("device-sensor") == "running")
        ScriptedSensor.made.read_out(OXYGEN, 9000.0, "kPa")
        await until(lambda: OXYGEN in daemon.status()["vehicle"])
        ScriptedSensor.made.read_out(OXYGEN, 8000.0, "kPa")
        await until(lambda: daemon.status()["vehicle"][OXYGEN] == 8000.0)

    config = configuration(tmp_path, SENSOR)
    asyncio.run(running(config, act))
    # The second change came within the interval of the first: the stop itself recorded and flushed it.
    assert asyncio.run(last_telemetry(config)) == {OXYGEN: 8000.0}


def test_a_device_that_will_not_stop_keeps_nothing_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(daemon: Daemon) -> None:
        await until(lambda: daemon.status()["units"].get("device-sensor") == "running")
        ScriptedSensor.made.read_out(OXYGEN, 9000.0, "kPa")
        await until(lambda: OXYGEN in daemon.status()["vehicle"])
        monkeypatch.setattr(ScriptedSensor, "hangs", True)

    config = configuration(tmp_path, SENSOR, supervision={"stop_sources_s": 0.2, "stop_uplink_s": 0.2})

    async def main() -> None:
        await running(config, act)
        monkeypatch.setattr(ScriptedSensor, "hangs", False)
        late = [task for task in asyncio.all_tasks() if task.get_name() == "unit-device-sensor"]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    asyncio.run(main())
    assert asyncio.run(last_telemetry(config)) == {OXYGEN: 9000.0}


def test_what_is_staged_is_on_the_disk_when_the_ignition_goes_off(tmp_path: Path) -> None:
    async def act(daemon: Daemon) -> None:
        await until(lambda: daemon.status()["units"].get("device-sensor") == "running")
        ScriptedSensor.made.read_out(IGNITION, "ON")
        await until(lambda: daemon.status()["vehicle"].get(IGNITION) == "ON")
        ScriptedSensor.made.read_out(IGNITION, "OFF")
        # Long before the group commit of 300 s, and without a stop.
        await until(lambda: daemon.status()["vehicle"].get(IGNITION) == "OFF")
        await until(lambda: daemon.outbox.last_seq(Stream.TRAIL) > 0)
        await until(lambda: not daemon.outbox_report()["not_yet_on_disk_records"])

    asyncio.run(running(configuration(tmp_path, SENSOR), act))


def test_a_second_agent_with_the_same_socket_does_not_start(tmp_path: Path) -> None:
    config = configuration(tmp_path)

    async def act(daemon: Daemon) -> None:
        del daemon
        with pytest.raises(DaemonRunningError):
            await Daemon(config, VehiclePlatform()).run()

    asyncio.run(running(config, act))


def test_dispatch_that_asks_for_a_report_gets_the_states_the_next_fix_and_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(daemon: Daemon) -> None:
        asked: list[object] = []
        monkeypatch.setattr(daemon.publisher, "tell_states", lambda: asked.append("states"))

        def reply(reply: Reply, _: object) -> bool:
            asked.append(reply)
            return True

        monkeypatch.setattr(daemon.publisher, "reply", reply)
        monkeypatch.setattr(daemon._fixes, "tell_next", lambda: asked.append("fix"))
        daemon.publisher._commands.take(Topics("test", "T1").command("report-now"), b'{"id": "7"}', 0.0)
        assert asked == ["fix", "states", Reply("report-now", "accepted", "7")]

    asyncio.run(running(configuration(tmp_path), act))


def test_a_dbc_that_can_not_be_read_takes_its_bus_and_nothing_else(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(DecoderCache, "decoder_by", unreadable)
    vehicle = str(checkout / "config" / "vehicles" / "demo_ambulance.toml")
    bus = {"kind": "can_slcan", "device": "/dev/absent", "bitrate": 500000, "vehicle": vehicle}

    async def act(daemon: Daemon) -> None:
        await until(lambda: HealthReason.CAN_LOST in daemon.health.reasons())
        assert "its DBC can not be read: Input/output error" in daemon.health.details()[HealthReason.CAN_LOST]
        await until(lambda: daemon.status()["units"]["device-can0"].startswith("waiting"))
        assert HealthReason.UNIT_RESTARTED not in daemon.health.reasons()

    asyncio.run(running(configuration(tmp_path, bus), act))


def test_a_status_socket_that_can_not_be_made_is_a_reason_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.app.daemon.SOCKET_RETRY_S", 0.02)
    (tmp_path / "run").write_text("in the way of the folder")

    async def act(daemon: Daemon) -> None:
        assert HealthReason.STATUS_FAILED in daemon.health.reasons()
        (tmp_path / "run").unlink()
        await until(lambda: HealthReason.STATUS_FAILED not in daemon.health.reasons())
        assert (await asyncio.to_thread(ask, tmp_path / "run" / "mdt.sock", "status"))["unit"] == "test/T1"

    asyncio.run(running(configuration(tmp_path, status_socket="run/mdt.sock"), act))


def test_no_command_of_a_dispatch_gone_mad_can_fill_the_card_in_a_day(tmp_path: Path) -> None:
    """Whatever makes records that are kept for ever is bounded by the hour."""
    only_answered = {"replay", "new-journal", "ping", "report-now", "diagnostics", "fetch"}

    async def act(daemon: Daemon) -> None:
        rows = daemon.publisher._commands._rows
        assert set(rows) >= {*only_answered, "assign", "answer", "acknowledge", "service"}
        for name, row in rows.items():
            if name not in only_answered:
                assert row.per_s * 3600 <= 120, name
                assert row.burst <= 64, name

    asyncio.run(running(configuration(tmp_path), act))


def test_commands_beyond_what_an_hour_may_bring_are_dropped_and_told(tmp_path: Path) -> None:
    async def act(daemon: Daemon) -> None:
        table, topic = daemon.publisher._commands, Topics("test", "T1").command("message")
        for second in range(3600):
            for _ in range(10):
                payload = b'{"id": "%d", "text": "x"}' % second
                table.take(topic, payload, 1e6 + second)
        counts = table.snapshot()["message"]
        assert counts["taken"] + counts["refused"] <= 64 + 120 + 1
        assert counts["dropped"] > 35_000

    asyncio.run(running(configuration(tmp_path), act))
