"""What a reader says to a unit: send these again, or: I have all up to here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgpack

from agent.domain.record import Stream
from agent.wire.batch import CodecError
from agent.wire.codec import CONTENT_TYPE_JSON, CONTENT_TYPE_MSGPACK, Encoded, Encoding

_MAX_BYTES = 1024
_MAX_SEQ = 1 << 62


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Asks for records again; goes to `command/replay`.

    Attributes:
        stream: of which stream.
        first: lowest sequence number asked for.
        last: highest, included.
        journal: identity of the store whose sequences are meant; None takes the one the unit has now.
    """

    stream: Stream
    first: int
    last: int
    journal: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Says that dispatch has a stream without holes; goes to `receipt`.

    Attributes:
        stream: which stream.
        through_seq: every record up to and including this one is safe at dispatch.
        journal: identity of the store whose sequences are meant; the unit ignores a receipt without it.
    """

    stream: Stream
    through_seq: int
    journal: int | None = None


def encode_replay_request(request: ReplayRequest, encoding: Encoding = "msgpack") -> Encoded:
    """A map of stream, from, to and journal."""
    return _encode(
        {
            "stream": request.stream.value,
            "from": request.first,
            "to": request.last,
            "journal": request.journal,
        },
        encoding,
    )


def decode_replay_request(payload: bytes) -> ReplayRequest:
    """The inverse; unknown keys are ignored. Raises CodecError on anything but a well-formed request."""
    given = _decode(payload)
    request = ReplayRequest(_stream(given), _seq(given, "from"), _seq(given, "to"), _journal(given))
    if request.first > request.last:
        raise CodecError(f"from {request.first} to {request.last} is empty")
    return request


def encode_receipt(receipt: Receipt, encoding: Encoding = "msgpack") -> Encoded:
    """A map of stream, seq and journal."""
    return _encode(
        {"stream": receipt.stream.value, "seq": receipt.through_seq, "journal": receipt.journal}, encoding
    )


def decode_receipt(payload: bytes) -> Receipt:
    """The inverse; unknown keys are ignored. Raises CodecError on anything but a well-formed receipt."""
    given = _decode(payload)
    return Receipt(_stream(given), _seq(given, "seq"), _journal(given))


def _encode(given: dict[str, Any], encoding: Encoding) -> Encoded:
    given = {key: value for key, value in given.items() if value is not None}
    if encoding == "json":
        return Encoded(json.dumps(given, separators=(",", ":")).encode(), CONTENT_TYPE_JSON)
    return Encoded(msgpack.packb(given), CONTENT_TYPE_MSGPACK)


def _decode(payload: bytes) -> dict[str, Any]:
    if len(payload) > _MAX_BYTES:
        raise CodecError(f"a request of {len(payload)} bytes")
    try:
        given = json.loads(payload) if payload[:1] == b"{" else msgpack.unpackb(payload)
    except (TypeError, ValueError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError(f"neither msgpack nor JSON: {error}") from error
    if not isinstance(given, dict):
        raise CodecError("not a map")
    return given


def _stream(given: dict[str, Any]) -> Stream:
    try:
        return Stream(str(given.get("stream")))
    except ValueError as error:
        raise CodecError(str(error)) from error


def _seq(given: dict[str, Any], key: str) -> int:
    value = given.get(key)
    if type(value) is not int or not 0 <= value < _MAX_SEQ:
        raise CodecError(f"{key} is {value!r:.40}, not a sequence number")
    return value


def _journal(given: dict[str, Any]) -> int | None:
    value = given.get("journal")
    if value is not None and (type(value) is not int or not 0 <= value < 1 << 32):
        raise CodecError(f"journal is {value!r:.40}, not a journal")
    return value
