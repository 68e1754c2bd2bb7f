"""From a TOML file to a checked model, and every mistake as one sentence with the line of the user's file."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from agent.config.plain_words import did_you_mean, shown
from agent.config.section import ConfigError, Section
from agent.config.toml_text import Place, TomlError, lines_of, parse, read_text
from agent.runtime.shortage import is_passing

_SECRET_WORDS = ("pass", "secret", "token", "credential", "pwd", "psk")
_PLAIN = {
    "missing": "missing",
    "model_type": "a table is expected here, e.g. { key = value }",
    "model_attributes_type": "a table is expected here, e.g. { key = value }",
    "dict_type": "a table is expected here, e.g. { key = value }",
    "tuple_type": "a list is expected here, e.g. [1, 2]",
    "string_type": "text in quotes is expected here",
    "path_type": "a path in quotes is expected here",
    "bool_type": "true or false is expected here",
    "bool_parsing": "true or false is expected here",
    "int_type": "a whole number is expected here",
    "int_parsing": "a whole number is expected here",
    "int_parsing_size": "this number is far too large",
    "int_from_float": "a whole number is expected here",
    "float_type": "a number is expected here",
    "float_parsing": "a number is expected here",
    "finite_number": "a number of a sensible size is expected here",
    "string_too_short": "must not be empty",
    "too_short": "at least one is needed",
}
"""What pydantic says in its own terms, said in the file's."""
_BOUNDS = {
    "greater_than": ("must be above {}", "gt"),
    "greater_than_equal": ("must be {} or more", "ge"),
    "less_than": ("must be below {}", "lt"),
    "less_than_equal": ("must be {} or less", "le"),
    "string_too_long": ("must have {} letters or fewer", "max_length"),
}

_MEMBERS = frozenset({"bool", "int", "float", "str"})
"""What pydantic calls the members of a union that it tried, one after the other."""

MOST_PROBLEMS = 100
"""More are counted: nobody reads them, and a file of nonsense must not keep the start waiting."""

Model = TypeVar("Model", bound=Section)


def load_as(model: type[Model], path: Path, **context: Any) -> Model:
    """Read a TOML file and validate it. Raises ConfigError with every problem at once.

    Args:
        model: what the file holds.
        path: the file.
        context: what validators of the model ask for, such as the table of device kinds.
    """
    text = read_toml(path)
    return validate(model, parse_toml(text, path), path, text=text, **context)


def read_toml(path: Path) -> str:
    """The text of a TOML file.

    Raises:
        ConfigError: naming the file and what a person can mend.
        OSError: the computer can not read it at the moment, which is no fault of the file.
    """
    try:
        return read_text(path)
    except OSError as error:
        if is_passing(error):
            raise
        raise ConfigError([f"{path}: can not be read: {error.strerror}"]) from error
    except TomlError as error:
        raise _refused(path, error) from error
    except ValueError as error:
        raise ConfigError([f"{str(path)!r}: no path can hold this"]) from error


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """The table that the text of a file is. Raises ConfigError."""
    try:
        return parse(text)
    except TomlError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: TomlError) -> ConfigError:
    where = str(path) if error.line is None else f"{path}:{error.line}"
    return ConfigError([f"{where}: not TOML: {error.why}"])


def validate(
    model: type[Model], table: dict[str, Any], path: Path, *, text: str | None = None, **context: Any
) -> Model:
    """Validate one file's table against `model`.

    Args:
        model: what the file holds.
        table: what was read.
        path: the file; relative paths in it are taken from its folder.
        text: the file's text, to tell lines from; None for a table that was made.
        context: what validators of the model ask for.

    Raises:
        ConfigError: naming file, line, each key and its value.
    """
    try:
        return model.model_validate(table, context={"folder": path.resolve().parent} | context)
    except ValidationError as error:
        items = error.errors(include_url=False)
        # A list with a bad member is reported a second time as too short; the member's own line says enough.
        items = [item for item in items if not (item["type"] == "too_short" and item["input"])]
        lines = {} if text is None else lines_of(text)
        problems = [_Problem(model, table, item, context, lines) for item in items[:MOST_PROBLEMS]]
        problems.sort(key=lambda one: one.line or 0)
        sentences = list(dict.fromkeys(one.sentence(path) for one in problems))
        if len(items) > MOST_PROBLEMS:
            sentences.append(f"{path}: and {len(items) - MOST_PROBLEMS} more")
        raise ConfigError(sentences) from error


