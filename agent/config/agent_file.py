"""The whole configuration file of a vehicle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from agent.config.buzzer import Buzzer
from agent.config.clock import Clock
from agent.config.crew import Crew, PlacesFile
from agent.config.devices import ButtonDevice, Buttons, DeviceBlock, Kinds, check_together
from agent.config.panel import Panel
from agent.config.power import Power
from agent.config.privacy import Privacy
from agent.config.reading import load_as
from agent.config.remote import Commands, Metrics
from agent.config.section import Section, TopicLevel, from_file_folder
from agent.config.store import Recorder, Store
from agent.config.supervision import Log, Supervision
from agent.config.uplink import Uplink
from agent.config.vehicle import Driving, Impact, Service, VehicleSettings, Watch
from agent.domain.reporting import Bounds

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
    vin: Literal["withheld", "hashed", "told"] = "withheld"
    """The vehicle identification number: not told, as a pseudonym within the agency, or as it is."""

    @field_validator("agency", "unit")
    @classmethod
    def _own(cls, name: str) -> str:
        if name == PLACEHOLDER:
            raise ValueError("this is the example's; put in what dispatch calls this vehicle")
        return name


class Reporting(Section):
    """What dispatch is told of positions, signals and health, and when."""

    max_error_m: float = Field(25, gt=0, le=1000)
    """Dispatch's map, which draws a unit straight on from its last report, is never further off."""
    max_age_s: float = Field(10, gt=0, le=3600)
    """No report is older while the unit moves or is on an incident."""
    parked_max_age_s: float = Field(60, gt=0, le=3600)
    """No report is older otherwise."""
    heading_deg: float = Field(45, gt=0, le=180)
    """A turn by more is told at once."""
    trail_tolerance_m: float = Field(5, ge=0, le=100)
    """What is left out of the trail lies no further from it."""
    moving_interval_s: float = Field(1, gt=0, le=86_400)
    """Least time between points of the trail in motion."""
    stationary_interval_s: float = Field(60, gt=0, le=86_400)
    """Time between points of the trail at rest."""
    moving_above_mps: float = Field(0.7, ge=0, le=100)
    """Above this speed the vehicle moves."""
    telemetry_interval_s: float = Field(5, gt=0, le=86_400)
    """Least time between records of vehicle signals."""
    vehicle_state_interval_s: float = Field(10, gt=0, le=86_400)
    """Least time between live states of the vehicle, which tell the signals that changed."""
    health_interval_s: float = Field(60, gt=0, le=86_400)
    """Time between refreshes of the live health."""

    def bounds(self) -> Bounds:
        """What dispatch's picture of the unit is held to."""
        return Bounds(
            max_error_m=self.max_error_m,
            max_age_s=self.max_age_s,
            parked_max_age_s=self.parked_max_age_s,
            heading_deg=self.heading_deg,
            moving_above_mps=self.moving_above_mps,
        )


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
    privacy: Privacy = Privacy()
    crew: Crew = Crew()
    places: PlacesFile = PlacesFile()
    driving: Driving | None = None
    impact: Impact | None = None
    commands: Commands = Commands()
    metrics: Metrics | None = None
    vehicle: VehicleSettings | None = None
    services: tuple[Service, ...] = Field((), alias="service", max_length=32)
    watches: tuple[Watch, ...] = Field((), alias="watch")
    buzzer: Buzzer | None = None
    power: Power | None = None
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

    @property
    def panel_socket(self) -> Path:
        """Where the daemon and the crew's page meet."""
        return self.panel.socket_beside(self.status_socket)

    @property
    def kept_recordings(self) -> Path:
        """Folder of the recordings that are kept."""
        chosen = None if self.impact is None else self.impact.directory
        return self.store.directory / "kept" if chosen is None else chosen

    @field_validator("services")
    @classmethod
    def _each_once(cls, services: tuple[Service, ...]) -> tuple[Service, ...]:
        names = [service.name for service in services]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"each service needs a `name` of its own; twice: {', '.join(twice)}")
        return services

    @model_validator(mode="after")
    def _kept_apart(self) -> Config:
        if self.recorder is not None and self.recorder.directory == self.kept_recordings:
            raise ValueError("impact.directory is the black box's: what is kept there would be rotated away")
        return self

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
