"""A payload in parts: what is larger than any packet that the broker takes goes in several of them.

A part says where in which payload it belongs: a payload is known by its CRC-32 and its length. So a reader
puts together what belongs together although parts are lost, repeated, cut differently by another attempt, or
mixed with those of a replay.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import Any

from agent.wire.batch import MAX_BYTES, CodecError
from agent.wire.codec import CONTENT_TYPE_JOURNAL, CONTENT_TYPE_JSON, Encoded, Encoding
from agent.wire.interval_set import IntervalSet
from agent.wire.uvarint import take_uvarint, uvarint

FIRST_BYTE = b"P"
JSON_BEGINS = b'{"part":'
MOST_INCOMPLETE = 4
"""Payloads of one topic that a reader holds incomplete; beyond them the oldest is forgotten."""
_CRC_BYTES = 4
_LARGEST = 1 << 32


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a payload.

    Attributes:
        crc: CRC-32 (as in zlib) of the whole payload.
        offset: where in the payload the piece begins, in bytes.
        total: bytes of the whole payload.
        data: the piece.
    """

    crc: int
    offset: int
    total: int
    data: bytes


def split(payload: bytes, encoding: Encoding, room_bytes: int) -> list[Encoded] | None:
    """Payloads of at most `room_bytes` each that make up `payload`; None when there is no room for that."""
    total, crc = len(payload), zlib.crc32(payload)
    data_bytes = room_bytes - len(_encode(Part(_LARGEST - 1, total, total, b""), encoding).payload)
    if encoding == "json":
        data_bytes = data_bytes // 4 * 3
    if data_bytes <= 0 or total > MAX_BYTES:
        return None
    return [
        _encode(Part(crc, at, total, payload[at : at + data_bytes]), encoding)
        for at in range(0, total, data_bytes)
    ]


def decode_part(payload: bytes) -> Part | None:
    """The part that a payload is; None when it is none. Raises CodecError."""
    try:
        if payload[:1] == FIRST_BYTE:
            offset, at = take_uvarint(payload, 1 + _CRC_BYTES)
            total, at = take_uvarint(payload, at)
            part = Part(int.from_bytes(payload[1 : 1 + _CRC_BYTES], "big"), offset, total, payload[at:])
        elif payload.startswith(JSON_BEGINS):
            given = json.loads(payload)
            data = base64.b64decode(given["base64"], validate=True)
            part = Part(given["crc"], given["part"], given["of"], data)
        else:
            return None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CodecError(f"not a part: {error}") from error
    numbers: tuple[Any, ...] = (part.crc, part.offset, part.total)
    if any(type(number) is not int for number in numbers) or not (
        0 <= part.crc < _LARGEST
        and part.data
        and part.offset >= 0
        and part.offset + len(part.data) <= part.total <= MAX_BYTES
    ):
        raise CodecError("a part that belongs to nothing")
    return part


class _Pieces:
    """What came of one payload."""

    def __init__(self) -> None:
        self.there = IntervalSet()
        self.data: dict[int, bytes] = {}

    def add(self, part: Part) -> bool:
        """Keep a piece; True when nothing is missing any more."""
        if part.offset not in self.data or len(self.data[part.offset]) < len(part.data):
            self.data[part.offset] = part.data
            self.there.add(part.offset, part.offset + len(part.data) - 1)
        return len(self.there) == 1 and self.there.first_from(0) == (0, part.total - 1)

    def whole(self, total: int) -> bytes:
        """The payload."""
        payload = bytearray(total)
        for offset, piece in self.data.items():
            payload[offset : offset + len(piece)] = piece
        return bytes(payload)


class PartCollector:
    """Puts the parts of one topic together. Not thread-safe."""

    def __init__(self) -> None:
        self._incomplete: dict[tuple[int, int], _Pieces] = {}

    def __len__(self) -> int:
        """Payloads that are not complete yet."""
        return len(self._incomplete)

    def take(self, part: Part) -> bytes | None:
        """The whole payload, once this was its last missing part.

        Raises:
            CodecError: the parts are not of one payload.
        """
        key = part.crc, part.total
        pieces = self._incomplete.setdefault(key, _Pieces())
        if not pieces.add(part):
            while len(self._incomplete) > MOST_INCOMPLETE:
                del self._incomplete[next(iter(self._incomplete))]
            return None
        del self._incomplete[key]
        payload = pieces.whole(part.total)
        if zlib.crc32(payload) != part.crc:
            raise CodecError(f"{len(pieces.data)} parts do not make up a payload")
        return payload


def _encode(part: Part, encoding: Encoding) -> Encoded:
    if encoding == "json":
        text = base64.b64encode(part.data).decode("ascii")
        fields = {"part": part.offset, "of": part.total, "crc": part.crc, "base64": text}
        return Encoded(json.dumps(fields, separators=(",", ":")).encode(), CONTENT_TYPE_JSON)
    head = FIRST_BYTE + part.crc.to_bytes(_CRC_BYTES, "big") + uvarint(part.offset) + uvarint(part.total)
    return Encoded(head + part.data, CONTENT_TYPE_JOURNAL)
