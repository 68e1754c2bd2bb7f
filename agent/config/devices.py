"""What is connected to this computer: a `[[device]]` block each, and what the crew's keys mean.

A block's settings are those of its `kind`. They stand beside the driver, in the driver's own module, which is
imported only when a configuration has that kind. Here is what all of them share, by what a device gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import (
    AfterValidator,
    Field,
    SerializeAsAny,
    StringConstraints,
    ValidationInfo,
    WrapValidator,
    field_validator,
)

from agent.config.plain_words import did_you_mean, shown
from agent.config.section import Section, from_file_folder, matching
from agent.domain.status import UnitStatus

_OWN_NAMES = frozenset({"can", "clock", "ignition", "recorder", "truth"})
"""First words of channels in a recording that are not a device's."""
_HOST_AND_PORT = re.compile(r"[^/]+:\d+")
_BAUD_RATES = frozenset(
    {1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000}
    | {1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000}
)
"""What Linux can set a serial line to (termios)."""


def _not_our_own(name: str) -> str:
    if name in _OWN_NAMES:
        raise ValueError("the recordings use this name for something else; choose another")
    return name


def _device_path(path: str, info: ValidationInfo) -> str:
    if "://" in path or _HOST_AND_PORT.fullmatch(path):
        raise ValueError(
            'an address, where the path of a device is expected; for a receiver take kind = "gnss_tcp"'
        )
    return str(from_file_folder(Path(path), info))


def _settable(baud: int) -> int:
    if baud not in _BAUD_RATES:
        nearest = min(_BAUD_RATES, key=lambda rate: abs(rate - baud))
        raise ValueError(f"no line has this rate; the nearest is {nearest}")
    return baud


DeviceName = Annotated[
    str,
    matching(r"[A-Za-z0-9_-]+", "letters, digits, hyphen and underscore only, and at least one"),
    AfterValidator(_not_our_own),
]
"""What a device is called in health, in `mdt status` and in recordings."""
DevicePath = Annotated[str, StringConstraints(min_length=1), AfterValidator(_device_path)]
"""Path of a device file; a relative one is taken from the folder of the configuration."""
Baud = Annotated[int, AfterValidator(_settable)]
"""Bits a second of a serial line."""
SignalName = Annotated[
    str,
    matching(
        r"[A-Z][A-Za-z0-9]*(\.[A-Z][A-Za-z0-9]*)*",
        'a VSS path without "Vehicle." is expected: words with a capital, with dots between, such as Speed',
        max_letters=128,
    ),
]
"""A VSS path below `Vehicle.`, such as "Speed" or "Cabin.Door.Row1.DriverSide.IsOpen"."""


class Device(Section):
    """A `[[device]]` block. Not used itself: each kind is a subclass of one of the four below."""

    kind: str
    """Which kind of device: the row of the table in `agent.app.devices`."""
    name: DeviceName
    """What it is called in health, `mdt status` and recordings. Each device has a name of its own."""

    def files(self) -> tuple[str, ...]:
        """Device files that it needs, or patterns of them."""
        return ()

    def takes(self) -> tuple[str, ...]:
        """What no other block may take as well: by default its device files."""
        return self.files()


class GnssDevice(Device):
    """A receiver: gives bytes, which a decoder turns into fixes (`agent.hal.gnss`).

    Of several, the first in the file that has a fix is used.
    """

    name: DeviceName = "gnss"
    silent_after_s: float = Field(5, gt=0, le=86_400)
    """Without an epoch for longer, the receiver counts as silent."""

    @property
    def speaks_gpsd(self) -> bool:
        """Whether what it gives is gpsd's JSON, and not what a receiver says."""
        return False


class CanDevice(Device):
    """A vehicle bus, listened to and never written to: gives frames (`agent.hal.can`)."""

    name: DeviceName = "can0"
    vehicle: Path
    """The vehicle file: which DBC, which signals."""
    silent_after_s: float = Field(5, gt=0, le=86_400)
    """Without a wanted frame for longer, the bus counts as silent."""

    _paths = field_validator("vehicle", mode="after")(from_file_folder)


