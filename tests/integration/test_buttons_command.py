"""`mdt buttons` as an installer uses it: alone with a box and beside the agent; and what the cab hears."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.domain.state import LinkState
from agent.hal.buttons import Lamp
from firmware_shims.simulated.button_box import PtyButtonBox
from hil.broker_process import find_mosquitto
from hil.process.process_rig import ProcessRig

pytestmark = pytest.mark.timeout(300)
MDT = str(Path(sys.executable).parent / "mdt")
WITHIN_S = 60.0
BODY, OFF = 0x320, bytes((1, 0, 0, 0))
"""As the demo vehicle's DBC has it."""
CONFIG = """
status_socket = "{folder}/mdt.sock"
unit = {{ agency = "demo", unit = "T1" }}
[[device]]
kind = "button_box"
device = "{device}"
[[uplink.brokers]]
host = "127.0.0.1"
allow_plaintext = true
[buttons.keys]
on_scene = "on_scene"
emergency = "emergency"
[buzzer]
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's is limited to 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


class Command:
    """`mdt buttons` while it runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def says(self, text: str) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            while text not in self.said:
                line = await self.process.stdout.readline()
                assert line, f"it ended without {text!r}: {self.said}"
                self.said += line.decode()

    async def ends(self) -> tuple[int, str]:
        if self.process.returncode is None:
            self.process.terminate()
        out, errors = await self.process.communicate()
        self.said += out.decode()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


async def started(config: Path, *options: str) -> Command:
    command = (MDT, "buttons", "--config", str(config), *options)
    pipe = asyncio.subprocess.PIPE
    return Command(await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe))


def test_alone_it_shows_each_key_and_leaves_nothing_for_dispatch(folder: Path) -> None:
    async def main() -> None:
        box = PtyButtonBox(folder / "buttons0", random.Random(1))
        await box.start()
        config = folder / "agent.toml"
        config.write_text(CONFIG.format(folder=folder, device=box.link), encoding="utf-8")
        command = await started(config)
        try:
            await command.says("nothing that is pressed now is told to anybody")
            await command.says("is there")
            box.press("emergency")
            await command.says("means emergency")
            box.release("emergency")
            box.press("tea")
            await command.says("has no meaning")
            await box.wait_acknowledged(WITHIN_S)
        finally:
            code, errors = await command.ends()
            await box.stop()
        assert (code, errors) == (0, "")

    asyncio.run(main())


def test_alone_it_lights_every_lamp_and_sounds_every_sound(folder: Path) -> None:
    async def main() -> None:
        box = PtyButtonBox(folder / "buttons0", random.Random(1))
        await box.start()
        config = folder / "agent.toml"
        one_key = CONFIG.format(folder=folder, device=box.link).replace('emergency = "emergency"\n', "")
        config.write_text(one_key, encoding="utf-8")
        command = await started(config, "--lamps")
        try:
            await command.says("sound driving")
            async with asyncio.timeout(WITHIN_S):
                while len(box.firmware.sounds) < 5:
                    await asyncio.sleep(0.05)
        finally:
            await command.ends()
            await box.stop()
        shown = [(change.key, change.lamp) for change in box.firmware.changes]
        colours = [Lamp.NOT_STORED, Lamp.STORED, Lamp.DELIVERED, Lamp.RECEIVED, Lamp.REFUSED, Lamp.OFF]
        assert shown == [("on_scene", lamp) for lamp in colours]

    asyncio.run(main())


def test_presses_that_a_box_keeps_of_the_crew_are_left_to_the_agent(folder: Path) -> None:
    async def main() -> None:
        box = PtyButtonBox(folder / "buttons0", random.Random(1))
        await box.start()
        box.press("on_scene")
        box.release("on_scene")
        await asyncio.sleep(1.5)  # it was pressed before
        config = folder / "agent.toml"
        config.write_text(CONFIG.format(folder=folder, device=box.link), encoding="utf-8")
        command = await started(config)
        async with asyncio.timeout(WITHIN_S):
            await command.process.wait()
        code, errors = await command.ends()
        assert code == 69
        assert "keeps presses of the crew" in errors
        assert box.firmware.unacknowledged == 2
        await box.stop()

    asyncio.run(main())


def test_what_there_is_is_shown_also_where_there_is_nothing(folder: Path) -> None:
    async def main() -> None:
        command = await started(folder / "absent.toml", "--list")
        await command.says("input devices:")
        async with asyncio.timeout(WITHIN_S):
            await command.process.wait()
        assert (await command.ends())[0] == 0
        command = await started(folder / "absent.toml")
        async with asyncio.timeout(WITHIN_S):
            await command.process.wait()
        assert (await command.ends())[0] == 78

    asyncio.run(main())


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_beside_the_agent_it_looks_on_and_nothing_is_heard_of_an_emergency(folder: Path) -> None:
    async def main() -> None:
        power = {"off_after_s": 10, "low_battery_off_after_s": 10, "request_file": str(folder / "power-off")}
        overrides = {"buzzer": {"delivered": [70], "call": [500]}, "power": power | {"shut_down": True}}
        async with ProcessRig(folder, overrides=overrides) as rig:
            await rig.boot()
            refused = await started(rig.config_file, "--lamps")
            async with asyncio.timeout(WITHIN_S):
                await refused.process.wait()
            code, errors = await refused.ends()
            assert code == 69
            assert "stop it first" in errors
            looking = await started(rig.config_file)
            await looking.says("buttons0")
            await rig.box.click("available", hold_s=0.05)
            await looking.says("means available")
            await rig.box.wait_lamp("available", Lamp.DELIVERED, within_s=WITHIN_S)
            async with asyncio.timeout(WITHIN_S):
                while not rig.box.firmware.sounds:
                    await asyncio.sleep(0.05)
            assert rig.box.firmware.sounds == [(70,)]
            # The bus says that the ignition is off: the unit parks, and asks for the power to go.
            ignition_off = asyncio.create_task(_says_off(rig))
            async with asyncio.timeout(WITHIN_S):
                while not (folder / "power-off").exists():
                    await asyncio.sleep(0.1)
            link = rig.dispatch.states["link"]
            assert isinstance(link, LinkState)
            assert link.parked
            sounds = len(rig.box.firmware.sounds)
            await rig.box.click("emergency", hold_s=0.05)
            async with asyncio.timeout(WITHIN_S):
                while (folder / "power-off").exists():
                    await asyncio.sleep(0.1)
            assert await rig.wait_delivered(WITHIN_S)
            assert len(rig.box.firmware.sounds) == sounds, "never for the emergency"
            ignition_off.cancel()
            assert (await looking.ends())[1] == "", looking.said
            assert "means available" in looking.said
            status = await rig.agent.status()
            assert status is not None
            assert status["power"]["held_by"] == ["emergency"], json.dumps(status["power"])

    asyncio.run(main())


async def _says_off(rig: ProcessRig) -> None:
    while True:
        rig.say_can("can0", BODY, extended=False, data=OFF)
        await asyncio.sleep(0.2)
