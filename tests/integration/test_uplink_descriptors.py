"""The real daemon without a free descriptor while its connection is lost, and while it is told to stop."""

from __future__ import annotations

import asyncio
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.domain.record import StatusChange
from hil.broker_process import find_mosquitto
from hil.process.process_rig import ProcessRig

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's is limited to 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


def descriptors(rig: ProcessRig, most: int | None) -> None:
    """Let the daemon open nothing with a number from `most` on; None for its usual limit."""
    assert rig.agent.pid is not None
    _, hard = resource.prlimit(rig.agent.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(rig.agent.pid, resource.RLIMIT_NOFILE, (hard if most is None else most, hard))


async def until(condition: Callable[[], bool], within_s: float = 40.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.05)


async def without_a_connection(rig: ProcessRig) -> None:
    """No descriptor is left, and the connection is lost."""
    await until(lambda: "mdt.daemon ready" in rig.agent.log_file.read_text(encoding="utf-8"))
    log = rig.agent.log_file.read_text(encoding="utf-8")
    descriptors(rig, 3)
    await rig.proxy.drop_connections()
    await until(lambda: "Too many open files" in rig.agent.log_file.read_text(encoding="utf-8")[len(log) :])


def test_reconnection_without_a_descriptor_is_made_once_there_is_one(folder: Path) -> None:
    async def main() -> None:
        async with ProcessRig(folder) as rig:
            await rig.boot()
            rig.press("en_route")
            await asyncio.sleep(0.1)
            rig.release("en_route")
            assert await rig.wait_delivered(20)
            pid = rig.agent.pid
            await without_a_connection(rig)
            # So long that every part which opens something now and then has met it.
            await until(
                lambda: rig.agent.log_file.read_text(encoding="utf-8").count("uplink_not_opened") >= 8
            )
            descriptors(rig, None)
            rig.press("on_scene")
            await asyncio.sleep(0.1)
            rig.release("on_scene")

            def came(status: str) -> bool:
                bodies = [arrival.record.body for arrival in rig.dispatch.arrivals]
                return any(isinstance(body, StatusChange) and body.status == status for body in bodies)

            await until(lambda: came("on_scene"))
            assert rig.agent.pid == pid, "it was not started again"
            assert "unit_failed" not in rig.agent.log_file.read_text(encoding="utf-8")

    asyncio.run(main())


def test_stop_without_a_descriptor_ends_within_its_deadlines(folder: Path) -> None:
    async def main() -> None:
        async with ProcessRig(folder) as rig:
            await rig.boot()
            rig.press("en_route")
            await asyncio.sleep(0.1)
            rig.release("en_route")
            assert await rig.wait_delivered(20)
            await without_a_connection(rig)
            # The harness kills what does not end in time, which would be a negative code.
            assert await rig.agent.stop() >= 0

    asyncio.run(main())
