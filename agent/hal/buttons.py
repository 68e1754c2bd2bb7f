"""Crew buttons and the lamps beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, Protocol

from agent.domain.crew import ButtonEdge
from agent.hal.feed import Feed

__all__ = ["SYSTEM_LAMP", "ButtonEdge", "ButtonPanel", "Lamp"]


SYSTEM_LAMP: Final = "system"
"""Name of the lamp that belongs to no key: whether the agent lives, is well, and reaches dispatch."""


class Lamp(StrEnum):
    """What a lamp says about the last press of its button."""

    OFF = "off"
    NOT_STORED = "not_stored"
    """Pressed, but not on disk: the press would not survive a power cut."""
    STORED = "stored"
    """On disk: it will reach dispatch, also after a power cut."""
    DELIVERED = "delivered"
    """The broker has it."""
    RECEIVED = "received"
    """Dispatch's receipt came."""
    REFUSED = "refused"
    """Dispatch refused it."""


class ButtonPanel(Feed[ButtonEdge], Protocol):
    """Buttons to read and lamps to light.

    A panel may keep each edge and send it again until it is acknowledged, also across a restart of the agent:
    `(device_session, device_seq)` tells a repeat from a new edge. One panel object gives each edge once.
    """

    async def show(self, key: str, lamp: Lamp) -> None:
        """Light the lamp of `key`. A panel without lamps ignores it. Raises HardwareError."""
        ...

    async def acknowledge(self, edge: ButtonEdge) -> None:
        """Say that `edge` is on disk, or means nothing: the device may forget it. Raises HardwareError.

        Never to be called before the COMMIT of what the edge gave: until then the device's memory is the only
        one that survives a kill. A panel that keeps no edges ignores it.
        """
        ...

    async def sound(self, pattern_ms: Sequence[int]) -> None:
        """Sound the buzzer, if it has one: milliseconds on and off by turns. Raises HardwareError."""
        ...

    def noise(self) -> Mapping[str, int]:
        """How often so far each key bounced, or had an edge lost, without an edge that tells of it."""
        ...
