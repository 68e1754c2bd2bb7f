"""Telling the uplink that this computer's network changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from agent.hal.network import NetworkFeed
from agent.runtime.log import EventLog

log = EventLog("uplink")

TICK_S = 1.0
SETTLES_IN_S = 0.3
"""One change brings several: link, address and route. The last of them is the one that makes a connection."""


class NetworkWatch:
    """Reads the kernel's word on interfaces, addresses and routes, and passes it on once it has settled."""

    def __init__(self, feed: NetworkFeed, changed: Callable[[], None]) -> None:
        self._feed = feed
        self._changed = changed

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop; until cancelled. Raises HardwareError when the kernel will not tell."""
        await self._feed.open()
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
