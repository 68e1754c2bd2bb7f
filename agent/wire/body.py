"""Record bodies as compact bytes and as JSON objects."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgpack

from agent.domain.record import KIND_OF_TOKEN, Body, Kind, Opaque, Telemetry, token_of
from agent.wire.batch import CodecError
from agent.wire.fields import layout, packed

MAX_BODY_BYTES = 2048
"""No body that this agent makes is larger. Of texts and lists the fields' own limits see to that."""
_MAX_ELEMENTS = 4096
_KINDS: dict[int, type[Body]] = {kind.value: kind.body for kind in Kind}
_RAW = "msgpack"
"""Key of a body in JSON that the sender itself could not read: the compact form in base64."""


def pack_body(body: Body) -> bytes:
    """A msgpack array of the fields; `unpack_body` gives them back, rounded to the fields' resolution.

    No number keeps a record from being packed: a press does not go because an odometer is mad.

    Telemetry may come out larger than MAX_BODY_BYTES: see `bounded`.
    """
    if isinstance(body, Opaque):
        return body.raw
    return packed(layout(type(body)).pack(body))


def unpack_body(kind: int, packed: bytes) -> Body:
    """Give back a body; an `Opaque` of a kind that is not known. Raises ValueError when there is none."""
    try:
        return body_from_fields(kind, msgpack.unpackb(packed, max_array_len=_MAX_ELEMENTS), packed)
    except (TypeError, KeyError, msgpack.UnpackException) as error:
        raise CodecError(f"not a {token_of(kind)} body: {error}") from error


def body_from_fields(kind: int, given: Any, packed: bytes | None = None) -> Body:
    """A body from its unpacked array. Raises CodecError."""
    of = _KINDS.get(kind)
    if of is None:
        if not isinstance(given, list):
            raise CodecError(f"not a body of {token_of(kind)}: no array")
        return Opaque(kind, None, packed if packed is not None else msgpack.packb(given))
    return layout(of).unpack(given)


def bounded(body: Body) -> list[Body]:
    """The body itself, or telemetry in as many as keep each within MAX_BODY_BYTES."""
    if not isinstance(body, Telemetry) or len(body.signals) < 2 or len(pack_body(body)) <= MAX_BODY_BYTES:  # noqa: PLR2004
        return [body]
    half = len(body.signals) // 2
    return [
        *bounded(Telemetry(body.signals[:half])),
        *bounded(Telemetry(body.signals[half:])),
    ]


def body_to_json(body: Body) -> dict[str, Any]:
    """A body as a JSON object with every field named."""
    if not isinstance(body, Opaque):
        return layout(type(body)).to_json(body)
    if body.raw[:1] == b"{":
        return json.loads(body.raw)  # type: ignore[no-any-return]  # an object, by its first byte
    return {_RAW: base64.b64encode(body.raw).decode("ascii")}


def body_from_json(number: int, token: str | None, data: Any) -> Body:
    """The inverse; never fails for an object: what can not be read is handed on as it came.

    Args:
        number: number of the kind; 0 when it was not told.
        token: its token; None when the sender did not know it.
        data: the object.

    Raises:
        CodecError: the data is no object.
    """
    if not isinstance(data, dict):
        raise CodecError("the data of a record is an object")
    kind = KIND_OF_TOKEN.get(token) if token is not None else None
    if kind is not None:
        number = kind.value
    fault = ""
    try:
        if token is None and isinstance(data.get(_RAW), str):
            packed = base64.b64decode(data[_RAW], validate=True)
            try:
                return unpack_body(number, packed)
            except ValueError as error:
                return Opaque(number, None, packed, str(error))
        if kind is not None:
            return layout(kind.body).from_json(data)
    except ValueError as error:
        fault = str(error)
    raw = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Opaque(number, token, raw, fault)
