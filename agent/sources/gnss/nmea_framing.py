"""Bytes of a receiver, cut anywhere, become sentences whose checksum is right."""

from __future__ import annotations

import operator
import re
from enum import StrEnum
from functools import reduce
from typing import NamedTuple

MAX_SENTENCE_BYTES = 255
"""NMEA 0183 says 82 with line end; centimetre positions and proprietary sentences exceed it."""

# A `$` ends what stands before it, so that a sentence survives garbage or a torn sentence in front of it.
_SEGMENT = re.compile(rb"\$[^$\r\n]*|[^$\r\n]+")
_LINE_ENDS = b"\r\n"
_CHECKSUM_DIGITS = re.compile(rb"[0-9A-Fa-f]{2}[ \t]*")
_USUAL = re.compile(rb"\$([\x20-\x23\x25-\x29\x2b-\x7e]{1,126})\*([0-9A-F]{2})(\r?\n)")
_AROUND_BYTES = 4
"""What a usual line has around its body before its end: `$`, `*`, two digits."""
_LOW_16_BYTES = (1 << 128) - 1
_DIGITS = [b"%02X" % value for value in range(256)]
_NOT_PRINTABLE = re.compile(rb"[^\x20-\x7e\t]")


class Rejection(StrEnum):
    """Why something that was received is not used."""

    BAD_CHECKSUM = "bad_checksum"
    NO_CHECKSUM = "no_checksum"
    MALFORMED = "malformed"
    """Not the shape of a sentence: no `$`, torn, or fields missing."""
    TOO_LONG = "too_long"
    NOT_ASCII = "not_ascii"
    BAD_FIELD = "bad_field"
    """A field that is no number, out of range, or of no known meaning."""


class Frame(NamedTuple):
    """A sentence whose checksum is right.

    Attributes:
        body: what stands between `$` and `*`, e.g. "GPGSA,A,1,,,".
        received_boottime_ns: when the read that gave its first byte returned.
    """

    body: str
    received_boottime_ns: int


_new_frame = tuple.__new__
"""A named tuple's own constructor takes twice as long."""


class NmeaFramer:
    """Cuts a stream of bytes into sentences. Memory is bounded; how the bytes were split does not matter."""

    def __init__(self) -> None:
        self._tail = b""
        self._tail_boottime_ns = 0

    def feed(self, data: bytes, received_boottime_ns: int) -> list[Frame | Rejection]:
        """Take the next bytes; return the sentences they completed and why others were rejected, in order."""
        buffer = self._tail + data
        # Only the first segment can have begun before this read.
        begun_ns = self._tail_boottime_ns if self._tail else received_boottime_ns
        whole, tail = _cut(buffer)
        framed = _usual_frames(whole, begun_ns, received_boottime_ns)
        if framed is None:
            framed = []
            for segment in _SEGMENT.findall(whole):
                frame = _frame(segment, begun_ns)
                begun_ns = received_boottime_ns
                if frame is not None:
                    framed.append(frame)
        elif framed:
            begun_ns = received_boottime_ns
        self._tail_boottime_ns = begun_ns
        # One byte above the limit is kept, so that the segment is known as too long when its end comes.
        self._tail = tail[: MAX_SENTENCE_BYTES + 1]
        return framed

    def finish(self) -> list[Frame | Rejection]:
        """The stream ended: what was begun ends with it."""
        return self.feed(_LINE_ENDS, self._tail_boottime_ns)


def _cut(buffer: bytes) -> tuple[bytes, bytes]:
    """What is complete, and what may go on with the next bytes."""
    line_end = max(buffer.rfind(b"\n"), buffer.rfind(b"\r"))
    start = buffer.rfind(b"$", line_end + 1)
    if start < 0:
        return buffer[: line_end + 1], buffer[line_end + 1 :]
    return buffer[:start], buffer[start:]


def _usual_frames(whole: bytes, begun_ns: int, received_ns: int) -> list[Frame | Rejection] | None:
    """What whole lines of usual shape become; None when there is anything between or beside them."""
    left = len(whole)
    framed: list[Frame | Rejection] = []
    for body, digits, line_end in _USUAL.findall(whole):
        left -= len(body) + _AROUND_BYTES + len(line_end)
        if _DIGITS[_short_checksum(body)] == digits:
            framed.append(_new_frame(Frame, (body.decode("ascii"), begun_ns)))
        else:
            framed.append(Rejection.BAD_CHECKSUM)
        begun_ns = received_ns
    return None if left else framed


def _frame(segment: bytes, begun_ns: int) -> Frame | Rejection | None:
    if len(segment) > MAX_SENTENCE_BYTES:
        return Rejection.TOO_LONG
    if _NOT_PRINTABLE.search(segment):
        return Rejection.NOT_ASCII
    if not segment.startswith(b"$"):
        # Well-formed and not ours: white space, AIS, and the tag blocks of NMEA 4.0 in front of a sentence.
        return None if segment.startswith((b" ", b"!", b"\\")) else Rejection.MALFORMED
    body, star, digits = segment[1:].partition(b"*")
    if not _CHECKSUM_DIGITS.fullmatch(digits):
        return Rejection.MALFORMED if star else Rejection.NO_CHECKSUM
    return _checked(body, digits[:2], begun_ns)


def _checked(body: bytes, digits: bytes, begun_ns: int) -> Frame | Rejection:
    if checksum(body) != int(digits, 16):
        return Rejection.BAD_CHECKSUM
    return Frame(body.decode("ascii"), begun_ns)


def checksum(body: bytes) -> int:
    """Exclusive or of all bytes between `$` and `*`, as NMEA 0183 defines it."""
    return reduce(operator.xor, body, 0)


def _short_checksum(body: bytes) -> int:
    """The same of at most 128 bytes, folded as one large number: twice as fast."""
    number = int.from_bytes(body, "little")
    number ^= number >> 512
    number ^= number >> 256
    number = (number ^ number >> 128) & _LOW_16_BYTES
    number ^= number >> 64
    number ^= number >> 32
    number ^= number >> 16
    return (number ^ number >> 8) & 255
