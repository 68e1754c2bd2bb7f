"""Bytes from outside as values, within bounds: sixteen kilobytes can ask for a gigabyte of empty lists."""

from __future__ import annotations

import json
import math
from typing import Any

import msgpack

from agent.wire.batch import MAX_BYTES, MAX_RECORDS, CodecError

MAX_CONTAINERS = 100_000
"""Most lists and maps in one payload, of any depth; each takes 60 to 100 bytes of memory."""
_MAX_ITEMS = MAX_RECORDS + 1
"""Of one list: msgpack makes room for as many as a list says that it has, for 500 lists in one another."""


def unpack(packed: bytes) -> Any:
    """One msgpack value. Raises CodecError."""
    left = MAX_CONTAINERS

    def counted(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise CodecError(f"more than {MAX_CONTAINERS} lists and maps")
        return value

    _check_size(packed)
    try:
        return msgpack.unpackb(
            packed, list_hook=counted, object_hook=counted, max_array_len=_MAX_ITEMS, max_map_len=_MAX_ITEMS
        )
    except CodecError:
        raise
    except (TypeError, ValueError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError(f"not msgpack: {error}") from error


def unpack_own(packed: bytes) -> Any:
    """One msgpack value that the store gave back: its size is bounded there, and each list is here.

    Lists are not counted: a call for each would take longer than all else of it. Raises CodecError.
    """
    try:
        return msgpack.unpackb(packed, max_array_len=_MAX_ITEMS, max_map_len=_MAX_ITEMS)
    except (TypeError, ValueError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError(f"not msgpack: {error}") from error


def parse(text: bytes) -> Any:
    """One JSON value. Raises CodecError."""
    _check_size(text)
    if text.count(b"[") + text.count(b"{") > MAX_CONTAINERS:
        raise CodecError(f"more than {MAX_CONTAINERS} lists and objects")
    try:
        value = json.loads(text.decode(), parse_constant=_no_number, parse_float=_finite)
        if rb"\ud" in text or rb"\uD" in text:
            # Half of a surrogate pair is no text: whoever writes it as UTF-8 later would fail.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {error}") from error
    return value


def _no_number(_word: str) -> None:
    """NaN, Infinity and -Infinity are no JSON, and where they come all the same they are null."""


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_BYTES:
        raise CodecError(f"{len(payload)} bytes; no payload has more than {MAX_BYTES}")
