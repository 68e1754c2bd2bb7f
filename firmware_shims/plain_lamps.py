"""Lamps that are only lit or dark, such as one on a line or the LED of a keyboard: how they blink tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from agent.hal.buttons import Lamp
from agent.hal.errors import HardwareError

STEP_S: Final = 0.25
_DARK, _LIT = "00000000", "11111111"
_PATTERNS: Final = {Lamp.OFF: _DARK, Lamp.NOT_STORED: "10101010", Lamp.REFUSED: "10100000"}
"""What a lamp does in each step of two seconds; of all others it is lit."""


class PlainLamps:
    """Keeps lamps as they are to be, also those that blink. Used from the event loop.

    Args:
        name: of the task that blinks.
        keys: keys that have a lamp; any other is ignored.
        light: lights and darkens lamps by key, all of them at once. Raises OSError or HardwareError.
    """

    def __init__(self, name: str, keys: Iterable[str], light: Callable[[Mapping[str, bool]], None]) -> None:
        self._name = name
        self._lamps = dict.fromkeys(keys, Lamp.OFF)
        self._light = light
        self._blinking: asyncio.Task[None] | None = None

    def show(self, key: str, lamp: Lamp, *, now: bool) -> None:
        """Remember what a lamp shows, and with `now` show it. Raises what `light` raises."""
        if key in self._lamps:
            self._lamps[key] = lamp
            if now:
                self.begin()

    def begin(self) -> None:
        """Show everything: the device is there. Raises what `light` raises."""
        if not self._lamps:
            return
        self._step(0)
        if self._blinks() and (self._blinking is None or self._blinking.done()):
            self._blinking = asyncio.create_task(self._blink(), name=f"blink {self._name}")

    async def end(self) -> None:
        """Blink no more. Idempotent."""
        blinking, self._blinking = self._blinking, None
        if blinking is not None:
            blinking.cancel()
            await asyncio.wait({blinking})

    def _blinks(self) -> bool:
        return any(_pattern(lamp) not in (_DARK, _LIT) for lamp in self._lamps.values())

    def _step(self, step: int) -> None:
        self._light({key: _pattern(lamp)[step % len(_LIT)] == "1" for key, lamp in self._lamps.items()})

    async def _blink(self) -> None:
        step = 0
        while self._blinks():
            await asyncio.sleep(STEP_S)
            step += 1
            try:
                self._step(step)
            except (OSError, HardwareError):
                return  # the device is gone: whoever reads it says so
        self._blinking = None


def _pattern(lamp: Lamp) -> str:
    return _PATTERNS.get(lamp, _LIT)
