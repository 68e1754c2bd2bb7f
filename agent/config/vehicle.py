"""What is made of the vehicle's signals: driving events, and places that are watched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from agent.config.devices import SignalName
from agent.config.section import Section, TopicLevel, from_file_folder

Limit = Annotated[float, Field(gt=0, le=100)]
Pair = Annotated[tuple[Limit, Limit], Field()]


class Driving(Section):
    """From where on driving is remarkable. Of a pair, the second is the graver grade."""

    braking_mps2: Pair = (3.5, 5.0)
    """Deceleration."""
    acceleration_mps2: Pair = (3.0, 4.0)
    """Acceleration."""
    cornering_mps2: Pair = (3.5, 5.0)
    """Lateral acceleration, of a vehicle that tells it."""
    reversing_mps: Pair = (2.8, 4.2)
    """Speed in reverse."""
    overspeed_mps: float | None = Field(None, gt=0, le=100)
    """Highest speed with neither lights nor siren; without it there is no limit."""
    overspeed_lights_mps: float | None = Field(None, gt=0, le=100)
    """Highest speed with emergency lights."""
    overspeed_siren_mps: float | None = Field(None, gt=0, le=100)
    """Highest speed with lights and siren."""
    motion_mps: float = Field(2, gt=0, le=20)
    """Above this speed, open belts and doors count."""

    @model_validator(mode="after")
    def _ascending(self) -> Driving:
        for name in ("braking_mps2", "acceleration_mps2", "cornering_mps2", "reversing_mps"):
            slight, grave = getattr(self, name)
            if slight >= grave:
                raise ValueError(f"{name} = [{slight}, {grave}]: the graver grade must be the larger")
        return self


class Watch(Section):
    """A place whose value must keep within limits, such as the drug fridge."""

    name: TopicLevel
    """What the place is called in the records."""
    signal: SignalName
    """The signal that tells its value, a VSS path below `Vehicle.`."""
    low: float | None = Field(None, ge=-1e9, le=1e9)
    """Lowest value that is right, in the signal's unit."""
    high: float | None = Field(None, ge=-1e9, le=1e9)
    """Highest value that is right."""
    dwell_s: float = Field(300, ge=0, le=86_400)
    """An excursion begins when it lasted so long, and ends likewise."""
    hysteresis: float = Field(0, ge=0, le=1e9)
    """So far inside the limits the value must be for an end."""

    @model_validator(mode="after")
    def _some_room(self) -> Watch:
        if self.low is None and self.high is None:
            raise ValueError("low or high is needed")
        if self.low is not None and self.high is not None and self.high - self.low <= 2 * self.hysteresis:
            raise ValueError(f"no value is right between low = {self.low} and high = {self.high}")
        return self


class Impact(Section):
    """The impact recorder: the seconds before and after an impact, or a word of the crew, are kept apart."""

    directory: Path | None = None
    """Folder of what is kept; without it `kept` in the folder of the store."""
    keep: int = Field(50, ge=1, le=1000)
    """So many recordings are kept; the oldest goes first."""
    before_s: float = Field(30, ge=1, le=55)
    """Time before the moment that is kept."""
    after_s: float = Field(30, ge=1, le=110)
    """Time after it."""
    acceleration_mps2: float = Field(30, ge=5, le=1000)
    """An accelerometer that shows this in the plane of the road tells of an impact."""
    speed_step_mps: float = Field(4.5, ge=2, le=50)
    """Wheels that lose so much speed within 0.3 s tell of an impact."""

    _paths = field_validator("directory", mode="after")(
        lambda path, info: None if path is None else from_file_folder(path, info)
    )
