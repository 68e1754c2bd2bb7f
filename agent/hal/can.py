"""A vehicle bus, as frames that were heard. There is no way to send through this interface."""

from __future__ import annotations

from dataclasses import dataclass

from agent.hal.feed import Feed


@dataclass(frozen=True, slots=True)
class CanFrame:
    """A data frame heard on the bus.

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


CanFeed = Feed[CanFrame]
