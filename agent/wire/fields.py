"""The two forms of a body or a state, made from the table of its fields (`agent.domain.field`).

In the compact form it is a msgpack array of the fields in their order, in JSON an object of them by name. A
reader ignores what stands behind the fields that it knows, and takes a field that is not there for null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from enum import IntEnum, StrEnum
from itertools import repeat
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from agent.domain.field import Field
from agent.domain.record import Signals
from agent.domain.stamp import Utc, UtcSource
from agent.wire.batch import CodecError
from agent.wire.time_text import unix_ms, utc_text

T = TypeVar("T")
ELLIPSIS = "…"
_ELLIPSIS_BYTES = len(ELLIPSIS.encode())
_LEAST, _LIMIT = -(1 << 63), 1 << 64
_SOURCES = {source.name.lower(): source for source in UtcSource}


def packed(values: Sequence[Any]) -> bytes:
    """Compact values as msgpack. A whole number beyond 64 bits is no value: nobody could read it."""
    try:
        return msgpack.packb(values)  # type: ignore[no-any-return]  # msgpack is untyped
    except OverflowError:
        return msgpack.packb(_readable(values))  # type: ignore[no-any-return]  # msgpack is untyped


def _readable(value: Any) -> Any:
    """The same with null in place of whole numbers beyond 64 bits."""
    if type(value) is int and not _LEAST <= value < _LIMIT:
        return None
    if isinstance(value, list | tuple):
        return [_readable(one) for one in value]
    if isinstance(value, dict):
        return {key: _readable(one) for key, one in value.items()}
    return value


class Form(NamedTuple):
    """How values of one type are written; None where a value is written as it is.

    Attributes:
        name: of the type, for the document.
        pack: to the compact form.
        unpack: back; raises CodecError for what is not such a value.
        to_json: to the JSON form.
        from_json: back; None for the same as `unpack`.
        schema: JSON Schema of the JSON form.
    """

    name: str
    pack: Callable[[Any], Any] | None
    unpack: Callable[[Any], Any]
    to_json: Callable[[Any], Any] | None
    from_json: Callable[[Any], Any] | None
    schema: dict[str, Any]


class Row(NamedTuple):
    """One field of a table, for whoever describes it.

    Attributes:
        name: of the field.
        row: what is told of it.
        form: how it is written.
        nullable: whether it may be null.
        required: whether it has to be there.
    """

    name: str
    row: Field
    form: Form
    nullable: bool
    required: bool

    @property
    def is_whole(self) -> bool:
        """Whether the compact form holds a whole number."""
        return bool(self.row.scale) or self.form is _WHOLE or self.form.name == "integer"


class Layout(Generic[T]):
    """Both forms of one dataclass.

    Args:
        of: the dataclass; every field is annotated with its `Field`.

    Raises:
        TypeError: a field without its row, or of a type that has no form.
    """

    def __init__(self, of: type[T]) -> None:
        self.type = of
        self.rows = _rows(of)
        names = [row.name for row in self.rows]
        self._get: Callable[[Any], tuple[Any, ...]] = (
            attrgetter(*names) if len(names) > 1 else lambda one: (getattr(one, names[0]),)
        )
        self._in_order = _in_order(self.rows)
        self._unpacked = [(row.name, row.nullable, row.form.unpack) for row in self.rows]
        self._columns = [
            (bool(row.row.scale) or row.form is _WHOLE, row.nullable, row.form.unpack) for row in self.rows
        ]

    def pack(self, one: T) -> list[Any]:
        """The fields in order, in the compact form; nulls at the end are left out.

        Raises ValueError when a number that has to be there is none.
        """
        try:
            values = self._in_order(one)
        except (OverflowError, ValueError):  # a number that is none, or without end: no value
            values = self._in_order(replace(one, **self._without_numbers(one)))  # type: ignore[type-var]  # a dataclass
        while values and values[-1] is None:
            values.pop()
        return values

    def _without_numbers(self, one: T) -> dict[str, None]:
        values = zip(self.rows, self._get(one), strict=True)
        return {
            row.name: None
            for row, value in values
            if row.row.scale and row.nullable and value is not None and not _has_whole(value, row.row.scale)
        }

    def unpack(self, values: Any) -> T:
        """The inverse. Raises CodecError."""
        if not isinstance(values, list | tuple):
            raise CodecError(f"not a list of the fields of {self.type.__name__}")
        given = iter(values)
        made = []
        for name, nullable, unpack in self._unpacked:
            value = next(given, None)
            made.append(_field(self.type, name, value, nullable, unpack))
        return self.type(*made)

    def fits_columns(self, columns: Sequence[Sequence[Any]]) -> bool:
        """Whether columns of the fields, in the compact form, give each a value of this type."""
        for column, (whole, nullable, unpack) in zip(columns, self._columns, strict=False):
            there = set(map(type, column))
            if not nullable and NoneType in there:
                return False
            if whole:
                if not there <= _WHOLE_OR_NONE:
                    return False
                continue
            if len(there - _NONE) > 1:
                return False
            try:
                for value in set(column) - _NULL:
                    unpack(value)
            except (CodecError, LookupError, TypeError):
                return False
        return all(nullable for _, nullable, _ in self._columns[len(columns) :])

    def unpack_columns(self, columns: Sequence[Sequence[Any]]) -> list[T] | None:
        """Many at once, from the columns of their fields; None when `fits_columns` is not so."""
        if not self.fits_columns(columns):
            return None
        made: list[Iterable[Any]] = []
        for at, row in enumerate(self.rows):
            column = columns[at] if at < len(columns) else repeat(None, len(columns[0]))
            if scale := row.row.scale:
                made.append([None if value is None else value / scale for value in column])
            elif row.form is _WHOLE or at >= len(columns):
                made.append(column)
            else:
                known = {value: row.form.unpack(value) for value in set(column) - _NULL} | {None: None}
                made.append([known[value] for value in column])
        return list(map(self.type, *made))

    def to_json(self, one: T) -> dict[str, Any]:
        """The fields by name."""
        given: dict[str, Any] = {}
        for row, value in zip(self.rows, self._get(one), strict=True):
            if row.form is _UTC:
                given |= _utc_to_json(row.name, value)
            else:
                plain = row.form.to_json
                given[row.name] = value if value is None or plain is None else plain(value)
        return given

    def from_json(self, given: Any) -> T:
        """The inverse; keys that it does not know are ignored. Raises CodecError."""
        if not isinstance(given, dict):
            raise CodecError(f"not an object of the fields of {self.type.__name__}")
        made = []
        for row in self.rows:
            value = given.get(row.name)
            read = row.form.from_json or row.form.unpack
            if row.form is _UTC and value is not None:
                value = [value, given.get(f"{row.name}_source"), given.get(f"{row.name}_uncertainty_ms")]
            made.append(_field(self.type, row.name, value, row.nullable, read))
        return self.type(*made)


_LAYOUTS: dict[type, Layout[Any]] = {}


def layout(of: type[T]) -> Layout[T]:
    """The layout of a dataclass, made once."""
    made = _LAYOUTS.get(of)
    if made is None:
        made = _LAYOUTS[of] = Layout(of)
    return made


def _in_order(rows: Sequence[Row]) -> Callable[[Any], list[Any]]:
    """A function that gives the fields in the compact form: one expression, since a position a second passes.

    It is made as `dataclasses` makes `__init__`: from the names and numbers of the table alone.
    """
    names: dict[str, Any] = {"whole": round}
    parts = []
    for row in rows:
        value = f"one.{row.name}"
        if row.row.scale:
            part = f"whole({value} * {row.row.scale!r})" + (f" % {row.row.wrap}" if row.row.wrap else "")
        elif row.form.pack is not None:
            names[f"pack_{row.name}"] = row.form.pack
            part = f"pack_{row.name}({value})"
        else:
            part = value
        parts.append(f"None if {value} is None else {part}" if row.nullable and part != value else part)
    made: Callable[[Any], list[Any]] = eval(f"lambda one: [{', '.join(parts)}]", names)  # noqa: S307  # see above
    return made


def _field(of: type, name: str, value: Any, nullable: bool, read: Callable[[Any], Any]) -> Any:
    if value is None:
        if nullable:
            return None
        raise CodecError(f"{of.__name__}.{name} is missing")
    try:
        return read(value)
    except (CodecError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CodecError(f"{of.__name__}.{name} can not be {value!r:.80}") from error


def _rows(of: type) -> tuple[Row, ...]:
    if not is_dataclass(of):
        raise TypeError(f"{of.__name__} is no dataclass")
    hints = get_type_hints(of, include_extras=True)
    rows = []
    for one in fields(of):
        hint = hints[one.name]
        told = next((extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Field)), None)
        if get_origin(hint) is not Annotated or told is None or not told.sentence:
            raise TypeError(
                f'{of.__name__}.{one.name}: write it as Annotated[type, Field("What it says.")], '
                "so that the contract knows it"
            )
        inner, nullable = _without_none(get_args(hint)[0])
        row = Row(one.name, told, _form(of, one.name, inner, told), nullable, one.default is MISSING)
        if told.since > 1 and not nullable:
            raise TypeError(
                f"{of.__name__}.{one.name} came later: older units do not send it, so it may be None"
            )
        rows.append(row)
    return tuple(rows)


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    kinds = [one for one in get_args(hint) if one is not NoneType]
    inner = kinds[0]
    for one in kinds[1:]:
        inner |= one
    return inner, len(kinds) < len(get_args(hint))


def _form(of: type, name: str, inner: Any, told: Field) -> Form:  # noqa: C901, PLR0911  # a table in words
    if inner is float:
        return _scaled_form(told) if told.scale else _FLOAT
    if inner in _PLAIN:
        return _PLAIN[inner]
    if inner is str:
        return _text_form(told)
    if inner == tuple[str, ...]:
        return _list_form(told)
    if inner == Signals:
        return _pairs_form(
            "map of values", told, _signal_value, {"type": ["boolean", "number", "string", "null"]}
        )
    if inner == tuple[tuple[str, int], ...]:
        return _pairs_form("map of integers", told, _whole, {"type": "integer"})
    if inner == tuple[tuple[str, str], ...]:
        return _pairs_form("map of texts", told, _text, {"type": "string"})
    if isinstance(inner, type) and issubclass(inner, IntEnum):
        return Form("integer", int, _enumerated(inner), int, None, {"enum": [one.value for one in inner]})
    if isinstance(inner, type) and issubclass(inner, StrEnum):
        return Form("text", str, inner, str, None, {"enum": [one.value for one in inner]})
    if isinstance(inner, type) and is_dataclass(inner):
        part = layout(inner)
        return Form(
            inner.__name__.removesuffix("Record").lower(),
            part.pack,
            part.unpack,
            part.to_json,
            part.from_json,
            schema(inner),
        )
    raise TypeError(f"{of.__name__}.{name}: there is no form for a value of type {inner}")


# --- values ---------------------------------------------------------------------------------------


def _has_whole(value: float, scale: float) -> bool:
    """Whether a whole number stands for a value: it is one, and has an end also once it is scaled."""
    try:
        return math.isfinite(value * scale)
    except OverflowError:
        return False


def _scaled(value: float, scale: float) -> int | None:
    """The whole number that stands for a value; None for what is no number."""
    return round(value * scale) if _has_whole(value, scale) else None


def _scaled_form(told: Field) -> Form:
    scale, wrap = told.scale, told.wrap

    def to_json(value: float) -> float | None:
        whole = _scaled(value, scale)
        return None if whole is None else (whole % wrap if wrap else whole) / scale

    return Form("number", None, lambda value: _whole(value) / scale, to_json, _float, {"type": "number"})


def _whole(value: Any) -> int:
    if type(value) is not int or not _LEAST <= value < _LIMIT:
        raise CodecError("not a whole number of 64 bits")
    return value


def _float(value: Any) -> float | None:
    if type(value) not in (int, float):
        raise CodecError("not a number")
    return float(value) if math.isfinite(value) else None


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CodecError("neither true nor false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CodecError("not a text")
    return value


def _signal_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise CodecError("not a value of a signal")


def _enumerated(of: type[IntEnum]) -> Callable[[Any], IntEnum]:
    members = {one.value: one for one in of}

    def unpack(value: Any) -> IntEnum:
        return members[_whole(value)]

    return unpack


def cut(text: str, most_bytes: int) -> str:
    """`text`, or what of it fits into so many bytes of UTF-8 with an ellipsis that says so."""
    if len(text) <= most_bytes and text.isascii():
        return text
    # A lone surrogate, as file names and undecodable bytes have them, is no text on the wire.
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most_bytes:
        return raw.decode()
    return raw[: most_bytes - _ELLIPSIS_BYTES].decode("utf-8", "ignore") + ELLIPSIS


def _text_form(told: Field) -> Form:
    def limited(value: str) -> str:
        return cut(value, told.most)

    return Form("text", limited, _text, limited, None, {"type": "string"})


def _list_form(told: Field) -> Form:
    def limited(values: Sequence[str]) -> list[str]:
        most = [cut(value, told.most) for value in values[: told.items]]
        return most if len(values) <= told.items else [*most[:-1], ELLIPSIS]

    def unpack(values: Any) -> tuple[str, ...]:
        if not isinstance(values, list | tuple):
            raise CodecError("not a list")
        return tuple(map(_text, values))

    return Form(
        "list of texts", limited, unpack, limited, None, {"type": "array", "items": {"type": "string"}}
    )


def _pairs_form(name: str, told: Field, value_of: Callable[[Any], Any], value_schema: dict[str, Any]) -> Form:
    def limited(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        some = pairs[: told.items] if told.items else pairs
        return {
            cut(key, told.most): cut(value, told.most)
            if isinstance(value, str)
            else None
            if isinstance(value, float) and not math.isfinite(value)
            else value
            for key, value in some
        }

    def unpack(given: Any) -> tuple[tuple[str, Any], ...]:
        if not isinstance(given, dict):
            raise CodecError("not a map")
        return tuple((_text(key), value_of(value)) for key, value in given.items())

    return Form(
        name, limited, unpack, limited, None, {"type": "object", "additionalProperties": value_schema}
    )


def utc_source(number: Any) -> UtcSource:
    """The source of that number; one of a later revision counts as the weakest. Raises CodecError."""
    _whole(number)
    return UtcSource(number) if 0 <= number <= UtcSource.GNSS else UtcSource.LAST_KNOWN


def utc_source_of(word: Any) -> UtcSource:
    """The source of that name; one of a later revision counts as the weakest. Raises CodecError."""
    return _SOURCES.get(_text(word), UtcSource.LAST_KNOWN)


def _unpack_utc(given: Any) -> Utc:
    if not isinstance(given, list | tuple):
        raise CodecError("not a UTC")
    milliseconds, source, uncertainty_ms = [*given, None, None, None][:3]
    return Utc(
        _whole(milliseconds), utc_source(source), None if uncertainty_ms is None else _whole(uncertainty_ms)
    )


def _utc_from_json(given: list[Any]) -> Utc:
    text, source, uncertainty_ms = given
    return Utc(
        unix_ms(_text(text)),
        utc_source_of(source),
        None if uncertainty_ms is None else _whole(uncertainty_ms),
    )


def _utc_to_json(name: str, utc: Utc | None) -> dict[str, Any]:
    return {
        name: None if utc is None else utc_text(utc.unix_ms),
        f"{name}_source": "none" if utc is None else utc.source.name.lower(),
        f"{name}_uncertainty_ms": None if utc is None else utc.uncertainty_ms,
    }


_FLOAT = Form("number", _float, _float, _float, None, {"type": "number"})
_UTC = Form(
    "UTC",
    lambda utc: [utc.unix_ms, int(utc.source), utc.uncertainty_ms],
    _unpack_utc,
    None,
    _utc_from_json,
    {"type": "string", "format": "date-time"},
)
_WHOLE = Form("integer", None, _whole, None, None, {"type": "integer"})
_PLAIN: dict[type, Form] = {
    bool: Form("bool", None, _bool, None, None, {"type": "boolean"}),
    int: _WHOLE,
    Utc: _UTC,
}
_WHOLE_OR_NONE = {int, NoneType}
_NONE = {NoneType}
_NULL = {None}


def schema(of: type) -> dict[str, Any]:
    """JSON Schema of the JSON form of a dataclass; what it does not name is allowed, and to be ignored."""
    properties: dict[str, Any] = {}
    required = []
    for row in layout(of).rows:
        told = dict(row.form.schema)
        if row.nullable:
            told = {"anyOf": [told, {"type": "null"}]}
        properties[row.name] = told | {"description": row.row.sentence}
        if not row.nullable:
            required.append(row.name)
        if row.form is _UTC:
            properties[f"{row.name}_source"] = {"type": "string"}
            properties[f"{row.name}_uncertainty_ms"] = {"type": ["integer", "null"]}
    return {"type": "object", "properties": properties, "required": required}
