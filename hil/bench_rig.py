"""The bench: real devices on a table, described by a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from agent import config
from agent.app.devices import KINDS, validate
from agent.config import Config, ConfigError, Section, load_as
from agent.config.devices import DeviceBlock
from firmware_shims.can_bus import Slcan
from firmware_shims.serial_nmea import GnssSerial


class GnssFeed(Section):
    """A USB-serial adapter whose output is wired to the input of the receiver's line."""

    device: str
    baud: int = Field(9600, gt=0)


class CanFeed(Section):
    """A second adapter on the same bus, by which the harness sends what the vehicle's modules would."""

    interface: Literal["socketcan", "slcan"] = "socketcan"
    channel: str
    bitrate: int = Field(500_000, gt=0)


class Relays(Section):
    """A relay or GPIO board that closes the contacts of buttons and ignition."""

    chip: str
    keys: dict[str, int] = Field(min_length=1)
    """Key name to the line that closes its contact."""
    ignition: int | None = Field(None, ge=0)
    """Line that switches the ignition; without it the harness leaves it alone."""
    active_low: bool = False

    @model_validator(mode="after")
    def _no_line_twice(self) -> Relays:
        lines = [*self.keys.values(), *([] if self.ignition is None else [self.ignition])]
        twice = sorted({line for line in lines if lines.count(line) > 1})
        if twice:
            raise ValueError(f"lines {twice} stand for two things")
        return self


class BenchRig(Section):
    """The whole file: `feed_*` is what the harness drives, the rest what the agent reads."""

    title: str
    unit: config.Unit
    store: config.Store = config.Store()
    broker: config.Broker
    devices: tuple[DeviceBlock, ...] = Field(alias="device")
    buttons: config.Buttons = config.Buttons()
    feed_gnss: GnssFeed
    feed_can: dict[str, CanFeed] = Field(default_factory=dict)
    """Name of the bus to the adapter that feeds it."""
    feed_relays: Relays

    @model_validator(mode="after")
    def _fits_together(self) -> BenchRig:
        receivers = [device for device in self.devices if isinstance(device, GnssSerial)]
        if not receivers:
            raise ValueError('no device of kind = "gnss_serial" that the harness could feed')
        if self.feed_gnss.device == receivers[0].device:
            raise ValueError("feed_gnss.device is the agent's own: two ends of one cable are needed")
        if self.feed_gnss.baud != receivers[0].baud:
            raise ValueError(
                f"feed_gnss.baud = {self.feed_gnss.baud}, but the agent reads at {receivers[0].baud}"
            )
        buses = {bus.name: bus for bus in self.devices if isinstance(bus, config.CanDevice)}
        for name, feed in self.feed_can.items():
            if name not in buses:
                raise ValueError(f"feed_can.{name}: the agent has no such bus")
            bus = buses[name]
            if isinstance(bus, Slcan) and feed.bitrate != bus.bitrate:
                raise ValueError(f"feed_can.{name}: {feed.bitrate} bit/s on a bus of {bus.bitrate}")
        unknown = sorted(set(self.feed_relays.keys) - set(self.buttons.keys))
        if unknown:
            raise ValueError(f"feed_relays.keys: {', '.join(unknown)} mean nothing to the agent")
        if not any(isinstance(device, config.ButtonDevice) for device in self.devices):
            raise ValueError("no buttons: neither a box nor GPIO lines")
        return self

    def configuration(self, path: Path) -> Config:
        """The agent's configuration for this bench. Raises ConfigError."""
        table: dict[str, Any] = {
            name: getattr(self, name).model_dump(exclude_none=True) for name in ("unit", "store", "buttons")
        }
        table["device"] = [device.model_dump(exclude_none=True) for device in self.devices]
        table["uplink"] = {"brokers": [self.broker.model_dump(exclude_none=True)]}
        return validate(table, path)


def read_bench(path: Path) -> BenchRig:
    """Read a bench's file. Raises ConfigError with every problem at once."""
    return load_as(BenchRig, path, kinds=KINDS)


def main(arguments: list[str]) -> int:
    """Check files. Returns 78 when one is wrong, as the agent does for its own."""
    problems: list[str] = []
    for argument in arguments:
        path = Path(argument)
        try:
            bench = read_bench(path)
            bench.configuration(path)
        except ConfigError as error:
            problems += error.problems
        else:
            print(
                f"{path}: {bench.title}: {len(bench.devices)} devices, {len(bench.feed_relays.keys)} relays"
            )
    for problem in problems:
        print(problem, file=sys.stderr)
    return 78 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
