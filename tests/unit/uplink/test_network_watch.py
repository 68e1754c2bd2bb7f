"""Changes of the network are passed on once they have settled; a kernel that will not tell is named."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agent.domain.health import HealthBoard, HealthReason
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from agent.hal.network import NetworkChange
from agent.uplink.network_watch import SETTLES_IN_S, NetworkWatch
from tests.unit.uplink.publisher_rig import until, virtually


class ScriptedFeed:
    """What the kernel tells, or why it does not."""

    name = "netlink"

    def __init__(self) -> None:
        self.changes: asyncio.Queue[NetworkChange | Exception] = asyncio.Queue()
        self.refuses = False
        self.opened = 0
        self.closed = 0

    async def open(self) -> None:
        self.opened += 1
        if self.refuses:
            raise DeviceNotFoundError(self.name, "not permitted")

    async def read(self) -> Sequence[NetworkChange]:
        change = await self.changes.get()
        if isinstance(change, Exception):
            raise change
        return [change]

    async def close(self) -> None:
        self.closed += 1


def test_changes_that_belong_together_are_passed_on_once() -> None:
    async def work() -> None:
        feed, health, heard = ScriptedFeed(), HealthBoard(), list[float]()
        loop = asyncio.get_running_loop()
        watch = NetworkWatch(feed, health, lambda: heard.append(loop.time()))
        task = asyncio.create_task(watch.run(lambda: None))
        begun = loop.time()
        for what in ("wwan0 up", "address 192.0.2.7 new", "route default new"):
            feed.changes.put_nowait(NetworkChange(what))
            await asyncio.sleep(SETTLES_IN_S / 10)
        await asyncio.sleep(1)
        assert [round(at - begun, 2) for at in heard] == [SETTLES_IN_S]
        feed.changes.put_nowait(NetworkChange("wwan0 down"))
        await until(lambda: len(heard) == 2)
        task.cancel()
        await asyncio.wait([task])
        assert feed.closed == 1

    virtually(work)


def test_kernel_that_will_not_tell_is_a_named_reason_until_it_does() -> None:
    async def work() -> None:
        feed, health = ScriptedFeed(), HealthBoard()
        watch = NetworkWatch(feed, health, lambda: None)
        feed.refuses = True
        with pytest.raises(DeviceNotFoundError):
            await watch.run(lambda: None)
        assert health.reasons() == (HealthReason.NETWORK_UNWATCHED,)
        feed.refuses = False
        task = asyncio.create_task(watch.run(lambda: None))
        await until(lambda: not health.reasons())
        feed.changes.put_nowait(DeviceLostError("netlink", "gone"))
        with pytest.raises(DeviceLostError):
            await task
        assert health.reasons() == (HealthReason.NETWORK_UNWATCHED,)

    virtually(work)
