"""What is made of the vehicle's signals: driving events, and places that are watched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from agent.config.devices import SignalName
from agent.config.section import Section, TopicLevel, from_file_folder
from agent.domain.record import DrivingKind, ResponseMode

Limit = Annotated[float, Field(gt=0, le=100)]
Pair = Annotated[tuple[Limit, Limit], Field()]


class Sound(Section):
    """What the driver hears at once when a limit of driving is passed."""

    kinds: tuple[DrivingKind, ...] = tuple(DrivingKind)
    """Which kinds of driving sound; none for silence."""
    modes: tuple[ResponseMode, ...] = tuple(ResponseMode)
    """Response modes in which they sound; of a vehicle that does not tell, `normal` counts."""
    quiet_after_call_s: float = Field(10, ge=0, le=120)
    """Nothing sounds for so long after the alert of a call."""
    apart_s: float = Field(3, ge=0, le=60)
    """Least time between two sounds."""
    again_s: float = Field(30, ge=1, le=600)
    """What lasts sounds again after so long."""


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
    sound: Sound = Sound()
    """When the driver hears of it."""

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


class VehicleSettings(Section):
    """What fleet services are told of the vehicle itself."""

    idle_after_s: float = Field(300, ge=10, le=86_400)
    """An engine that runs at rest for so long idles."""
    cranking_v: float = Field(9, gt=0, le=48)
    """Voltage that must not be fallen below while the engine is started."""
    low_voltage_v: float | None = Field(11.8, gt=0, le=48)
    """Voltage of the main battery below which it is low; it must last a minute."""
    low_fuel_percent: float | None = Field(15, gt=0, le=100)
    """Fuel level below which it is low."""
    coolant_celsius: float | None = Field(112, gt=0, le=200)
    """Temperature of the coolant above which it is hot."""
    without_crew: bool = False
    """A vehicle that moves while nobody is signed on and on no call moves unattended, too."""
    area: str | None = Field(None, min_length=1, max_length=64)
    """Id of the place that the vehicle must not leave but on a call."""
    hurry_s: float = Field(5, ge=1, le=60)
    """Age of no position while the vehicle moves unattended."""


class Service(Section):
    """A service that comes again; at least one of the three says when."""

    name: TopicLevel
    """What it is called, such as oil."""
    every_km: float | None = Field(None, gt=0, le=1_000_000)
    """Distance after which it is due."""
    every_h: float | None = Field(None, gt=0, le=100_000)
    """Engine hours after which it is due."""
    every_days: float | None = Field(None, gt=0, le=3650)
    """Days after which it is due."""

    @model_validator(mode="after")
    def _some_end(self) -> Service:
        if self.every_km is None and self.every_h is None and self.every_days is None:
            raise ValueError("every_km, every_h or every_days is needed")
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
