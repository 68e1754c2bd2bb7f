"""Whole numbers in as few bytes as they need: unsigned LEB128, as docs/wire-format.md describes it."""

from __future__ import annotations

from agent.wire.batch import CodecError

_BYTES_MAX = 9
_LIMIT = 1 << 62
_LOW_BITS, _MORE = 0x7F, 0x80


def uvarint(value: int) -> bytes:
    """Encode. Raises CodecError for a negative or absurd value."""
    if not 0 <= value < _LIMIT:
        raise CodecError(f"{value} is out of range")
    out = bytearray()
    while value > _LOW_BITS:
        out.append(value & _LOW_BITS | _MORE)
        value >>= 7
    out.append(value)
    return bytes(out)


def take_uvarint(payload: bytes, start: int) -> tuple[int, int]:
    """Decode at `start`; returns the value and where it ended. Raises CodecError."""
    value = 0
    for count, byte in enumerate(payload[start : start + _BYTES_MAX]):
        value |= (byte & _LOW_BITS) << 7 * count
        if byte < _MORE:
            return value, start + count + 1
    raise CodecError("a number is cut off or out of range")
