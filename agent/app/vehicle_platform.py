"""The platform of a real vehicle: real devices, clocks and threads. Drivers load only when configured."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent import NOT_BEFORE, config
from agent.app.devices import KINDS
from agent.domain.device_health import ComputerState
from agent.hal.clock import Clock
from agent.hal.feed import Feed
from agent.hal.network import NetworkFeed
from agent.hal.power import PowerSwitch
from agent.runtime.worker import ThreadWorker, Worker
from agent.uplink.link.link import Link


class VehiclePlatform:
    """Implements agent.app.platform.Platform."""

    def clock(self) -> Clock:
        """The computer's clocks."""
        from firmware_shims.system_clock import SystemClock

        return SystemClock()

    def built_utc_ms(self) -> int | None:
        """That of this program."""
        return round(datetime.fromisoformat(NOT_BEFORE).replace(tzinfo=UTC).timestamp() * 1000)

    def random(self) -> random.Random:
        """Seeded by the system."""
        return random.SystemRandom()

    def entropy(self) -> Callable[[int], bytes]:
        """The kernel's."""
        return os.urandom

    def worker(self, name: str) -> Worker:
        """A thread of its own."""
        return ThreadWorker(name)

    def link(self) -> Link:
        """MQTT by paho."""
        from agent.runtime.spared_library import spared

        # paho would ask it for a proxy, if a library for proxies were installed.
        with spared("urllib.request"):
            from agent.uplink.link.paho_link import PahoLink

        return PahoLink()

    def network(self) -> NetworkFeed:
        """The kernel's word."""
        from firmware_shims.netlink import NetlinkFeed

        return NetlinkFeed()

    def computer(self, data: Path) -> Callable[[], ComputerState]:
        """Linux, by /sys and /proc."""
        from firmware_shims.computer import LinuxComputer

        return LinuxComputer(data).read

    def power_switch(self, file: Path) -> PowerSwitch:
        """By a file and a path unit of systemd."""
        from firmware_shims.power_request import PowerRequest

        return PowerRequest(file)

    def time_service(self, path: Path) -> Callable[[float], None]:
        """Chrony, by a datagram socket."""
        from firmware_shims.chrony_socket import ChronySocket

        return ChronySocket(path, self.clock()).tell

    def feed(self, device: config.Device, clock: Clock) -> Feed[Any]:
        """By the table of devices."""
        return KINDS[device.kind].feed(device, clock)
