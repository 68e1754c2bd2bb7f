"""Writes docs/configuration.md from the models of the configuration: python -m hil.config_reference."""

from __future__ import annotations

import ast
import enum
import inspect
import itertools
import sys
import types
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from agent.app.devices import KINDS
from agent.config import Config, Device, Section

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
HEAD = """\
# The configuration, key by key

This page is made from the models that check the file (`python -m hil.config_reference`); a test keeps it
current. `config/agent.toml` is the commented example, and `mdt check-config FILE` tells everything that is
wrong with a file, with its line. Relative paths are taken from the folder of the file. A default in the table
is what holds when the key is left out; "required" has none. Numbers have bounds, so that a mistyped one is
found before the road.
"""
DEVICES = """\
## [[device]]: what is connected

One block for each device, in any order. `kind` says which; the other keys are those of the kind. Each device
has a `name` of its own, by which health, `mdt status` and recordings call it. docs/adding-a-device.md shows
how a kind is added.
"""
_UNITS = (
    ("_bytes_per_s", "bytes/s"),
    ("_mps", "m/s"),
    ("_mib", "MiB"),
    ("_bytes", "bytes"),
    ("_days", "days"),
    ("_ms", "ms"),
    ("_deg", "degrees"),
    ("_m", "m"),
    ("_s", "s"),
    ("bitrate", "bit/s"),
    ("baud", "bit/s"),
)
"""Endings of keys, and the unit that they name; the first that fits."""


class MissingSentenceError(Exception):
    """A key of the configuration has no sentence below it in its model."""


def reference() -> str:
    """The whole page. Raises MissingSentenceError."""
    parts = [HEAD]
    plain = {key: field for key, field in _fields(Config).items() if _section(field.annotation) is None}
    parts.append("## The file itself\n\n" + _table(Config, [key for key in plain if key != "device"]))
    for key, field in _fields(Config).items():
        section = _section(field.annotation)
        if key == "device":
            parts += [DEVICES, *(_kind(kind) for kind in sorted(KINDS))]
        elif section is not None:
            parts += list(_tables(f"[{key}]", section))
    return "\n".join(parts)


def _kind(kind: str) -> str:
    model = KINDS[kind].settings_class()
    keys = [key for key in _fields(model) if key != "kind"]
    return f'### kind = "{kind}"\n\n{_purpose(model)}\n\n{_table(model, keys)}'


def _tables(title: str, model: type[Section]) -> Iterator[str]:
    """A table of the file, and those in it."""
    fields = _fields(model)
    inner = {key: _section(field.annotation) for key, field in fields.items()}
    depth = "##" if title.count(".") == 0 else "###"
    yield f"{depth} {title}\n\n{_purpose(model)}\n\n{_table(model, list(fields))}"
    for key, section in inner.items():
        if section is not None:
            name = title.strip("[]")
            is_list = get_origin(_bare(fields[key].annotation)) is tuple
            yield from _tables(f"[[{name}.{key}]]" if is_list else f"[{name}.{key}]", section)


def _table(model: type[Section], keys: list[str]) -> str:
    if not keys:
        return "No keys.\n"
    sentences = _sentences(model)
    lines = ["| key | type | default | unit | what it is |", "|---|---|---|---|---|"]
    for key in keys:
        field = _fields(model)[key]
        if key not in sentences:
            raise MissingSentenceError(
                f"{model.__name__}.{key} needs a sentence in quotes on the line below it"
            )
        cells = (f"`{key}`", _type(field), _default(field), _unit(key), sentences[key])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _fields(model: type[Section]) -> dict[str, FieldInfo]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    if issubclass(model, Device):  # the kind's own first, then what all have
        own = [key for key in fields if key not in Device.model_fields]
        fields = {key: fields[key] for key in ["kind", "name", *own]}
    return fields


def _sentences(model: type[Section]) -> dict[str, str]:
    """The sentence that stands below each field, of the class itself or of what it derives from."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not (issubclass(cls, Section) and cls is not Section):
            continue
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, below in itertools.pairwise(statements):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                name = field.target.id
                alias = cls.model_fields[name].alias if name in cls.model_fields else None
                found[alias or name] = " ".join(str(below.value.value).split())
    return found


def _purpose(model: type[Section]) -> str:
    return " ".join((inspect.getdoc(model) or "").split("\n\n")[0].split())


def _section(annotation: Any) -> type[Section] | None:
    """The model of a table, or of the members of a list of tables."""
    bare = _bare(annotation)
    if get_origin(bare) is tuple:
        bare = _bare(get_args(bare)[0])
    return bare if isinstance(bare, type) and issubclass(bare, Section) else None


def _bare(annotation: Any) -> Any:
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            annotation = next(one for one in get_args(annotation) if one is not type(None))
        else:
            return annotation


def _type(field: FieldInfo) -> str:
    bare = _bare(field.annotation)
    words = _type_words(bare)
    low, high = _bounds(field)
    if low is not None and high is not None:
        return f"{words}, {low} to {high}"
    return f"{words}, {low} or more" if low is not None else words


def _type_words(bare: Any) -> str:
    origin = get_origin(bare)
    if origin is Literal:
        return "one of " + ", ".join(f'`"{token}"`' for token in get_args(bare))
    if origin is tuple:
        return "tables" if _section(bare) else f"list of {_type_words(_bare(get_args(bare)[0]))}"
    if origin is dict:
        return f"table: name to {_type_words(_bare(get_args(bare)[1]))}"
    if isinstance(bare, type) and issubclass(bare, Section):
        return "table"
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return "one of " + ", ".join(f'`"{one.value}"`' for one in bare)
    return {
        bool: "true or false",
        int: "whole number",
        float: "number",
        str: "text",
        Path: "path",
        date: "date",
    }[bare]


def _bounds(field: FieldInfo) -> tuple[str | None, str | None]:
    low = high = None
    for one in field.metadata:
        if (least := getattr(one, "ge", None)) is not None:
            low = f"{least:g}"
        elif (above := getattr(one, "gt", None)) is not None:
            low = f"above {above:g}"
        if (most := getattr(one, "le", None)) is not None:
            high = f"{most}"
    return low, high


def _default(field: FieldInfo) -> str:  # noqa: PLR0911  # a table in words
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    match value:
        case None:
            return "none"
        case bool():
            return "`true`" if value else "`false`"
        case float():
            return f"`{value:g}`"
        case str() | Path():
            return f'`"{value}"`'
        case dict() if value and all(key == meaning for key, meaning in value.items()):
            return "each by its own name"
        case dict() | tuple() if not value:
            return "empty"
        case Section():
            return "its own"
        case _:
            return f"`{value}`"


def _unit(key: str) -> str:
    return next((unit for ending, unit in _UNITS if key.endswith(ending)), "")


def main() -> int:
    """Write the page."""
    PAGE.write_text(reference(), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
