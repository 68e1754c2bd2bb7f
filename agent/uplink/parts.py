"""A payload in parts: what is larger than any packet that the broker takes goes in several of them.

Parts of one payload carry its CRC-32, so that a reader puts together what belongs together although parts are
lost, repeated, or mixed with those of a replay.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import Any

from agent.uplink.batch import MAX_BYTES, CodecError
from agent.uplink.codec import CONTENT_TYPE_JOURNAL, CONTENT_TYPE_JSON, Encoded, Encoding
from agent.uplink.uvarint import take_uvarint, uvarint

FIRST_BYTE = b"P"
JSON_BEGINS = b'{"part":'
MAX_PARTS = 65_535
MOST_INCOMPLETE = 16
"""Payloads of one topic that a reader holds incomplete; beyond them the oldest is forgotten."""
_CRC_BYTES = 4
_LARGEST = 1 << 32


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a payload.

    Attributes:
        crc: CRC-32 (as in zlib) of the whole payload.
        index: which piece, from 0.
        count: how many pieces there are.
        data: the piece.
    """

    crc: int
    index: int
    count: int
    data: bytes


def split(payload: bytes, encoding: Encoding, room_bytes: int) -> list[Encoded] | None:
    """Payloads of at most `room_bytes` each that make up `payload`; None when there is no room for that."""
    header_bytes = len(_encode(Part(_LARGEST - 1, MAX_PARTS, MAX_PARTS, b""), encoding).payload)
    data_bytes = room_bytes - header_bytes
    if encoding == "json":
        data_bytes = data_bytes // 4 * 3
    count = -(-len(payload) // data_bytes) if data_bytes > 0 else 0
    if not 0 < count <= MAX_PARTS:
        return None
    crc = zlib.crc32(payload)
    pieces = [payload[at : at + data_bytes] for at in range(0, len(payload), data_bytes)]
    return [_encode(Part(crc, index, count, piece), encoding) for index, piece in enumerate(pieces)]


def decode_part(payload: bytes) -> Part | None:
    """The part that a payload is; None when it is none. Raises CodecError."""
    try:
        if payload[:1] == FIRST_BYTE:
            index, at = take_uvarint(payload, 1 + _CRC_BYTES)
            count, at = take_uvarint(payload, at)
            part = Part(int.from_bytes(payload[1 : 1 + _CRC_BYTES], "big"), index, count, payload[at:])
        elif payload.startswith(JSON_BEGINS):
            given = json.loads(payload)
            data = base64.b64decode(given["base64"], validate=True)
            part = Part(given["crc"], given["part"], given["parts"], data)
        else:
            return None
    except (KeyError, TypeError, ValueError) as error:
        raise CodecError(f"not a part: {error}") from error
    numbers: tuple[Any, ...] = (part.crc, part.index, part.count)
    if any(type(number) is not int for number in numbers) or not (
        0 <= part.crc < _LARGEST and 0 <= part.index < part.count <= MAX_PARTS and part.data
    ):
        raise CodecError("a part that belongs to nothing")
    return part


class PartCollector:
    """Puts the parts of one topic together. Not thread-safe."""

    def __init__(self) -> None:
        self._incomplete: dict[tuple[int, int], dict[int, bytes]] = {}

    def take(self, part: Part) -> bytes | None:
        """The whole payload, once this was its last missing part.

        Raises:
            CodecError: the parts are not of one payload, or it is larger than any may be.
        """
        key = part.crc, part.count
        pieces = self._incomplete.setdefault(key, {})
        pieces[part.index] = part.data
        if len(pieces) < part.count and sum(map(len, pieces.values())) <= MAX_BYTES:
            while len(self._incomplete) > MOST_INCOMPLETE:
                del self._incomplete[next(iter(self._incomplete))]
            return None
        del self._incomplete[key]
        payload = b"".join(pieces[index] for index in sorted(pieces))
        if len(pieces) < part.count or zlib.crc32(payload) != part.crc:
            raise CodecError(f"{len(pieces)} of {part.count} parts do not make up a payload")
        return payload


def _encode(part: Part, encoding: Encoding) -> Encoded:
    if encoding == "json":
        text = base64.b64encode(part.data).decode("ascii")
        fields = {"part": part.index, "parts": part.count, "crc": part.crc, "base64": text}
        return Encoded(json.dumps(fields, separators=(",", ":")).encode(), CONTENT_TYPE_JSON)
    head = FIRST_BYTE + part.crc.to_bytes(_CRC_BYTES, "big") + uvarint(part.index) + uvarint(part.count)
    return Encoded(head + part.data, CONTENT_TYPE_JOURNAL)
