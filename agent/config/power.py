"""When the computer is turned off, and how little a parked unit says."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from agent.config.section import Section, from_file_folder


class Power(Section):
    """What follows when the ignition goes off: the unit parks, and where it is said the computer goes off.

    Without this table neither does. The ignition is the signal `LowVoltageSystemState`, of a vehicle bus or
    of a `switch_gpio` device.
    """

    off_after_s: float = Field(900, ge=10, le=604_800)
    """The ignition must have been off for so long."""
    low_battery_v: float = Field(11.8, gt=0, le=60)
    """Below this voltage of the battery the shorter time holds; twice as much for a 24 V vehicle."""
    low_battery_off_after_s: float = Field(120, ge=10, le=604_800)
    """How long the ignition must have been off with a battery that is low."""
    parked_report_s: float = Field(600, ge=60, le=86_400)
    """How often a parked unit reports while it does not move: position, health, signals."""
    shut_down: bool = False
    """Turn the computer off once the unit parks; needs `systemctl enable --now mdt-poweroff.path`."""
    request_file: Path = Path("/run/mdt/power-off")
    """File by which systemd is asked to."""

    _paths = field_validator("request_file", mode="after")(from_file_folder)

    @model_validator(mode="after")
    def _ordered(self) -> Power:
        if self.low_battery_off_after_s > self.off_after_s:
            raise ValueError("low_battery_off_after_s is above off_after_s")
        return self
