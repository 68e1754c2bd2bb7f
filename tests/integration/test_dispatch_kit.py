"""Both halves of the conformance kit as commands, against the project's own unit and consumers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from agent.dispatch.kit_dispatch import SENTENCES
from agent.hal.buttons import Lamp
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.process.process_rig import ProcessRig
from tests.integration.spoken_vehicle import WITHIN_S, Vehicle

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(240),
]


def kit_dispatch(port: int, unit: str, *, wait_s: float) -> tuple[int, str]:
    command = [sys.executable, "-m", "agent.dispatch.main", "kit", "dispatch"]
    command += ["--broker", f"mqtt://127.0.0.1:{port}", "--agency", "boston-ems", "--unit", unit]
    done = subprocess.run(
        [*command, "--wait", str(wait_s)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        cwd=Path(__file__).parents[2],
    )
    return done.returncode, done.stdout + done.stderr


def test_the_projects_own_daemon_passes_every_sentence(tmp_path: Path) -> None:
    async def work() -> None:
        async with ProcessRig(tmp_path, receipts=False) as rig:
            await rig.boot()
            rig.press("en_route")
            rig.release("en_route")
            changes = rig.box.firmware.changes
            async with asyncio.timeout(WITHIN_S):
                # Connected, and the press at the broker: what is still on its way is not asked for again.
                while not any(change.lamp is Lamp.DELIVERED for change in changes):
                    await asyncio.sleep(0.02)
            code, text = await asyncio.to_thread(kit_dispatch, rig.broker.port, "A1", wait_s=20)
            assert text.count("pass  ") == len(SENTENCES), text
            assert code == 0

    asyncio.run(work())


def test_a_unit_that_is_not_there_fails(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        vehicle = Vehicle(broker.port)  # connected, and saying nothing
        code, text = kit_dispatch(broker.port, "A1", wait_s=0.5)
        vehicle.close()
    assert code == 1
    assert "FAIL  birth" in text
