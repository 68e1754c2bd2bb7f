"""What the daemon is built from. The vehicle's and the harness's platforms make the same things."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from agent import config
from agent.hal.buttons import ButtonPanel
from agent.hal.can import CanFeed
from agent.hal.clock import Clock
from agent.hal.gnss import NmeaFeed
from agent.runtime.worker import Worker
from agent.uplink.link.link import Link

CanFilter = tuple[int, int, bool]
"""(identifier, mask, extended): frames of that format whose masked identifier is this one."""


class CountedCanFeed(CanFeed, Protocol):
    """A bus whose driver counts the frames it knows to be lost."""

    @property
    def overruns(self) -> int:
        """Frames lost since the bus was opened."""
        ...


class Platform(Protocol):
    """Makes the devices, clocks and threads that a configuration asks for; opens none of them."""

    def clock(self) -> Clock:
        """The clocks of this boot."""
        ...

    def random(self) -> random.Random:
        """Randomness for back-off and session numbers."""
        ...

    def entropy(self) -> Callable[[int], bytes]:
        """Randomness for identities that must be unique among vehicles."""
        ...

    def worker(self, name: str) -> Worker:
        """Where blocking work is done, one worker for each purpose."""
        ...

    def link(self) -> Link:
        """A connection to a broker."""
        ...

    def nmea(self, settings: config.Gnss, clock: Clock) -> NmeaFeed:
        """A GNSS receiver."""
        ...

    def can(self, settings: config.Can, wanted: Sequence[CanFilter], clock: Clock) -> CountedCanFeed:
        """A vehicle bus; only frames that are `wanted` pass, all of them when it is empty."""
        ...

    def button_box(self, settings: config.ButtonBox, clock: Clock) -> ButtonPanel:
        """A serial button box."""
        ...

    def button_gpio(self, settings: config.ButtonGpio, clock: Clock) -> ButtonPanel:
        """Buttons on GPIO lines."""
        ...
