"""The scenario of a drive: a TOML file of calls with the streets between post, scene and hospital."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, model_validator

from agent.config import ConfigError, Section, validate
from hil.drive.route import End, GeoPoint, Sky, Stretch

DRIVES = Path(__file__).parent.parent / "scenarios" / "drives"
"""Where the shipped drives lie."""

Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
"""From and to; the seed draws a value between."""


class StretchEntry(Section):
    """See `hil.drive.route.Stretch`."""

    street: str
    limit_kmh: float = Field(40, gt=5, le=130)
    points: tuple[GeoPoint, ...] = Field(min_length=2)
    sky: Sky = Sky.OPEN
    ends_at: End = End.NOTHING
    coverage: bool = True

    def stretch(self) -> Stretch:
        """The stretch this entry describes."""
        return Stretch(self.street, self.limit_kmh, self.points, self.sky, self.ends_at, self.coverage)


class Call(Section):
    """One emergency call, from the wait before it to the way back."""

    title: str = ""
    wait_s: Range = (20, 60)
    """Standing by before the call; not used when the shift spreads its calls over its duration."""
    scene_s: Range = (600, 1500)
    hospital_s: Range = (900, 1800)
    scene_coverage: bool = True
    emergency_button: bool = False
    """The crew presses the emergency button at the scene, and cancels it after a while."""
    transport_with_lights: bool = False
    to_scene: tuple[StretchEntry, ...] = Field(min_length=1)
    to_hospital: tuple[StretchEntry, ...] = Field(min_length=1)
    to_post: tuple[StretchEntry, ...] = ()
    """Without it the unit stays at the hospital."""


class DriveFile(Section):
    """The whole file."""

    title: str
    start_utc: AwareDatetime
    duration_s: float = Field(0, ge=0)
    """The shift lasts at least so long; the rest of it is spent standing by."""
    calls_in_shift: int | None = Field(None, ge=1, le=200)
    """Draw so many calls from the list and spread them over the duration; without it each call runs once."""
    statuses: Literal["short", "full"] = "short"
    """Whether the crew presses the six usual statuses or every one that the panel has."""
    first_fix_s: float = Field(4, ge=0)
    """How long the receiver needs for its first fix."""
    odometer_km: float = Field(48_210.4, ge=0)
    fuel_percent: float = Field(82, ge=0, le=100)
    ignition_off_at_end: bool = False
    clock_error_s: float = 0
    """How far the computer's wall clock is off at the start."""
    calls: tuple[Call, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _spreads(self) -> DriveFile:
        if self.calls_in_shift is not None and self.duration_s <= 0:
            raise ValueError("`calls_in_shift` needs `duration_s` to spread the calls over")
        return self


def drive_path(name: str | Path) -> Path:
    """The file of a shipped drive by its name, or the path itself when it names a file."""
    path = Path(name)
    if path.suffix == ".toml":
        return path
    return DRIVES / f"{name}.toml"


def drive_names() -> list[str]:
    """Names of the shipped drives."""
    return sorted(path.stem for path in DRIVES.glob("*.toml"))


def read_drive_file(name: str | Path) -> DriveFile:
    """Read a drive by name or path. Raises ConfigError with every problem at once."""
    path = drive_path(name)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(drive_names())
        raise ConfigError([f"{path}: no such drive; shipped are {known}"]) from error
    except OSError as error:
        raise ConfigError([f"{path}: can not be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    return validate(DriveFile, table, path)
