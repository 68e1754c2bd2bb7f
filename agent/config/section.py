"""What every table of a configuration file is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo

TopicLevel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", max_length=64)]
"""One level of an MQTT topic: no slash, no wildcard, no space."""


class ConfigError(Exception):
    """The configuration can not be used.

    Attributes:
        problems: one line each: file, key, value and what is wrong.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Section(BaseModel):
    """A table of the file. Relative paths are taken from the folder of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def from_file_folder(path: Path, info: ValidationInfo) -> Path:
    """A relative path, taken from the folder of the file that names it."""
    folder = (info.context or {}).get("folder")
    return path if folder is None or path.is_absolute() else Path(folder) / path
