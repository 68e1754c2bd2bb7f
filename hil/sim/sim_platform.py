"""The platform of the simulated rig: scripted devices, a manual clock, a broker in memory, no threads."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import config
from agent.domain.device_health import ComputerState
from agent.hal.clock import Clock
from agent.hal.errors import HardwareError
from agent.hal.feed import Feed
from agent.hal.gnss import NmeaBytes
from agent.hal.samples import Sample
from agent.runtime.worker import Worker
from agent.uplink.link.link import Link
from firmware_shims.serial_button_box import ButtonBox, SerialButtonBox
from firmware_shims.simulated.memory_button_box import MemoryButtonBox
from firmware_shims.simulated.scripted_feed import ScriptedBus, ScriptedFeed
from hil.sim.boot_line import BootLine
from hil.sim.hurt_disk import HurtWorker
from hil.sim.manual_clock import ManualClock
from hil.sim.memory_broker import MemoryBroker, MemoryLink, Network


class SimSwitch:
    """Implements agent.hal.power.PowerSwitch: remembers what it was asked, and does nothing.

    Attributes:
        refuses: whether asking fails.
        wanted: whether the computer is to be turned off.
        asked: how often it was to be.
    """

    def __init__(self) -> None:
        self.refuses = False
        self.wanted = False
        self.asked = 0

    def ask(self) -> None:
        """Remember it. Raises HardwareError."""
        if self.refuses:
            raise HardwareError("power", "permission denied")
        self.wanted, self.asked = True, self.asked + 1

    def withdraw(self) -> None:
        """Remember that it is no longer wanted."""
        self.wanted = False


class SimPlatform:
    """Implements agent.app.platform.Platform; one for each simulated boot.

    Attributes:
        gnss: the receiver.
        buses: vehicle buses by name.
        sensors: sensors by name.
        disk: where the outbox's work is done.
        computer_state: how the computer is.
        switch: how the computer is asked to turn itself off.
    """

    def __init__(
        self,
        clock: ManualClock,
        broker: MemoryBroker,
        network: Network,
        box: MemoryButtonBox,
        disk: HurtWorker,
        *,
        seed: int,
        built_utc_ms: int | None = None,
    ) -> None:
        self._clock = clock
        self._built_utc_ms = built_utc_ms
        self._broker = broker
        self._network = network
        self._seed = seed
        self._box = BootLine(box)
        self._links: list[MemoryLink] = []
        self.disk = disk
        self.computer_state = ComputerState()
        self.switch = SimSwitch()
        self.gnss: ScriptedFeed[NmeaBytes] = ScriptedFeed("sim-gnss")
        self.buses: dict[str, ScriptedBus] = {}
        self.sensors: dict[str, ScriptedFeed[Sample]] = {}

    def die(self) -> None:
        """The computer loses its power: nothing it still does reaches disk, network or box."""
        self.disk.dead = True
        for link in self._links:
            link.die()
        self._box.die()

    def clock(self) -> Clock:
        """The manual clock."""
        return self._clock

    def built_utc_ms(self) -> int | None:
        """As the rig has it: the drive may be of any year."""
        return self._built_utc_ms

    def random(self) -> random.Random:
        """Seeded: the same run gives the same back-offs."""
        return random.Random(self._seed)

    def entropy(self) -> Callable[[int], bytes]:
        """Seeded: the same run gives the same journal id."""
        return random.Random(self._seed ^ 0x5EED).randbytes

    def worker(self, name: str) -> Worker:
        """No thread."""
        del name
        return self.disk

    def link(self) -> Link:
        """To the broker in memory."""
        link = MemoryLink(self._broker, self._network)
        self._links.append(link)
        return link

    def network(self) -> None:
        """Nothing tells of the network in memory; what changes there is steered by the rig."""

    def computer(self, data: Path) -> Callable[[], ComputerState]:  # noqa: ARG002
        """A computer that tells what a scenario wants; by default nothing."""
        return lambda: self.computer_state

    def power_switch(self, file: Path) -> SimSwitch:  # noqa: ARG002
        """One that remembers."""
        return self.switch

    def time_service(self, path: Path) -> Callable[[float], None]:
        """Nobody: the simulated clock is stepped by the scenario."""
        raise NotImplementedError(str(path))

    def feed(self, device: config.Device, clock: Clock) -> Feed[Any]:
        """Scripted devices; for a button box the real driver, on a line in memory with the box at its end."""
        match device:
            case config.GnssDevice():
                return self.gnss
            case config.CanDevice():
                return self.bus(device.name)
            case config.SampleDevice():
                return self.sensor(device.name)
            case ButtonBox():
                return SerialButtonBox(self._box, clock, silent_after_s=device.silent_after_s)
            case _:
                raise NotImplementedError(f"{device.name}: the simulated rig has no {device.kind}")

    def bus(self, name: str) -> ScriptedBus:
        """The bus of that name; there is one of each."""
        return self.buses.setdefault(name, ScriptedBus(f"sim-{name}"))

    def sensor(self, name: str) -> ScriptedFeed[Sample]:
        """The sensor of that name; there is one of each."""
        return self.sensors.setdefault(name, ScriptedFeed(f"sim-{name}"))
