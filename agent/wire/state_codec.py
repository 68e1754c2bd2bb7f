"""Retained states as bytes: a msgpack array of the fields in order, or a JSON object with named fields."""

from __future__ import annotations

import json
from typing import Any

import msgpack

from agent.domain.state import STATE_TYPES, State
from agent.wire.batch import CodecError
from agent.wire.fields import layout
from agent.wire.unpacking import parse, unpack

VERSION = 1


def pack_state(state: State) -> bytes:
    """A state as a msgpack array: version, then the fields; what is null at the end is left out."""
    return msgpack.packb([VERSION, *layout(type(state)).pack(state)])  # type: ignore[no-any-return]  # untyped


def unpack_state(name: str, payload: bytes) -> State:
    """The inverse of `pack_state`. Raises CodecError."""
    kind, array = _type_of(name), unpack(payload)
    if not isinstance(array, list) or not array or array[0] != VERSION:
        raise CodecError(f"not a {name} state of version {VERSION}")
    return layout(kind).unpack(array[1:])


def state_to_json(state: State) -> bytes:
    """A state as a JSON object."""
    given: dict[str, Any] = {"version": VERSION, **layout(type(state)).to_json(state)}
    return json.dumps(given, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def state_from_json(name: str, payload: bytes) -> State:
    """The inverse of `state_to_json`. Raises CodecError or KeyError."""
    kind, given = _type_of(name), parse(payload)
    if given["version"] != VERSION:
        raise CodecError(f"state of version {given['version']!r}; this reader knows {VERSION}")
    return layout(kind).from_json(given)


def _type_of(name: str) -> type[State]:
    if name not in STATE_TYPES:
        raise CodecError(f"there is no state {name!r:.40}")
    return STATE_TYPES[name]
