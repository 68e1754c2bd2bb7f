"""The feed of a configured device, recorded where there is a recorder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.app.platform import Platform
from agent.config import ButtonDevice, CanDevice, Device, DiagnosticDevice, GnssDevice, SampleDevice
from agent.hal.clock import Clock
from agent.hal.feed import Feed

if TYPE_CHECKING:
    from agent.recorder.recorder import Recorder  # not loaded where nothing is recorded


def unit_name(device: Device) -> str:
    """Name of the unit that reads a device, for the supervisor and `mdt status`."""
    return f"device-{device.name}"


def device_feed(device: Device, platform: Platform, clock: Clock, recorder: Recorder | None) -> Feed[Any]:
    """The feed of a device, not yet opened; what it gives passes `recorder`.

    Raises:
        TypeError: the device's settings are none of the blocks that give something: a defect of its row.
    """
    feed: Any = platform.feed(device, clock)
    match device:
        case GnssDevice():
            return feed if recorder is None else recorder.nmea(feed, device.name)
        case CanDevice():
            return feed if recorder is None else recorder.can(feed, device.name)
        case ButtonDevice():
            return feed if recorder is None else recorder.panel(feed, device.name)
        case SampleDevice():
            return feed if recorder is None else recorder.samples(feed, device.name)
        case DiagnosticDevice():
            asked: Feed[Any] = feed  # answers are no recording of what a bus says by itself
            return asked
        case _:
            raise TypeError(f"{device.kind}: its settings derive from none of the kinds of block")
