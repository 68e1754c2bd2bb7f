"""What every table of a configuration file is made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    StringConstraints,
    ValidationInfo,
)
from pydantic_core import CoreSchema


def matching(pattern: str, words: str, *, max_letters: int = 64) -> AfterValidator:
    """A validator of text that must be of one form, which `words` tells a person."""
    form = re.compile(pattern)

    def check(text: str) -> str:
        if len(text) > max_letters:
            raise ValueError(f"at most {max_letters} letters")
        if not form.fullmatch(text):
            raise ValueError(words)
        return text

    return AfterValidator(check)


TopicLevel = Annotated[
    str, matching(r"[A-Za-z0-9_-]+", "letters, digits, hyphen and underscore only, and at least one")
]
"""One level of an MQTT topic: no slash, no wildcard, no space, and no dot, which AMQP brokers divide by."""


_NUMBERS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_NAME = re.compile(r"\w(?:[\w-]|\.(?=\w))*\.?")


def _host(host: str) -> str:
    if "://" in host:
        # Whatever stands in front of an @ may be a password: it is not repeated.
        scheme, _, rest = host.partition("://")
        name = rest.rpartition("@")[2].partition("/")[0]
        raise ValueError(f"{scheme}:// does not belong here: host = {name.partition(':')[0]!r} is enough")
    if any(letter.isspace() for letter in host):
        raise ValueError("there is a space in it")
    if "/" in host or "@" in host:
        raise ValueError("only a name or an address, without user and path")
    if _NUMBERS.fullmatch(host) and not _is_address(host):
        raise ValueError("four numbers, but no address: each is 0 to 255")
    if host.startswith("[") or (":" in host and not _is_address(host)):
        name, _, port = host.rpartition(":")
        if name and port.isdecimal():
            raise ValueError(f"the port goes to its own key: host = {name.strip('[]')!r}, port = {port}")
        raise ValueError("only a name or an address is expected, without [ ] and :")
    if ":" not in host and not _NAME.fullmatch(host):
        raise ValueError("a name has letters, digits, hyphens, and single dots between")
    return host


def _is_address(text: str) -> bool:
    from ipaddress import ip_address  # only where a host looks like one

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


def _make_strict(schema: Any, model: type[BaseModel]) -> None:
    """Set the plain types of a model's own fields to take nothing but themselves."""
    if isinstance(schema, list):
        for one in schema:
            _make_strict(one, model)
    elif isinstance(schema, dict) and (schema.get("type") != "model" or schema.get("cls") is model):
        if schema.get("type") in ("bool", "int", "float"):
            schema["strict"] = True
        for one in schema.values():
            _make_strict(one, model)


class Section(BaseModel):
    """A table of the file. Relative paths are taken from the folder of the file.

    Attributes:
        moved: keys of earlier forms of the file, with what is written instead.
    """

    moved: ClassVar[dict[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """TOML has types: a number in quotes is no number, and a word is not true or false."""
        schema = handler(source)
        _make_strict(schema, cls)
        return schema


def from_file_folder(path: Path, info: ValidationInfo) -> Path:
    """A relative path, taken from the folder of the file that names it. Raises ValueError."""
    if "\0" in str(path):
        raise ValueError("no path can hold a zero character")
    folder = (info.context or {}).get("folder")
    return path if folder is None or path.is_absolute() else Path(folder) / path
