"""Line protocol between the agent and a serial button box. docs/button-box.md describes it for whoever builds
one.

Each line is `BODY*CCCC\\n`: printable ASCII, comma-separated fields, and the CRC-16 of BODY in four
upper-case hexadecimal digits (CCITT polynomial 0x1021, start 0xFFFF, not reflected). A line whose CRC fails
never was.

| line | from | fields after the letter |
|---|---|---|
| `H` hello | box | protocol version, session, last sequence, oldest kept sequence, sent_ms, lamps digest |
| `E` event | box | session, sequence, oldest kept sequence, sent_ms, at_ms, `P` or `R`, key |
| `A` acknowledge | agent | session, through sequence |
| `L` lamp | agent | key, lamp |
| `S` sound | agent | milliseconds on and off by turns, one to eight numbers |

The box numbers its events from 1 in each power-up, which it names by a random session. It keeps every event
until it is acknowledged and sends what it keeps again, oldest first, so that a press outlives an unplugged
cable and a restart of the agent. The agent takes events strictly in sequence; "oldest kept" tells it where to
begin.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.hal.buttons import Lamp

VERSION: Final = 1

MAX_LINE_BYTES: Final = 128
"""Longest line, its end included."""

KEY_PATTERN: Final = "[A-Za-z0-9_-]{1,32}"


class BadLineError(ValueError):
    """A line that is none of this protocol's, or was damaged on its way."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The box is alive. Sent once a second.

    Attributes:
        version: of the protocol; all else is read by version 1.
        session: random number of this power-up, 32 bits.
        last: sequence of the newest event of this session, 0 before the first.
        oldest: lowest sequence the box still keeps, `last + 1` when it keeps none.
        sent_ms: the box's clock, milliseconds since power-up, when this line was sent.
        lamps: `lamps_digest` of what the box shows.
    """

    version: int
    session: int
    last: int
    oldest: int
    sent_ms: int
    lamps: int


@dataclass(frozen=True, slots=True)
class Event:
    """A key went down or up.

    Attributes:
        session: see `Hello`.
        seq: 1, 2, 3... in each session.
        oldest: see `Hello`.
        sent_ms: the box's clock when this line was sent, this time.
        at_ms: the box's clock at the edge.
        pressed: True for down.
        key: which key.
    """

    session: int
    seq: int
    oldest: int
    sent_ms: int
    at_ms: int
    pressed: bool
    key: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The agent has all events of `session` up to and including `through` on disk."""

    session: int
    through: int


@dataclass(frozen=True, slots=True)
class SetLamp:
    """The lamp of `key` is to show `lamp`."""

    key: str
    lamp: Lamp


@dataclass(frozen=True, slots=True)
class Sound:
    """The buzzer is to sound once: milliseconds on and off by turns."""

    pattern_ms: tuple[int, ...]


Message = Hello | Event | Acknowledge | SetLamp | Sound

_SESSION, _COUNT, _MS = r"([0-9A-F]{8})", r"(\d{1,10})", r"(\d{1,15})"
_HELLO = re.compile(rf"H,(\d{{1,3}}),{_SESSION},{_COUNT},{_COUNT},{_MS},([0-9A-F]{{4}})", re.ASCII)
_EVENT = re.compile(rf"E,{_SESSION},{_COUNT},{_COUNT},{_MS},{_MS},([PR]),({KEY_PATTERN})", re.ASCII)
_ACKNOWLEDGE = re.compile(rf"A,{_SESSION},{_COUNT}", re.ASCII)
_LAMP = re.compile(rf"L,({KEY_PATTERN}),({'|'.join(Lamp)})", re.ASCII)

_SOUND = re.compile(r"S((?:,\d{1,4}){1,8})", re.ASCII)


def crc16(data: bytes) -> int:
    """CRC-16 of the protocol; of b"123456789" it is 0x29B1."""
    return binascii.crc_hqx(data, 0xFFFF)


def lamps_digest(lamps: Mapping[str, Lamp]) -> int:
    """CRC-16 of `key=lamp,` for each lamp that is not off, in the byte order of the keys; 0xFFFF for none."""
    lit = sorted((key, lamp) for key, lamp in lamps.items() if lamp is not Lamp.OFF)
    return crc16("".join(f"{key}={lamp}," for key, lamp in lit).encode("ascii"))


def encode(message: Message) -> bytes:
    """The message as one line."""
    match message:
        case Hello(version, session, last, oldest, sent_ms, lamps):
            body = f"H,{version},{session:08X},{last},{oldest},{sent_ms},{lamps:04X}"
        case Event(session, seq, oldest, sent_ms, at_ms, pressed, key):
            body = f"E,{session:08X},{seq},{oldest},{sent_ms},{at_ms},{'P' if pressed else 'R'},{key}"
        case Acknowledge(session, through):
            body = f"A,{session:08X},{through}"
        case SetLamp(key, lamp):
            body = f"L,{key},{lamp}"
        case Sound(pattern_ms):
            body = "S" + "".join(f",{duration_ms}" for duration_ms in pattern_ms)
    raw = body.encode("ascii")
    return b"%b*%04X\n" % (raw, crc16(raw))


def decode(line: bytes) -> Message:
    """The message of one line, given without its end. Raises BadLineError."""
    raw, star, crc = line.rpartition(b"*")
    if not star or crc != b"%04X" % crc16(raw):
        raise BadLineError("checksum")
    body = raw.decode("latin-1")
    if found := _EVENT.fullmatch(body):
        session, seq, oldest, sent_ms, at_ms, edge, key = found.groups()
        return Event(int(session, 16), int(seq), int(oldest), int(sent_ms), int(at_ms), edge == "P", key)
    if found := _HELLO.fullmatch(body):
        version, session, last, oldest, sent_ms, lamps = found.groups()
        return Hello(int(version), int(session, 16), int(last), int(oldest), int(sent_ms), int(lamps, 16))
    if found := _ACKNOWLEDGE.fullmatch(body):
        return Acknowledge(int(found[1], 16), int(found[2]))
    if found := _LAMP.fullmatch(body):
        return SetLamp(found[1], Lamp(found[2]))
    if found := _SOUND.fullmatch(body):
        return Sound(tuple(map(int, found[1][1:].split(","))))
    raise BadLineError("not a line of this protocol")


class LineReader:
    """Cuts received bytes into messages. Damaged lines are counted and left out.

    Attributes:
        bad_lines: how many were left out so far.
    """

    def __init__(self) -> None:
        self.bad_lines = 0
        self._partial = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes, cut anywhere; returns the messages that are complete by now, in order."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        messages: list[Message] = []
        for line in lines:
            if self._skipping:  # the rest of a line that was given up
                self._skipping = False
                continue
            if line.rstrip(b"\r"):
                self._take(line.rstrip(b"\r"), messages)
        if len(self._partial) >= MAX_LINE_BYTES:
            self.bad_lines += not self._skipping
            self._partial, self._skipping = b"", True
        return messages

    def _take(self, line: bytes, messages: list[Message]) -> None:
        try:
            messages.append(decode(line))
        except BadLineError:
            self.bad_lines += 1
