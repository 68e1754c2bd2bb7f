"""Telling a panel what became of its presses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NoReturn, Protocol

from agent.domain.crew import ButtonEdge
from agent.hal.buttons import Lamp
from agent.supervision.supervisor import Progress

_PROGRESS_EVERY_S = 1.0


class Panel(Protocol):
    """The side of a panel that is told things; never raises HardwareError, also while it is unplugged."""

    async def show(self, key: str, lamp: Lamp) -> None:
        """Light a lamp."""
        ...

    async def acknowledge(self, edge: ButtonEdge) -> None:
        """The edge is on disk, or means nothing."""
        ...

    async def sound(self, pattern_ms: Sequence[int]) -> None:
        """Sound the buzzer."""
        ...


class Voice(Protocol):
    """How a panel is told things without anybody waiting for it."""

    def show(self, key: str, lamp: Lamp) -> None:
        """Light a lamp."""
        ...

    def acknowledge(self, edge: ButtonEdge) -> None:
        """The edge is on disk, or means nothing."""
        ...


class NoVoice:
    """For presses of a screen, which is told everything by its snapshot."""

    def show(self, key: str, lamp: Lamp) -> None:
        """Nothing to light."""

    def acknowledge(self, edge: ButtonEdge) -> None:
        """Nothing to acknowledge."""


class PanelVoice:
    """Tells one panel things in order, without making a press wait for a slow line."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._messages: asyncio.Queue[ButtonEdge | tuple[str, Lamp] | list[int]] = asyncio.Queue()

    def show(self, key: str, lamp: Lamp) -> None:
        """Light a lamp."""
        self._messages.put_nowait((key, lamp))

    def acknowledge(self, edge: ButtonEdge) -> None:
        """The edge is on disk, or means nothing."""
        self._messages.put_nowait(edge)

    def sound(self, pattern_ms: Sequence[int]) -> None:
        """Sound the buzzer."""
        self._messages.put_nowait(list(pattern_ms))

    async def run(self, progress: Progress) -> NoReturn:
        """The unit's loop."""
        while True:
            progress()
            try:
                async with asyncio.timeout(_PROGRESS_EVERY_S):
                    message = await self._messages.get()
            except TimeoutError:
                continue
            if isinstance(message, ButtonEdge):
                await self._panel.acknowledge(message)
            elif isinstance(message, tuple):
                await self._panel.show(*message)
            else:
                await self._panel.sound(message)
