"""From a TOML file to a checked model, and every mistake as one sentence."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from agent.config.section import ConfigError, Section

_PLAIN = {
    "string_pattern_mismatch": "letters, digits, dot, hyphen and underscore only",
    "model_type": 'a table is expected here, e.g. { file = "..." }',
    "tuple_type": "a list is expected here",
    "dict_type": "a table is expected here",
}
"""What pydantic says in its own terms, said in the file's."""


Model = TypeVar("Model", bound=Section)


def load_as(model: type[Model], path: Path, **context: Any) -> Model:
    """Read a TOML file of another form and validate it. Raises ConfigError with every problem at once.

    Args:
        model: what the file holds.
        path: the file.
        context: what validators of the model ask for, such as the table of device kinds.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: can not be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    return validate(model, table, path, **context)


def validate(model: type[Model], table: dict[str, Any], path: Path, **context: Any) -> Model:
    """Validate one file's table against `model`. Raises ConfigError naming `path`, each key and its value."""
    try:
        return model.model_validate(table, context={"folder": path.resolve().parent} | context)
    except ValidationError as error:
        items = error.errors(include_url=False)
        # A list with a bad member is reported a second time as too short; the member's own line says enough.
        items = [item for item in items if not (item["type"] == "too_short" and item["input"])]
        raise ConfigError([_problem(path, item, model.moved) for item in items]) from error


def _problem(path: Path, item: Any, moved: Mapping[str, str]) -> str:
    where = ""
    for part in item["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    if where in moved and item["type"] == "extra_forbidden":
        return f"{path}: {where}: {moved[where]}"
    message = _PLAIN.get(item["type"], item["msg"].removeprefix("Value error, "))
    if where.startswith("uplink.brokers") and not isinstance(item["input"], int | float):
        # A secret may stand here under any name, also a misspelt one.
        message = "no such key" if item["type"] == "extra_forbidden" else message
        return f"{path}: {where}: {message} (value not shown)"
    match item["type"]:
        case "missing":
            return f"{path}: {where}: missing"
        case "extra_forbidden":
            return f"{path}: {where} = {item['input']!r}: no such key"
        case _ if isinstance(item["input"], dict | BaseModel):
            return f"{path}: {where or 'file'}: {message}"
        case _:
            return f"{path}: {where} = {item['input']!r}: {message}"
