"""The platform of a real vehicle: real devices, clocks and threads. Drivers load only when configured."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence

from agent import config
from agent.app.platform import CanFilter, CountedCanFeed
from agent.hal.buttons import ButtonPanel
from agent.hal.clock import Clock
from agent.hal.gnss import NmeaFeed
from agent.runtime.worker import ThreadWorker, Worker
from agent.uplink.link.link import Link


class VehiclePlatform:
    """Implements agent.app.platform.Platform."""

    def clock(self) -> Clock:
        """The computer's clocks."""
        from firmware_shims.system_clock import SystemClock

        return SystemClock()

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

    def nmea(self, settings: config.Gnss, clock: Clock) -> NmeaFeed:
        """Serial port, PTY or TCP."""
        from firmware_shims.serial_line import SerialLine
        from firmware_shims.serial_nmea import SerialNmea

        return SerialNmea(SerialLine(settings.device, settings.baud), clock)

    def can(self, settings: config.Can, wanted: Sequence[CanFilter], clock: Clock) -> CountedCanFeed:
        """SocketCAN or SLCAN by python-can."""
        from firmware_shims.can_bus import CanBus

        return CanBus(settings, clock, wanted=wanted)

    def button_box(self, settings: config.ButtonBox, clock: Clock) -> ButtonPanel:
        """The serial box."""
        from firmware_shims.serial_button_box import SerialButtonBox
        from firmware_shims.serial_line import SerialLine

        line = SerialLine(settings.device, settings.baud)
        return SerialButtonBox(line, clock, silent_after_s=settings.silent_after_s)

    def button_gpio(self, settings: config.ButtonGpio, clock: Clock) -> ButtonPanel:
        """Lines of a GPIO chip."""
        from firmware_shims.gpio_buttons import GpioButtons

        return GpioButtons(settings, clock)
