"""The whole configuration file of a vehicle."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from agent.config.devices import Buttons, Can, Gnss
from agent.config.reading import load_as
from agent.config.section import Section, TopicLevel, from_file_folder
from agent.config.store import Recorder, Store
from agent.config.supervision import Log, Supervision
from agent.config.uplink import Uplink


class Unit(Section):
    """Who this vehicle is."""

    agency: TopicLevel
    unit: TopicLevel


class Reporting(Section):
    """When a fix becomes a position record."""

    moving_interval_s: float = Field(1, gt=0)
    stationary_interval_s: float = Field(10, gt=0)
    moving_above_mps: float = Field(0.7, ge=0)
    telemetry_interval_s: float = Field(5, gt=0)
    health_interval_s: float = Field(60, gt=0)


class Config(Section):
    """The whole file."""

    unit: Unit
    store: Store = Store()
    gnss: Gnss | None = None
    can: tuple[Can, ...] = ()
    buttons: Buttons = Buttons()
    reporting: Reporting = Reporting()
    uplink: Uplink
    supervision: Supervision = Supervision()
    recorder: Recorder | None = None
    log: Log = Log()
    status_socket: Path = Path("/run/mdt/mdt.sock")

    _paths = field_validator("status_socket", mode="after")(from_file_folder)

    @field_validator("can")
    @classmethod
    def _distinct_buses(cls, can: tuple[Can, ...]) -> tuple[Can, ...]:
        names = [bus.name for bus in can]
        if len(set(names)) != len(names):
            raise ValueError(f"each bus needs a name of its own: {', '.join(names)}")
        return can


def load(path: Path) -> Config:
    """Read and validate a configuration file. Raises ConfigError with every problem at once."""
    return load_as(Config, path)
