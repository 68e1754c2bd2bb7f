"""What the daemon is built from. The vehicle's and the harness's platforms make the same things."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from agent import config
from agent.domain.device_health import ComputerState
from agent.hal.clock import Clock
from agent.hal.feed import Feed
from agent.hal.network import NetworkFeed
from agent.hal.power import PowerSwitch
from agent.runtime.worker import Worker
from agent.uplink.link.link import Link


class Platform(Protocol):
    """Makes the devices, clocks and threads that a configuration asks for; opens none of them."""

    def clock(self) -> Clock:
        """The clocks of this boot."""
        ...

    def built_utc_ms(self) -> int | None:
        """UTC before which no true date lies; None where the past is played."""
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

    def network(self) -> NetworkFeed | None:
        """What tells of changes of this computer's network; None where nothing does."""
        ...

    def computer(self, data: Path) -> Callable[[], ComputerState]:
        """Reads how the computer is, with the disk that a folder lies on. Blocking."""
        ...

    def power_switch(self, file: Path) -> PowerSwitch:
        """What asks the system to turn the computer off; `file` is what systemd waits for."""
        ...

    def time_service(self, path: Path) -> Callable[[float], None]:
        """What takes, for the system clock, how many seconds the true time is ahead of it.

        It raises HardwareError while it is away.
        """
        ...

    def feed(self, device: config.Device, clock: Clock) -> Feed[Any]:
        """What reads a device; `device` says by its class what comes: bytes, frames, edges or samples."""
        ...
