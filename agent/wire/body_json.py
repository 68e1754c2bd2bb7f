"""Record bodies as JSON objects with every field named, and the check that a body from outside is one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import msgpack

from agent.domain.fix import FixMode
from agent.domain.record import (
    KIND_OF_BODY,
    Alert,
    Body,
    Emergency,
    Gap,
    Health,
    Kind,
    Position,
    StatusChange,
    Telemetry,
)
from agent.wire.batch import CodecError
from agent.wire.body import position_from_fields, unpack_body

_TYPE_OF_KIND: dict[Kind, type[Body]] = {kind: body for body, kind in KIND_OF_BODY.items()}
_NAME_VALUE_FIELDS = frozenset({"signals", "counts"})


def body_to_json(body: Body) -> dict[str, Any]:
    """A body as a JSON object: the attributes by their names, name-value pairs as an object."""
    return {field.name: _plain(field.name, getattr(body, field.name)) for field in fields(body)}


def body_from_json(kind: Kind, data: Any) -> Body:
    """The inverse of `body_to_json`. Raises CodecError."""
    try:
        given = {name: _frozen(name, value) for name, value in data.items()}
        if kind is Kind.POSITION:
            given["mode"] = FixMode(given["mode"])
            for name in _POSITION_FLOATS & given.keys():
                given[name] = None if given[name] is None else float(given[name])
        return checked(_TYPE_OF_KIND[kind](**given))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CodecError(f"not a {kind.token} record: {error}") from error


def body_from_fields(kind: Kind, given: Any) -> Body:
    """A body from the list of its fields as `agent.wire.body` packs them. Raises CodecError."""
    try:
        if kind is Kind.POSITION:
            return checked(position_from_fields(given))
        return checked(unpack_body(kind, msgpack.packb(given)))
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise CodecError(f"not a {kind.token} record: {error}") from error


def checked(body: Body) -> Body:
    """The body itself, when every field is of its type. Raises CodecError."""
    for name, is_one in _CHECKS[type(body)].items():
        if not is_one(getattr(body, name)):
            raise CodecError(f"{type(body).__name__}.{name} can not be {getattr(body, name)!r:.80}")
    return body


def finite(value: Any) -> Any:
    """JSON has no infinity and no not-a-number: both become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(name: str, value: Any) -> Any:
    if name in _NAME_VALUE_FIELDS:
        return {key: finite(item) for key, item in value}
    if isinstance(value, FixMode):
        return int(value)
    return list(value) if isinstance(value, tuple) else finite(value)


def _frozen(name: str, value: Any) -> Any:
    if name in _NAME_VALUE_FIELDS:
        return tuple(value.items())
    return tuple(value) if isinstance(value, list) else value


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _none_or(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_text, value))


def _pairs_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda pairs: all(_is_text(name) and check(value) for name, value in pairs)


def _is_signal_value(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


_POSITION_FLOATS = frozenset({"lat_deg", "lon_deg", "alt_m", "speed_mps", "course_deg", "hdop"})
_CHECKS: dict[type[Body], dict[str, Callable[[Any], bool]]] = {
    Emergency: {
        "active": _is_bool,
        "input": _is_text,
        "press_seq": _none_or(_is_int),
        "press_session": _none_or(_is_int),
    },
    StatusChange: {
        "status": _is_text,
        "previous": _none_or(_is_text),
        "input": _is_text,
        "press_seq": _none_or(_is_int),
        "press_session": _none_or(_is_int),
    },
    Alert: {"code": _is_text, "text": _is_text},
    Position: {
        "lat_deg": _is_number,
        "lon_deg": _is_number,
        "alt_m": _none_or(_is_number),
        "speed_mps": _none_or(_is_number),
        "course_deg": _none_or(_is_number),
        "satellites": _none_or(_is_int),
        "hdop": _none_or(_is_number),
    },
    Telemetry: {"signals": _pairs_of(_is_signal_value)},
    Health: {"reasons": _is_texts, "raised": _is_texts, "cleared": _is_texts},
    Gap: {"last_seq": _is_int, "reason": _is_text, "counts": _pairs_of(_is_int)},
}
