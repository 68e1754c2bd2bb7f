"""What is connected to this computer: receiver, vehicle buses, crew buttons."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from agent.config.section import Section, TopicLevel, from_file_folder
from agent.domain.status import UnitStatus


class Gnss(Section):
    """The receiver: a serial device or `socket://host:port` of an in-vehicle router."""

    device: str
    baud: int = Field(9600, gt=0)
    silent_after_s: float = Field(5, gt=0)


class Can(Section):
    """One vehicle bus, listened to and never written to."""

    name: TopicLevel = "can0"
    interface: Literal["socketcan", "slcan"] = "socketcan"
    channel: str
    bitrate: int = Field(500_000, gt=0)
    vehicle: Path
    """The vehicle file: which DBC, which signals."""
    settle_s: float = Field(0, ge=0, le=10)
    """How long an slcan adapter needs after its port is opened."""
    silent_after_s: float = Field(5, gt=0)

    _paths = field_validator("vehicle", mode="after")(from_file_folder)


class ButtonBox(Section):
    """A serial button box with lamps."""

    device: str
    baud: int = Field(115_200, gt=0)
    silent_after_s: float = Field(5, gt=0)
    """The box says hello every second; silence for longer means that it is gone."""


class ButtonGpio(Section):
    """Buttons, and lamps if any, on lines of a GPIO chip."""

    chip: str = "/dev/gpiochip0"
    lines: dict[str, int] = Field(min_length=1)
    """Key name to line offset."""
    lamp_lines: dict[str, int] = Field(default_factory=dict)
    """Key name to the line of its lamp: dark = off, blinking = not stored, lit = stored or delivered."""
    active_low: bool = True
    bias: Literal["pull_up", "pull_down", "disabled", "as_is"] = "pull_up"
    debounce_ms: int = Field(20, ge=0, le=500)

    @model_validator(mode="after")
    def _one_purpose_a_line(self) -> ButtonGpio:
        offsets = [*self.lines.values(), *self.lamp_lines.values()]
        if len(set(offsets)) != len(offsets):
            raise ValueError("a line offset is used twice")
        if strangers := set(self.lamp_lines) - set(self.lines):
            raise ValueError(f"lamp_lines without a button: {', '.join(sorted(strangers))}")
        return self


class Buttons(Section):
    """Crew buttons: what each key means, and where the keys are."""

    keys: dict[str, str] = {status.value: status.value for status in UnitStatus} | {"emergency": "emergency"}
    """Key name to unit status token, or to "emergency"."""
    stuck_after_s: float = Field(30, gt=0)
    box: ButtonBox | None = None
    gpio: ButtonGpio | None = None

    @field_validator("keys")
    @classmethod
    def _known_tokens(cls, keys: dict[str, str]) -> dict[str, str]:
        known = {status.value for status in UnitStatus} | {"emergency"}
        for key, token in keys.items():
            if token not in known:
                raise ValueError(
                    f"{key} = {token!r}: not a unit status; known are {', '.join(sorted(known))}"
                )
        return keys

    @model_validator(mode="after")
    def _keys_have_a_meaning(self) -> Buttons:
        if self.gpio is not None and (strangers := set(self.gpio.lines) - set(self.keys)):
            raise ValueError(f"gpio.lines without a meaning in keys: {', '.join(sorted(strangers))}")
        return self
