"""A device that says what it is told to say, when it is told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from agent.hal.can import CanFilter, CanFrame
from agent.hal.errors import DeviceLostError, DeviceNotFoundError

Item = TypeVar("Item")


class ScriptedFeed(Generic[Item]):
    """Implements agent.hal.feed.Feed. Used from one loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._items: deque[Item] = deque()
        self._something = asyncio.Event()
        self._open = False
        self.plugged_in = True

    @property
    def name(self) -> str:
        """The device's name."""
        return self._name

    async def open(self) -> None:
        """Open; what was said while it was closed is gone, as on a real line. Raises DeviceNotFoundError."""
        if not self.plugged_in:
            raise DeviceNotFoundError(self._name, "no such device")
        self._items.clear()
        self._something.clear()
        self._open = True

    async def read(self) -> Sequence[Item]:
        """Wait for items. Raises DeviceLostError."""
        while not self._items:
            if not self.plugged_in:
                raise DeviceLostError(self._name, "the device went away")
            self._something.clear()
            await self._something.wait()
        items = tuple(self._items)
        self._items.clear()
        return items

    async def close(self) -> None:
        """Close. Idempotent."""
        self._open = False

    def say(self, item: Item) -> None:
        """Let the device say `item`; nobody hears it while it is closed or unplugged."""
        if self._open and self.plugged_in:
            self._items.append(item)
            self._something.set()

    def unplug(self) -> None:
        """Pull the plug."""
        self.plugged_in = False
        self._items.clear()
        self._something.set()

    def plug_in(self) -> None:
        """Put it back."""
        self.plugged_in = True


class ScriptedBus(ScriptedFeed[CanFrame]):
    """A scripted vehicle bus; the counts are set by whoever plays a flood or a bad wire."""

    overruns = 0
    error_frames = 0

    def listen_for(self, wanted: Sequence[CanFilter]) -> None:
        """All frames are scripted; none is filtered."""
