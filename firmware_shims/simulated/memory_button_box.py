"""A button box in memory: the real driver reads it without a PTY, in whatever time the event loop keeps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from firmware_shims.simulated.button_box import BoxFirmware


def _unharmed(data: bytes) -> bytes:
    return data


class MemoryButtonBox:
    """Is the `Line` of a `SerialButtonBox`, and the box at its other end. Used from one event loop.

    Nothing moves by itself but through the loop's own timers, so that a run on a manual clock is
    deterministic.

    Args:
        rng: makes session numbers.
        device: name for messages.

    Attributes:
        firmware: the box itself; made by `start`.
        to_agent: what becomes of bytes on their way to the agent; to be replaced by whoever wants to harm
            them.
        to_box: the same for the other way.
    """

    def __init__(self, rng: random.Random, device: str = "memory-button-box") -> None:
        self.device = device
        self.firmware: BoxFirmware
        self.to_agent: Callable[[bytes], bytes] = _unharmed
        self.to_box: Callable[[bytes], bytes] = _unharmed
        self._rng = rng
        self._plugged = False
        self._is_open = False
        self._arrived = bytearray()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Power up and plug in; must be called on the running loop."""
        self.firmware = BoxFirmware(self._rng, self._now_s())
        self._plugged = True
        self._tick()

    def stop(self) -> None:
        """Unplug and end. Idempotent."""
        self.unplug()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def plug(self) -> None:
        """Connect the cable; the agent has to open the line again."""
        self._plugged = True

    def unplug(self) -> None:
        """Pull the cable."""
        self._plugged = self._is_open = False
        self._wake.set()

    def power_cycle(self) -> None:
        """Switch the box off and on at once, its cable in place."""
        self.firmware.power_cycle(self._now_s())
        self._tick()

    def press(self, key: str) -> float:
        """Push `key` down; returns when, in `loop.time()`."""
        return self._edge(key, pressed=True)

    def release(self, key: str) -> float:
        """Let `key` go; returns when."""
        return self._edge(key, pressed=False)

    async def open(self) -> None:
        """The agent opens the line. Raises DeviceNotFoundError while the cable is out."""
        if not self._plugged:
            raise DeviceNotFoundError(self.device, "no such device")
        self._arrived.clear()
        self._is_open = True
        self.firmware.greet(self._now_s())

    async def read(self) -> bytes:
        """Bytes from the box. Raises DeviceLostError when the cable is out."""
        while not self._arrived:
            self._require_open()
            self._wake.clear()
            await self._wake.wait()
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    async def write(self, data: bytes) -> None:
        """Bytes to the box. Raises DeviceLostError when the cable is out."""
        self._require_open()
        self.firmware.receive(self.to_box(data), self._now_s())

    async def close(self) -> None:
        """The agent lets go of the line."""
        self.hang_up()

    def hang_up(self) -> None:
        """Nobody has the line open any more."""
        self._is_open = False
        self._wake.set()

    def _require_open(self) -> None:
        if not self._is_open:
            raise DeviceLostError(self.device, "unplugged" if not self._plugged else "not open")

    def _edge(self, key: str, *, pressed: bool) -> float:
        now_s = self._now_s()
        self._send(self.firmware.edge(key, pressed, now_s))
        self._tick()
        return now_s

    def _tick(self) -> None:
        """Say what is due, and come back when more is: a simulated shift has no time for idle ticks."""
        self._send(self.firmware.tick(self._now_s()))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self.firmware.due_s, self._tick)

    def _send(self, data: bytes) -> None:
        if data and self._is_open:
            self._arrived += self.to_agent(data)
            self._wake.set()

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
