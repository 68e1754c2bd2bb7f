"""A vehicle bus, as frames that were heard. There is no way to send through this interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from agent.hal.feed import Feed


class CanFrame(NamedTuple):
    """A data frame heard on the bus. A tuple, because thousands are made a second.

    Attributes:
        can_id: 11- or 29-bit identifier.
        extended: True for a 29-bit identifier.
        data: 0 to 64 bytes.
        received_boottime_ns: CLOCK_BOOTTIME when it was read.
    """

    can_id: int
    extended: bool
    data: bytes
    received_boottime_ns: int


CanFilter = tuple[int, int, bool]
"""(identifier, mask, extended): frames of that format whose masked identifier is this one."""


class CanFeed(Feed[CanFrame], Protocol):
    """A bus whose driver counts the frames it knows to be lost."""

    @property
    def overruns(self) -> int:
        """Frames known to be lost since the bus was opened; 0 where the driver can not know."""
        ...

    @property
    def error_frames(self) -> int:
        """Error frames of the controller since the bus was opened; 0 where the driver hears of none."""
        ...

    def listen_for(self, wanted: Sequence[CanFilter]) -> None:
        """Pass only frames that are `wanted` from the next `open` on; all of them when it is empty."""
        ...
