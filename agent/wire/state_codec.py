"""Retained states as bytes: a msgpack array of the fields in order, or a JSON object with named fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack

from agent.domain.fix import FixMode
from agent.domain.record import Kind, Position, Telemetry
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import (
    STATE_TYPES,
    HealthState,
    LinkState,
    LocationState,
    State,
    StatusState,
    VehicleState,
)
from agent.wire.batch import MAX_RECORDS, CodecError
from agent.wire.body import position_fields, position_from_fields
from agent.wire.body_json import body_from_json, body_to_json, checked, finite
from agent.wire.time_text import unix_ms, utc_text

VERSION = 1


class _Shape(NamedTuple):
    """How one field is written: as `width` elements of the array, and as keys of the object."""

    width: int
    pack: Callable[[Any], list[Any]]
    unpack: Callable[[list[Any]], Any]
    to_json: Callable[[str, Any], dict[str, Any]]
    from_json: Callable[[str, dict[str, Any]], Any]


def pack_state(state: State) -> bytes:
    """A state as a msgpack array: version, then the fields; what is null at the end is left out."""
    array: list[Any] = [VERSION]
    for name, shape in _FIELDS[type(state)].items():
        array += shape.pack(getattr(state, name))
    while array[-1] is None:
        array.pop()
    return msgpack.packb(array)  # type: ignore[no-any-return]  # msgpack is untyped


def unpack_state(name: str, payload: bytes) -> State:
    """The inverse of `pack_state`. Raises CodecError, TypeError or ValueError."""
    array = msgpack.unpackb(payload, max_array_len=MAX_RECORDS, max_map_len=MAX_RECORDS)
    kind = _type_of(name)
    if not isinstance(array, list) or not array or array[0] != VERSION:
        raise CodecError(f"not a {name} state of version {VERSION}")
    shapes = _FIELDS[kind]
    elements = array[1:] + [None] * (sum(shape.width for shape in shapes.values()) - len(array) + 1)
    values = {}
    for field, shape in shapes.items():
        values[field] = shape.unpack(elements[: shape.width])
        elements = elements[shape.width :]
    return kind(**values)


def state_to_json(state: State) -> bytes:
    """A state as a JSON object."""
    given: dict[str, Any] = {"version": VERSION}
    for name, shape in _FIELDS[type(state)].items():
        given |= shape.to_json(name, getattr(state, name))
    return json.dumps(given, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def state_from_json(name: str, payload: bytes) -> State:
    """The inverse of `state_to_json`. Raises CodecError, KeyError, TypeError or ValueError."""
    kind = _type_of(name)
    given = json.loads(payload)
    if given["version"] != VERSION:
        raise CodecError(f"state of version {given['version']!r}; this reader knows {VERSION}")
    return kind(**{field: shape.from_json(field, given) for field, shape in _FIELDS[kind].items()})


def _type_of(name: str) -> type[State]:
    if name not in STATE_TYPES:
        raise CodecError(f"there is no state {name!r:.40}")
    return STATE_TYPES[name]


def _plain(kind: type, *, nullable: bool = False) -> _Shape:
    """A field that is the same in both forms."""

    def of_kind(value: Any) -> Any:
        if type(value) is kind or (nullable and value is None):
            return value
        raise CodecError(f"{value!r:.80} is not {kind.__name__}")

    return _Shape(
        1,
        lambda value: [value],
        lambda elements: of_kind(elements[0]),
        lambda name, value: {name: value},
        lambda name, given: of_kind(given[name]),
    )


def _pack_utc(utc: Utc | None) -> list[Any]:
    return [None] * 3 if utc is None else [utc.unix_ms, int(utc.source), utc.uncertainty_ms]


def _unpack_utc(elements: list[Any]) -> Utc | None:
    milliseconds, source, uncertainty_ms = elements
    if milliseconds is None:
        return None
    if type(milliseconds) is not int or type(uncertainty_ms) not in (int, type(None)):
        raise CodecError("not a UTC")
    return Utc(milliseconds, UtcSource(source), uncertainty_ms)


def _utc_to_json(name: str, utc: Utc | None) -> dict[str, Any]:
    return {
        name: None if utc is None else utc_text(utc.unix_ms),
        f"{name}_source": "none" if utc is None else utc.source.name.lower(),
        f"{name}_uncertainty_ms": None if utc is None else utc.uncertainty_ms,
    }


def _utc_from_json(name: str, given: dict[str, Any]) -> Utc | None:
    text = given[name]
    if text is None:
        return None
    return _unpack_utc(
        [unix_ms(text), UtcSource[given[f"{name}_source"].upper()], given[f"{name}_uncertainty_ms"]]
    )


def _unpack_position(elements: list[Any]) -> Position | None:
    if elements[0] is None:
        return None
    position = position_from_fields(elements[0])
    checked(position)
    return position


def _position_to_json(position: Position) -> dict[str, Any]:
    """At the resolution that records have, so that both forms say the same."""
    return body_to_json(position_from_fields(position_fields(position)))


def _position_from_json(name: str, given: dict[str, Any]) -> Position | None:
    data = given[name]
    if data is None:
        return None
    position = body_from_json(Kind.POSITION, data)
    assert isinstance(position, Position)
    return position


def _pairs_from_map(value: Any) -> Any:
    return tuple(() if value is None else value.items())


def _signals(elements: list[Any]) -> Any:
    telemetry = Telemetry(_pairs_from_map(elements[0]))
    checked(telemetry)
    return telemetry.signals


def _texts(value: Any) -> tuple[str, ...]:
    texts = () if value is None else tuple(value)
    if isinstance(value, str) or not all(isinstance(text, str) for text in texts):
        raise CodecError("not a list of texts")
    return texts


def _details(value: Any) -> tuple[tuple[str, str], ...]:
    pairs = _pairs_from_map(value)
    if not all(isinstance(part, str) for pair in pairs for part in pair):
        raise CodecError("not texts by name")
    return pairs  # type: ignore[no-any-return]  # checked in the line above


def _count_or_none(value: Any) -> int | None:
    if value is None or type(value) is int:
        return value
    raise CodecError(f"{value!r:.80} is not a whole number")


_UTC = _Shape(3, _pack_utc, _unpack_utc, _utc_to_json, _utc_from_json)
_MODE = _Shape(
    1,
    lambda mode: [int(mode)],
    lambda elements: FixMode(elements[0]),
    lambda name, mode: {name: int(mode)},
    lambda name, given: FixMode(given[name]),
)
_POSITION = _Shape(
    1,
    lambda position: [None if position is None else position_fields(position)],
    _unpack_position,
    lambda name, position: {name: None if position is None else _position_to_json(position)},
    _position_from_json,
)
_SIGNALS = _Shape(
    1,
    lambda pairs: [dict(pairs)],
    _signals,
    lambda name, pairs: {name: {key: finite(value) for key, value in pairs}},
    lambda name, given: _signals([given[name]]),
)
_TEXTS = _Shape(
    1,
    lambda texts: [list(texts)],
    lambda elements: _texts(elements[0]),
    lambda name, texts: {name: list(texts)},
    lambda name, given: _texts(given[name]),
)
_DETAILS = _Shape(
    1,
    lambda pairs: [dict(pairs)],
    lambda elements: _details(elements[0]),
    lambda name, pairs: {name: dict(pairs)},
    lambda name, given: _details(given[name]),
)
_INT, _BOOL, _TEXT = _plain(int), _plain(bool), _plain(str)
_INT_OR_NONE, _TEXT_OR_NONE = _plain(int, nullable=True), _plain(str, nullable=True)
_COUNT_IF_TOLD = _INT_OR_NONE._replace(from_json=lambda name, given: _count_or_none(given.get(name)))
"""A field that came later: an object without it has null."""
_STAMP = {"boottime_ms": _INT, "utc": _UTC}

_FIELDS: dict[type[State], dict[str, _Shape]] = {
    LinkState: _STAMP
    | {
        "session": _INT,
        "online": _BOOL,
        "boot_id": _TEXT,
        "boot": _INT,
        "journal": _INT,
        "agent_version": _TEXT,
        "mqtt_version": _INT_OR_NONE,
        "planned": _BOOL,
        "events_seq": _COUNT_IF_TOLD,
        "trail_seq": _COUNT_IF_TOLD,
    },
    LocationState: _STAMP
    | {"mode": _MODE, "position": _POSITION, "last_known": _POSITION, "last_known_utc": _UTC},
    StatusState: _STAMP
    | {
        "status": _TEXT_OR_NONE,
        "since": _UTC,
        "seq": _INT_OR_NONE,
        "emergency": _BOOL,
        "emergency_since": _UTC,
        "emergency_seq": _INT_OR_NONE,
        "journal": _COUNT_IF_TOLD,
    },
    VehicleState: _STAMP | {"signals": _SIGNALS},
    HealthState: _STAMP
    | {
        "reasons": _TEXTS,
        "details": _DETAILS,
        "backlog_records": _INT_OR_NONE,
        "backlog_oldest_utc": _UTC,
    },
}
