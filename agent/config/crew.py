"""What the crew may do and is told, and the places that the unit knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from agent.config.section import Section, from_file_folder
from agent.domain.status import REASON, UnitStatus

Reason = Annotated[str, StringConstraints(pattern=f"^{REASON.pattern}$")]

OUT_OF_SERVICE_REASONS: tuple[str, ...] = (
    "mechanical",
    "decontamination",
    "restock",
    "fuel",
    "meal",
    "crew",
    "hospital_wait",
    "breakdown",
)


class Crew(Section):
    """The crew's rules: undo, reasons, calls, the emergency."""

    undo_s: float = Field(10, ge=0, le=120)
    """How long the last status can be withdrawn: its key held for a second, or on the page; 0 for never."""
    reasons: dict[str, tuple[Reason, ...]] = Field(
        default_factory=lambda: {"out_of_service": OUT_OF_SERVICE_REASONS}
    )
    """Status token to the reasons that may be given with it."""
    delay_reasons: tuple[Reason, ...] = (
        "traffic",
        "road_closed",
        "weather",
        "hospital_wait",
        "crew",
        "restock",
    )
    """Reasons that the page offers for a delay; one is told as the reason of the status that holds."""
    breakdown_reasons: tuple[Reason, ...] = ("mechanical", "breakdown")
    """Reasons that, given on a call, say that the vehicle failed in service: an event of its own."""
    remind_after_s: float = Field(30, ge=5, le=600)
    """A call that nobody acknowledged for so long sounds again, and dispatch is told."""
    keep_calls_h: float = Field(24, ge=0, le=720)
    """How long call data and messages stay in the vehicle after the run."""
    emergency_silent: bool = True
    """Nothing in the cab sounds or lights for an emergency."""
    emergency_cancel_code: str | None = Field(None, min_length=4, max_length=12, pattern=r"^[0-9]+$")
    """Code by which the page takes an emergency back; without one only the key can."""
    hints: bool = True
    """Presses that were probably forgotten are suggested."""
    codes: dict[UnitStatus, Annotated[str, StringConstraints(min_length=1, max_length=8)]] = Field(
        default_factory=dict
    )
    """Unit status to the number or letter that the agency's radio has for it, shown by `mdt times`."""
    capabilities: tuple[Reason, ...] = ()
    """What the unit can do, told to dispatch: als, bls, equipment."""
    vehicle: str | None = Field(None, min_length=1, max_length=32)
    """The vehicle itself, when it is not called as the unit is."""


class PlacesFile(Section):
    """Where the places are described: stations, posts, hospitals, borders."""

    file: Path | None = None
    """A GeoJSON FeatureCollection of points and areas (docs/crew.md)."""

    _paths = field_validator("file", mode="after")(
        lambda path, info: None if path is None else from_file_folder(path, info)
    )
