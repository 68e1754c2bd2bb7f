"""The whole configuration file of a vehicle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from agent.config.clock import Clock
from agent.config.devices import ButtonDevice, Buttons, DeviceBlock, Kinds, check_together
from agent.config.panel import Panel
from agent.config.reading import load_as
from agent.config.section import Section, TopicLevel, from_file_folder
from agent.config.store import Recorder, Store
from agent.config.supervision import Log, Supervision
from agent.config.uplink import Uplink

PLACEHOLDER = "CHANGE-ME"
"""Identity of the shipped example: two vehicles that kept it would be one to dispatch."""
LONGEST_SOCKET_PATH = 107
"""sun_path of the kernel, without its final zero."""


class Unit(Section):
    """Who this vehicle is."""

    agency: TopicLevel
    """Second level of every topic: ems/v1/{agency}/{unit}/..."""
    unit: TopicLevel
    """The unit, as dispatch calls it."""

    @field_validator("agency", "unit")
    @classmethod
    def _own(cls, name: str) -> str:
        if name == PLACEHOLDER:
            raise ValueError("this is the example's; put in what dispatch calls this vehicle")
        return name


class Reporting(Section):
    """When a fix becomes a position record."""

    moving_interval_s: float = Field(1, gt=0, le=86_400)
    """Least time between two positions while moving."""
    stationary_interval_s: float = Field(10, gt=0, le=86_400)
    """Time between two positions at rest."""
    moving_above_mps: float = Field(0.7, ge=0, le=100)
    """Above this speed the unit is moving."""
    telemetry_interval_s: float = Field(5, gt=0, le=86_400)
    """Least time between two telemetry records; each holds what changed."""
    health_interval_s: float = Field(60, gt=0, le=86_400)
    """How often the live health is refreshed when nothing changed."""


class Config(Section):
    """The whole file."""

    moved: ClassVar[dict[str, str]] = {
        "gnss": 'is a [[device]] with kind = "gnss_serial" or "gnss_tcp" now',
        "can": 'is a [[device]] with kind = "can_socketcan" or "can_slcan" now',
        "buttons.box": 'is a [[device]] with kind = "button_box" now',
        "buttons.gpio": 'is a [[device]] with kind = "button_gpio" now',
    }

    unit: Unit
    store: Store = Store()
    clock: Clock = Clock()
    devices: tuple[DeviceBlock, ...] = Field((), alias="device")
    buttons: Buttons = Buttons()
    reporting: Reporting = Reporting()
    uplink: Uplink
    supervision: Supervision = Supervision()
    recorder: Recorder | None = None
    log: Log = Log()
    panel: Panel = Panel()
    status_socket: Path = Path("/run/mdt/mdt.sock")
    """Unix socket at which `mdt status` asks the running agent."""

    _paths = field_validator("status_socket", mode="after")(from_file_folder)

    @field_validator("status_socket")
    @classmethod
    def _bindable(cls, path: Path) -> Path:
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise ValueError(
                f"longer than the {LONGEST_SOCKET_PATH} bytes that the path of a socket may have"
            )
        return path

    _together = field_validator("devices", mode="after")(check_together)

    @model_validator(mode="after")
    def _keys_have_a_meaning(self) -> Config:
        for device in self.devices:
            keys = device.keys() if isinstance(device, ButtonDevice) else ()
            if strangers := sorted(set(keys) - set(self.buttons.keys)):
                raise ValueError(
                    f"keys of {device.name} without a meaning in [buttons.keys]: {', '.join(strangers)}"
                )
        return self


def load(path: Path, kinds: Kinds) -> Config:
    """Read and validate a configuration file. Raises ConfigError with every problem at once."""
    return load_as(Config, path, kinds=kinds)