class ButtonDevice(Device):
    """Keys of the crew: gives edges and takes lamps (`agent.hal.buttons`)."""

    name: DeviceName = "buttons"

    def keys(self) -> tuple[str, ...]:
        """The keys that are known before the road; each needs a meaning in `[buttons.keys]`."""
        return ()

    def wiring(self, key: str) -> str:
        """Where a key is connected, in an installer's words; empty where the device itself names its keys."""
        del key
        return ""

    def has_lamp(self, key: str) -> bool:
        """Whether a key has a lamp, as far as that is known here; a box knows itself."""
        del key
        return True


class DiagnosticDevice(Device):
    """A line on which control units are asked by OBD-II: the only block that sends on a vehicle's bus.

    Without such a block nothing is ever sent.
    """

    name: DeviceName = "obd"
    vehicle: Path
    """The vehicle file: the signals with a `pid` in it are asked for."""
    controllers: tuple[Annotated[int, Field(ge=0x7E0, le=0x7E7)], ...] = Field((0x7E0,), min_length=1)
    """Control units that are asked for trouble codes, by the identifier that they listen to."""
    requests_per_s: float = Field(4, gt=0, le=20)
    """Highest rate of requests."""
    signals_every_s: float = Field(5, ge=0.5, le=3600)
    """From one request for a signal to the next."""
    codes_every_s: float = Field(60, ge=5, le=86_400)
    """From one request for trouble codes to the next."""
    while_responding: bool = False
    """Whether it goes on while the crew responds; by default it is paused."""
    without_ignition: bool = False
    """Whether it goes on while the ignition is not known to be on: a request wakes a bus that sleeps."""

    _paths = field_validator("vehicle", mode="after")(from_file_folder)


class SampleDevice(Device):
    """A sensor: gives samples, each a value of a vehicle signal (`agent.hal.samples`)."""

    silent_after_s: float = Field(60, gt=0, le=86_400)
    """Without a reading for longer, the sensor counts as silent."""
    stale_after_s: float = Field(60, gt=0, le=86_400)
    """How long a value may go unheard before it is unknown."""

    def signals(self) -> tuple[SignalName, ...]:
        """Names of the signals that it gives."""
        raise NotImplementedError


class KindOfDevice(Protocol):
    """A row of the table of kinds."""

    def settings_class(self) -> type[Device]:
        """The settings of its blocks; imports the driver's module."""
        ...


Kinds = Mapping[str, KindOfDevice]


def _by_kind(block: Any, handler: Any, info: ValidationInfo) -> Any:
    """Validate a block by the settings of its kind: a union whose members are imported when they occur."""
    kinds: Kinds | None = (info.context or {}).get("kinds")
    if not isinstance(block, dict) or kinds is None:
        return handler(block)
    kind = block.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        what = "missing" if kind is None else f"{shown(kind)} is no kind of device"
        known = did_you_mean(kind, list(kinds)) or f"; kinds are {', '.join(sorted(kinds))}"
        raise ValueError(f"kind: {what}{known}")
    return kinds[kind].settings_class().model_validate(block, context=info.context)


DeviceBlock = Annotated[SerializeAsAny[Device], WrapValidator(_by_kind)]
"""A block of any kind. Validation needs the table of kinds in its context (`agent.app.devices.load`)."""


def check_together(devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """Refuse what only shows when all blocks are seen. Raises ValueError."""
    names = [device.name for device in devices]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"each device needs a `name` of its own; twice: {', '.join(twice)}")
    owner_of: dict[str, str] = {}
    for device in devices:
        for thing in device.takes():
            if thing in owner_of:
                raise ValueError(f"{thing} is used twice: by {owner_of[thing]} and {device.name}")
            owner_of[thing] = device.name
    return devices


class Buttons(Section):
    """What the crew's keys mean, wherever they are."""

    keys: dict[str, str] = {status.value: status.value for status in UnitStatus} | {"emergency": "emergency"}
    """Key name to unit status token, or to "emergency"."""
    stuck_after_s: float = Field(30, gt=0, le=86_400)
    """A key that is down for longer is reported as stuck."""

    @field_validator("keys")
    @classmethod
    def _known_tokens(cls, keys: dict[str, str]) -> dict[str, str]:
        known = {status.value for status in UnitStatus} | {"emergency"}
        for key, token in keys.items():
            if token not in known:
                hint = did_you_mean(token, sorted(known)) or f"; known are {', '.join(sorted(known))}"
                raise ValueError(f"{key} = {shown(token)}: not a unit status{hint}")
        return keys
