"""One boot's end of the button box's line: the box keeps its power, the computer may lose its own."""

from __future__ import annotations

from agent.hal.errors import DeviceLostError
from firmware_shims.simulated.memory_button_box import MemoryButtonBox


class BootLine:
    """The `Line` of a `SerialButtonBox` that is dead once its computer is."""

    def __init__(self, box: MemoryButtonBox) -> None:
        self.device = box.device
        self._box = box
        self._is_open = False
        self._dead = False

    async def open(self) -> None:
        """See MemoryButtonBox.open."""
        self._require_power()
        await self._box.open()
        self._is_open = True

    async def read(self) -> bytes:
        """See MemoryButtonBox.read."""
        self._require_power()
        return await self._box.read()

    async def write(self, data: bytes) -> None:
        """See MemoryButtonBox.write."""
        self._require_power()
        await self._box.write(data)

    async def close(self) -> None:
        """Let go of the line, if it is still ours."""
        if not self._dead and self._is_open:
            self._is_open = False
            await self._box.close()

    def die(self) -> None:
        """The computer has no power any more."""
        if not self._dead:
            self._dead = True
            self._box.hang_up()

    def _require_power(self) -> None:
        if self._dead:
            raise DeviceLostError(self.device, "the computer has no power")