class _Problem:
    """One mistake: where it is in the file and in the models, and what is to be said of it."""

    def __init__(
        self,
        model: type[Section],
        table: dict[str, Any],
        item: Any,
        context: Mapping[str, Any],
        lines: Mapping[Place, int],
    ) -> None:
        self._root = model
        self._item = item
        self._place = _place(item, table)
        self._models = _models_on_the_way(model, self._place, table, context)
        self._kinds: Mapping[str, Any] = context.get("kinds", {})
        self.line = line_of(self._place, lines)

    def sentence(self, path: Path) -> str:
        """The whole line for a person."""
        at = str(path) if self.line is None else f"{path}:{self.line}"
        where = written(self._place)
        value = self._value()
        shown_value = f" = {value}" if value is not None else ""
        return f"{at}: {where or 'the file'}{shown_value}: {self._words(where)}"

    def _value(self) -> str | None:
        """What stands there, shortened; None for a table, what is missing, and what may be a secret."""
        value = self._item["input"]
        if self._item["type"] == "missing" or not isinstance(value, str | int | float | bool | list):
            return None
        names = " ".join(str(part).lower() for part in self._place)
        # A secret may also stand under a name that is none, in a table that is none.
        unknown = self._item["type"] == "extra_forbidden" or self._place == ("uplink",)
        hides_secrets = (unknown or self._place[:2] == ("uplink", "brokers")) and not isinstance(
            value, int | float
        )
        if hides_secrets or any(word in names for word in _SECRET_WORDS):
            return None
        return shown(value)

    def _words(self, where: str) -> str:  # noqa: PLR0911  # a table in words
        kind, ctx = self._item["type"], self._item.get("ctx", {})
        if (
            self._item["loc"][-1:]
            and self._item["loc"][-1] in _MEMBERS
            and len(self._item["loc"]) > len(self._place)
        ):
            return "a number, true, false or text in quotes is expected here"
        if kind == "extra_forbidden":
            return self._root.moved.get(where) or self._stranger()
        if kind == "value_error":  # written here
            return str(self._item["msg"]).removeprefix("Value error, ")
        if kind == "tuple_type" and self._is_of_tables():
            return f"there may be several: write [[{where}]] with double brackets"
        if kind == "literal_error":
            return self._choices(ctx)
        if kind in _BOUNDS:
            words, key = _BOUNDS[kind]
            return words.format(ctx.get(key))
        return _PLAIN.get(kind, "this is not what is expected here")

    def _is_of_tables(self) -> bool:
        """Whether a list of tables stands here."""
        model, key = self._models[-1], self._place[-1]
        fields = {} if model is None else _by_key(model)
        members = get_args(fields[key].annotation) if key in fields else ()
        item = _bare(members[0]) if members else None
        return isinstance(item, type) and issubclass(item, Section)

    def _choices(self, ctx: Mapping[str, Any]) -> str:
        tokens = [token for token in str(ctx.get("expected", "")).replace(" or ", ", ").split(", ") if token]
        return f"one of {', '.join(tokens)} is expected{did_you_mean(self._item['input'], _unquoted(tokens))}"

    def _stranger(self) -> str:
        """What to say of a key that is not known here."""
        key = str(self._place[-1])
        if (model := self._models[-1]) is None:
            return "no such key"
        known = [str(key) for key in _by_key(model)]
        if hint := did_you_mean(key, known):
            return f"no such key{hint}"
        kinds = [kind for kind, row in self._kinds.items() if "kind" in known and key in _fields(row)]
        if kinds:
            return f"this kind of device has no such key; it is one of {' and '.join(kinds)}"
        return "no such key"


def _place(item: Any, table: Any) -> Place:
    """A place of the file from pydantic's, which goes on to name the members of a union that were tried."""
    place: list[str | int] = []
    value = table
    for part in item["loc"]:
        value = _member(value, part)
        if value is None:
            break
        place.append(part)
    if item["type"] == "missing":
        place.append(item["loc"][-1])
    return tuple(place)


def written(place: Place) -> str:
    """A place as a person writes it: device[0].baud."""
    where = ""
    for part in place:
        if isinstance(part, int):
            where += f"[{part}]"
        else:
            name = part if part.replace("_", "").replace("-", "").isalnum() else shown(part)
            where += f".{name}" if where else name
    return where


def line_of(place: Place, lines: Mapping[Place, int]) -> int | None:
    """The line of a place, or of the table in which it should stand; None where that is the whole file."""
    for end in range(len(place), 0, -1):
        if place[:end] in lines:
            return lines[place[:end]]
    return None


def _models_on_the_way(
    model: type[Section], place: Place, table: Any, context: Mapping[str, Any]
) -> list[type[Section] | None]:
    """The model of each table that leads to the last part of a place."""
    models: list[type[Section] | None] = [model]
    kinds: Mapping[str, Any] = context.get("kinds", {})
    here: Any = model
    for part in place[:-1]:
        table = _member(table, part)
        if isinstance(part, int):
            members = [one for one in get_args(here) if one is not Ellipsis]
            here = members[0] if members else None
        elif isinstance(here, type) and issubclass(here, Section):
            fields = _by_key(here)
            here = _bare(fields[part].annotation) if part in fields else None
        else:
            here = None
        here = _bare(here)
        if isinstance(here, type) and issubclass(here, Section) and "kind" in here.model_fields and kinds:
            kind = table.get("kind") if isinstance(table, dict) else None
            here = kinds[kind].settings_class() if isinstance(kind, str) and kind in kinds else here
        models.append(here if isinstance(here, type) and issubclass(here, Section) else None)
    return models


def _bare(annotation: Any) -> Any:
    """A type without Annotated and without "or nothing"."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            members = [one for one in get_args(annotation) if one is not type(None)]
            if len(members) != 1:
                return annotation
            annotation = members[0]
        else:
            return annotation


def _member(value: Any, part: str | int) -> Any:
    """What a table or a list has under a key or at a position; None for nothing."""
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def _by_key(model: type[Section]) -> dict[str | int, Any]:
    """The fields of a model by their keys in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _fields(row: Any) -> Sequence[str]:
    return list(row.settings_class().model_fields)


def _unquoted(tokens: Sequence[str]) -> list[str]:
    return [token.strip("'\"") for token in tokens]
