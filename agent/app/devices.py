"""The table of devices: what a `[[device]]` block of each kind is read by.

A newcomer adds a row here and a module beside the other drivers (docs/adding-a-device.md). What a device
gives, and with that where it goes, is told by which of the four blocks of `agent.config.devices` its settings
are: receiver, bus, buttons or sensor.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import config
from agent.hal.clock import Clock
from agent.hal.feed import Feed


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """A row of the table. Its module is imported when a configuration has a block of this kind.

    Attributes:
        module: where the driver is.
        settings: name of the class of its block's settings there.
        driver: name of what makes the feed there, called with settings and clock: a class or a function.
    """

    module: str
    settings: str
    driver: str

    def settings_class(self) -> type[config.Device]:
        """The settings of a block."""
        found: type[config.Device] = getattr(importlib.import_module(self.module), self.settings)
        return found

    def feed(self, settings: config.Device, clock: Clock) -> Feed[Any]:
        """The driver, not yet opened."""
        feed: Feed[Any] = getattr(importlib.import_module(self.module), self.driver)(settings, clock)
        return feed


KINDS: dict[str, DeviceKind] = {
    "gnss_serial": DeviceKind("firmware_shims.serial_nmea", "GnssSerial", "serial_receiver"),
    "gnss_tcp": DeviceKind("firmware_shims.serial_nmea", "GnssTcp", "tcp_receiver"),
    "gnss_gpsd": DeviceKind("firmware_shims.network_receiver", "GnssGpsd", "gpsd_receiver"),
    "gnss_udp": DeviceKind("firmware_shims.network_receiver", "GnssUdp", "UdpReceiver"),
    "can_socketcan": DeviceKind("firmware_shims.can_bus", "SocketCan", "CanBus"),
    "can_slcan": DeviceKind("firmware_shims.can_bus", "Slcan", "CanBus"),
    "obd_isotp": DeviceKind("firmware_shims.obd_line", "ObdIsotp", "ObdLine"),
    "button_box": DeviceKind("firmware_shims.serial_button_box", "ButtonBox", "button_box"),
    "button_gpio": DeviceKind("firmware_shims.gpio_buttons", "ButtonGpio", "GpioButtons"),
    "button_evdev": DeviceKind("firmware_shims.evdev_buttons", "ButtonEvdev", "EvdevButtons"),
    "switch_gpio": DeviceKind("firmware_shims.gpio_switch", "SwitchGpio", "GpioSwitch"),
    "analog_iio": DeviceKind("firmware_shims.iio_sensor", "AnalogIio", "AnalogInput"),
    "accelerometer_iio": DeviceKind("firmware_shims.iio_sensor", "AccelerometerIio", "Accelerometer"),
    "temperature_w1": DeviceKind("firmware_shims.temperature_w1", "TemperatureW1", "W1Probe"),
}


def load(path: Path) -> config.Config:
    """Read and validate a configuration file. Raises ConfigError with every problem at once."""
    return config.load(path, KINDS)


def validate(table: dict[str, Any], path: Path) -> config.Config:
    """Validate the table of a configuration that would stand at `path`. Raises ConfigError."""
    return config.validate(config.Config, table, path, kinds=KINDS)
