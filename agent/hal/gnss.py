"""A GNSS receiver, as bytes."""

from __future__ import annotations

from dataclasses import dataclass

from agent.hal.feed import Feed


@dataclass(frozen=True, slots=True)
class NmeaBytes:
    """What one read of the receiver gave; cuts anywhere, also inside a sentence.

    Attributes:
        data: the bytes as received.
        received_boottime_ns: CLOCK_BOOTTIME when they were read.
    """

    data: bytes
    received_boottime_ns: int


NmeaFeed = Feed[NmeaBytes]
