"""Telling the uplink that this computer's network changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from agent.domain.health import HealthBoard, HealthReason
from agent.hal.errors import HardwareError
from agent.hal.network import NetworkFeed
from agent.runtime.log import EventLog

log = EventLog("uplink")

TICK_S = 1.0
SETTLES_IN_S = 0.3
"""One change brings several: link, address and route. The last of them is the one that makes a connection."""


class NetworkWatch:
    """Reads the kernel's word on interfaces, addresses and routes, and passes it on once it has settled."""

    def __init__(self, feed: NetworkFeed, health: HealthBoard, changed: Callable[[], None]) -> None:
        self._feed = feed
        self._health = health
        self._changed = changed

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop; until cancelled.

        Raises HardwareError when the kernel will not tell, which is a reason on the board until it does.
        """
        try:
            await self._feed.open()
            self._health.clear(HealthReason.NETWORK_UNWATCHED)
            await self._watch(progress)
        except HardwareError as error:
            self._health.raise_(HealthReason.NETWORK_UNWATCHED, error.why)
            raise

    async def _watch(self, progress: Callable[[], None]) -> None:
        reading: asyncio.Task[None] | None = None
        try:
            reading = asyncio.create_task(self._read(), name="network-changes")
            while True:
                progress()
                done, _ = await asyncio.wait({reading}, timeout=TICK_S)
                if done:
                    reading.result()
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait({reading})
            await self._feed.close()

    async def _read(self) -> None:
        while True:
            changes = list(await self._feed.read())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLES_IN_S):
                    while True:
                        changes += await self._feed.read()
            log.info("network_changed", what=", ".join(change.what for change in changes[:8]))
            self._changed()
