"""The outbox and the black box on the data disk."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from agent.config.section import Section, from_file_folder


class Store(Section):
    """The outbox on the data disk."""

    directory: Path = Path("/var/lib/mdt")
    """Folder of the store, on a disk that may be written."""
    budget_mib: int = Field(256, ge=1, le=1_048_576)
    """What undelivered records may take before old trail is thinned."""
    replay_budget_mib: int = Field(64, ge=0, le=1_048_576)
    """What delivered records may take while they are kept for a reader that asks again."""
    replay_days: float = Field(7, ge=0, le=3650)
    """How long delivered records are kept for a reader that asks again."""
    group_commit_s: float = Field(10, gt=0, le=300)
    """How much trail a power cut may take; presses are always committed at once."""
    synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL"
    """Anything but FULL loses records that were called stored; exists to prove that the rigs notice."""

    _paths = field_validator("directory", mode="after")(from_file_folder)


class Recorder(Section):
    """The black box: everything the drivers read, in a rotating set of files."""

    directory: Path
    """Folder of the recordings."""
    budget_mib: int = Field(512, ge=1, le=1_048_576)
    """What all recordings may take; the oldest goes first."""
    file_mib: int = Field(32, ge=1, le=1024)
    """Size at which a file is ended and the next begun."""

    _paths = field_validator("directory", mode="after")(from_file_folder)

    @model_validator(mode="after")
    def _several_files(self) -> Recorder:
        if self.file_mib > self.budget_mib:
            raise ValueError("file_mib is above budget_mib: the first file would never be full")
        return self
