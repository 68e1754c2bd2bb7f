"""What every table of a configuration file is made of."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationInfo

TopicLevel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", max_length=64)]
"""One level of an MQTT topic: no slash, no wildcard, no space."""


def _host(host: str) -> str:
    if "://" in host:
        scheme, _, rest = host.partition("://")
        raise ValueError(f"without a scheme: leave {scheme}:// out and write {rest.partition('/')[0]!r}")
    if any(letter.isspace() for letter in host):
        raise ValueError("a space in it")
    if host.startswith("[") or (":" in host and not _is_ipv6(host)):
        raise ValueError("only a name or an address; the port goes to `port`, and [ ] are left out")
    if "/" in host or "@" in host:
        raise ValueError("only a name or an address, without user and path")
    return host


def _is_ipv6(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


Host = Annotated[str, StringConstraints(min_length=1, max_length=253), AfterValidator(_host)]
"""Name or address of a computer: no scheme, no port."""


class ConfigError(Exception):
    """The configuration can not be used.

    Attributes:
        problems: one line each: file, key, value and what is wrong.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Section(BaseModel):
    """A table of the file. Relative paths are taken from the folder of the file.

    Attributes:
        moved: keys of earlier forms of the file, with what is written instead.
    """

    moved: ClassVar[dict[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def from_file_folder(path: Path, info: ValidationInfo) -> Path:
    """A relative path, taken from the folder of the file that names it."""
    folder = (info.context or {}).get("folder")
    return path if folder is None or path.is_absolute() else Path(folder) / path
