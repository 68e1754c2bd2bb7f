"""Writes the configuration file of a vehicle on the bench: the shipped format with the rig's devices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

AGENCY = "boston-ems"
UNIT = "A1"
Table = dict[str, Any]


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Table:
    """`base` with `overrides` put over it, table by table; a list is replaced as a whole."""
    result = dict(base)
    for key, value in overrides.items():
        there = result.get(key)
        both = isinstance(value, Mapping) and isinstance(there, Mapping)
        result[key] = merged(there, value) if both and there is not None else value
    return result


def sends_receipts(overrides: Mapping[str, Any]) -> bool:
    """Whether the vehicle is configured to wait for receipts, which dispatch then has to send."""
    return bool(overrides.get("uplink", {}).get("confirm") == "dispatch")


def to_toml(table: Mapping[str, Any]) -> str:
    """A table as TOML text. Lists of tables and nested tables are written inline."""
    lines: list[str] = []
    for key, value in table.items():
        if not isinstance(value, Mapping):
            lines.append(f"{key} = {_inline(value)}")
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", *(f"{name} = {_inline(item)}" for name, item in value.items())]
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str() | Path():
            # A JSON string is a TOML basic string for all that paths and names contain.
            return json.dumps(str(value))
        case Mapping():
            return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(_inline(item) for item in value) + "]"
        case _:
            raise TypeError(f"{value!r} has no TOML form here")
