"""Faults of hardware, as the agent sees them whatever library met them."""

from __future__ import annotations


class HardwareError(Exception):
    """An expected fault of a device: a state with a health reason and a back-off, never a crash.

    Attributes:
        device: the device as configured (a path, URL or channel).
        why: one plain sentence for a person.
    """

    def __init__(self, device: str, why: str) -> None:
        super().__init__(f"{device}: {why}")
        self.device = device
        self.why = why


class DeviceNotFoundError(HardwareError):
    """The device is not there, or this user may not open it."""


class DeviceLostError(HardwareError):
    """The device was open and went away."""


class DeviceProtocolError(HardwareError):
    """The device is there but does not speak as it should."""
