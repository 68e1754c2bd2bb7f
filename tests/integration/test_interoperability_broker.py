"""The Eclipse Paho interoperability broker, strict by the standard, with the least that is needed of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent.domain.health import HealthReason
from agent.domain.record import StatusChange
from agent.domain.state import LinkState
from agent.uplink.packet_limit import LEAST_BYTES
from hil.broker_process import BrokerOptions, BrokerUnavailableError, PahoTestBroker
from hil.drive.shift import load_shift
from hil.process.process_rig import ProcessRig
from hil.process.store_counters import last_sequences


def test_a_shift_through_a_broker_with_tiny_limits() -> None:
    async def main(folder: Path) -> None:
        rig = ProcessRig(folder)
        options = BrokerOptions(max_packet_bytes=LEAST_BYTES, receive_maximum=2)
        rig.broker = PahoTestBroker(folder / "broker", options)
        async with rig:
            await rig.boot()
            shift = load_shift("emergency_call", 3)
            await rig.play(shift.items(), speed=15)
            assert await rig.wait_delivered(30)
            await rig.agent.stop()
            bodies = [arrival.record.body for arrival in rig.dispatch.arrivals]
            statuses = [body.status for body in bodies if isinstance(body, StatusChange)]
            assert statuses == [press.key for press in shift.presses if press.key != "emergency"]
            made = sum(last_sequences(rig.store_file).values())
            async with asyncio.timeout(20):
                while rig.dispatch.reader.counts.accounted < made:
                    await asyncio.sleep(0.05)
            assert rig.dispatch.reader.counts.holes_open == rig.dispatch.reader.counts.told_gone == 0
            link = rig.dispatch.states["link"]
            assert isinstance(link, LinkState)
            assert link.mqtt_version == 5

    with_the_broker(main)


def test_as_it_ships_it_takes_too_little_and_is_named() -> None:
    async def main(folder: Path) -> None:
        rig = ProcessRig(folder)
        rig.broker = PahoTestBroker(folder / "broker", BrokerOptions())
        async with rig:
            await rig.boot()
            async with asyncio.timeout(30):
                while (status := await rig.agent.status()) is None or not says_why(status):
                    await asyncio.sleep(0.05)
            assert not status["link"]["connected"]

    with_the_broker(main)


def says_why(status: dict[str, Any]) -> bool:
    return f"{LEAST_BYTES} are needed" in status["health"].get(HealthReason.PACKET_TOO_LARGE, "")


def with_the_broker(main: Callable[[Path], Coroutine[Any, Any, None]]) -> None:
    with tempfile.TemporaryDirectory(prefix="mdt-") as folder:
        try:
            asyncio.run(main(Path(folder)))
        except BrokerUnavailableError as reason:
            pytest.skip(str(reason))
