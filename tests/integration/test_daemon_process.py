"""The real daemon as a process: killed, stopped, asked; with a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.daemon_reports import outbox, status
from agent.cli.exit_code import ExitCode
from agent.domain.record import Kind, StatusChange
from agent.domain.state import LinkState, StatusState
from agent.hal.buttons import Lamp
from hil.broker_process import BrokerOptions, EmbeddedBroker, find_mosquitto
from hil.drive.shift import load_shift
from hil.process.process_rig import ProcessRig
from hil.process.store_counters import last_sequences
from hil.sim.mangle import mangle

KEYS = ("en_route", "on_scene", "transporting", "at_destination", "available")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's is limited to 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


def statuses(rig: ProcessRig) -> list[str]:
    bodies = [arrival.record.body for arrival in rig.dispatch.arrivals]
    return [body.status for body in bodies if isinstance(body, StatusChange)]


def test_a_daemon_killed_again_and_again_loses_no_press(folder: Path) -> None:
    async def main() -> None:
        async with ProcessRig(folder) as rig:
            await rig.boot()
            for round_number in range(3):
                for key in KEYS:
                    rig.press(key)
                    await asyncio.sleep(0.02)
                    rig.release(key)
                if round_number == 0:
                    # In the very act: some presses are on disk, some on the line, some only in the box.
                    rig.agent.kill()
                elif round_number == 1:
                    await rig.box.wait_lamp("available", Lamp.STORED, Lamp.DELIVERED)
                    rig.agent.kill()
                await rig.agent.wait_ready()
            await rig.box.wait_acknowledged(within_s=20)
            assert await rig.wait_delivered(20)
            assert rig.agent.starts == 3
            await rig.agent.stop()
            made = last_sequences(rig.store_file)
            async with asyncio.timeout(10):
                while len(rig.dispatch.arrivals) + rig.dispatch.reader.counts.told_gone < sum(made.values()):
                    await asyncio.sleep(0.02)
            assert statuses(rig) == list(KEYS) * 3
            seen = Counter((a.record.stream, a.record.seq) for a in rig.dispatch.arrivals)
            assert set(seen.values()) == {1}

    asyncio.run(main())


def test_status_survives_a_restart_and_an_orderly_stop_says_so(folder: Path) -> None:
    async def main() -> None:
        async with ProcessRig(folder) as rig:
            await rig.boot()
            await rig.box.click("on_scene", hold_s=0.02)
            await rig.box.wait_lamp("on_scene", Lamp.DELIVERED)
            assert await rig.agent.stop() == 0
            async with asyncio.timeout(5):
                while (link := rig.dispatch.states.get("link")) is None or getattr(link, "online", True):
                    await asyncio.sleep(0.02)
            assert isinstance(link, LinkState)
            assert link.planned
            rig.dispatch.states.clear()
            await rig.boot()
            async with asyncio.timeout(10):
                while "status" not in rig.dispatch.states:
                    await asyncio.sleep(0.02)
            state = rig.dispatch.states["status"]
            assert isinstance(state, StatusState)
            assert state.status == "on_scene"
            # The same key again is no new status, also after a restart.
            await rig.box.click("on_scene", hold_s=0.02)
            await rig.box.wait_acknowledged()
            assert await rig.wait_delivered(10)
            assert statuses(rig) == ["on_scene"]

    asyncio.run(main())


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_a_broker_of_mqtt_3_1_1_and_both_encodings(folder: Path, encoding: str) -> None:
    async def main() -> None:
        rig = ProcessRig(folder, overrides={"uplink": {"encoding": encoding}})
        rig.broker = EmbeddedBroker(folder / "broker", BrokerOptions())
        async with rig:
            await rig.boot()
            shift = load_shift("emergency_call", 3)
            await rig.play(shift.items(), speed=20)
            assert await rig.wait_delivered(20)
            pressed = [press.key for press in shift.presses if press.key != "emergency"]
            assert statuses(rig) == pressed
            kinds = {arrival.record.kind for arrival in rig.dispatch.arrivals}
            assert {Kind.POSITION, Kind.TELEMETRY, Kind.STATUS, Kind.EMERGENCY} <= kinds
            link = rig.dispatch.states["link"]
            assert isinstance(link, LinkState)
            assert link.mqtt_version == 4
            assert rig.dispatch.refused == []
            assert not rig.adapter.transmit_requests

    asyncio.run(main())


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_status_and_outbox_read_well(folder: Path) -> None:
    async def main() -> tuple[str, str]:
        async with ProcessRig(folder) as rig:
            await rig.boot()
            await rig.box.click("available", hold_s=0.02)
            await rig.box.wait_lamp("available", Lamp.DELIVERED)

            def ask() -> tuple[str, str]:
                text, raw = io.StringIO(), io.StringIO()
                with contextlib.redirect_stdout(text):
                    assert status(None, rig.config_file, as_json=False) == ExitCode.OK
                with contextlib.redirect_stdout(raw):
                    assert outbox(None, rig.config_file, as_json=True) == ExitCode.OK
                return text.getvalue(), raw.getvalue()

            return await asyncio.to_thread(ask)

    text, raw = asyncio.run(main())
    assert "boston-ems/A1" in text
    assert "available" in text
    report = json.loads(raw)
    assert report["streams"]["events"]["last_seq"] == 1


def test_asking_a_daemon_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(folder / "mdt.sock", folder / "unused.toml", as_json=False) == ExitCode.UNAVAILABLE
    assert "does not answer" in capsys.readouterr().err


def test_the_daemon_starts_whatever_lies_in_its_folder(folder: Path) -> None:
    async def main() -> None:
        rng = random.Random(8)
        async with ProcessRig(folder) as rig:
            await rig.boot()
            for key in KEYS:
                await rig.box.click(key, hold_s=0.02)
            await rig.box.wait_acknowledged()
            assert await rig.agent.stop() == 0
            shutil.copytree(rig.store_file, folder / "sound")
            starts = rig.agent.starts
            for number in range(6):
                shutil.rmtree(rig.store_file)
                shutil.copytree(folder / "sound", rig.store_file)
                what = mangle(rig.store_file, rng)
                await rig.boot()
                key = KEYS[number % 2]
                await rig.box.click(key, hold_s=0.02)
                await rig.box.wait_lamp(key, Lamp.STORED, Lamp.DELIVERED)
                starts += 1
                assert rig.agent.starts == starts, f"it started more than once on {what}"
                assert await rig.agent.stop() == 0

    asyncio.run(main())
