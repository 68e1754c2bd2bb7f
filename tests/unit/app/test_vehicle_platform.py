"""The platform of a real vehicle makes what a configuration asks for, and opens nothing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from agent.app.devices import KINDS, validate
from agent.app.vehicle_platform import VehiclePlatform
from agent.config import ButtonDevice, CanDevice
from agent.hal.errors import HardwareError

NEEDED: dict[str, dict[str, Any]] = {
    "gnss_serial": {"device": "absent"},
    "gnss_tcp": {"host": "127.0.0.1", "port": 9},
    "can_socketcan": {"channel": "can77", "vehicle": "absent.toml"},
    "can_slcan": {"device": "absent", "vehicle": "absent.toml"},
    "button_box": {"device": "absent"},
    "button_gpio": {"chip": "absent", "lines": {"available": 1}},
    "temperature_w1": {"path": "absent"},
}
"""What blocks need beside their kind."""


@pytest.mark.parametrize("kind", sorted(NEEDED))
def test_a_device_that_is_absent_is_made_and_is_a_hardware_error_when_it_is_used(
    tmp_path: Path, kind: str
) -> None:
    table = {
        "unit": {"agency": "test", "unit": "T1"},
        "uplink": {"brokers": [{"host": "127.0.0.1", "port": 9, "allow_plaintext": True}]},
        "device": [{"kind": kind, **NEEDED[kind]}],
    }
    (device,) = validate(table, tmp_path / "agent.toml").devices
    platform = VehiclePlatform()
    feed = platform.feed(device, platform.clock())
    assert feed.name
    if isinstance(device, CanDevice):
        assert getattr(feed, "overruns") == 0  # noqa: B009  # of a feed of frames
    if isinstance(device, ButtonDevice):
        assert callable(getattr(feed, "show"))  # noqa: B009  # of a panel

    async def use() -> None:
        try:
            await feed.open()
            await feed.read()
        finally:
            await feed.close()
            await feed.close()

    with pytest.raises(HardwareError) as caught:
        asyncio.run(use())
    assert caught.value.device == feed.name


def test_every_kind_of_the_table_that_needs_no_more_is_tried_here() -> None:
    assert set(NEEDED) <= set(KINDS)


def test_randomness_clock_and_workers_are_the_computers() -> None:
    platform = VehiclePlatform()
    assert isinstance(platform.random(), random.SystemRandom)
    assert len(platform.entropy()(8)) == 8
    assert len(platform.clock().boot_id) == 32

    async def work() -> int:
        worker = platform.worker("test")
        try:
            return await worker.run(lambda: 5)
        finally:
            await worker.close()

    assert asyncio.run(work()) == 5
