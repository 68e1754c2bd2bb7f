"""What is on a bus: identifiers, rates, load, a guess of the bit rate, and which known signals appear."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.domain.record import SignalValue
from agent.hal.can import CanFrame
from agent.sources.can.can_decoder import CanDecoder, SignalLayout, group_number
from agent.sources.can.dbc_excerpt import Dbc
from agent.sources.can.j1939_speakers import Speakers

BIT_RATES = (1_000_000, 800_000, 500_000, 250_000, 125_000, 100_000, 83_300, 50_000)
"""Those that vehicles use, highest first."""
COMMON_RATES = (1_000_000, 500_000, 250_000, 125_000)
MAX_IDENTIFIERS = 4096
"""More than any vehicle has; a bus at the wrong bit rate or a hostile one makes up others without end."""
_STANDARD_BITS, _EXTENDED_BITS = 47, 67
"""Of a frame without its data, with the three bits of pause behind it."""
_STUFFING = 1.1
"""Bits that are put in so that no six equal ones follow each other: 0 to 24 %, about a tenth in practice."""
_TOLERANCE = 0.15
_LEAST_NEAR, _FEW = 10, 0.1
"""So many pairs of frames must be as close as a rate lets them, and so small a share of those any closer."""
MAX_PAIRS = 1_000_000
_LEAST_FRAMES, _LEAST_PAIRS = 20, 50
_WINDOW_S = 0.1
_FULL = 0.95
"""A bus is never fuller: so much load makes any lower bit rate impossible."""

_LOADED = 0.15
"""Below this share of the lowest possible rate, a load says nothing about which it is."""


@dataclass(slots=True)
class Identifier:
    """What was heard of one identifier.

    Attributes:
        can_id: 11 or 29 bits.
        extended: True for 29 bits.
        frames: how many.
        changes: how many were other than the one before.
        lengths: the different numbers of bytes.
        first_ns: time of the first, in the clock of the frames.
        last_ns: time of the last.
        data: the last payload.
    """

    can_id: int
    extended: bool
    frames: int = 0
    changes: int = 0
    lengths: set[int] = field(default_factory=set)
    first_ns: int = 0
    last_ns: int = 0
    data: bytes = b""

    @property
    def text(self) -> str:
        """The identifier as technicians write it."""
        return f"{self.can_id:08X}" if self.extended else f"{self.can_id:03X}"

    @property
    def rate_per_s(self) -> float | None:
        """Frames a second; None for a single frame, or frames without times."""
        span_ns = self.last_ns - self.first_ns
        return (self.frames - 1) / span_ns * 1e9 if span_ns > 0 else None


@dataclass(frozen=True, slots=True)
class BitRateGuess:
    """A guess of the bit rate.

    Attributes:
        bit_rate: bits a second, None when nothing tells.
        why: what it is concluded from, for a person.
    """

    bit_rate: int | None
    why: str


class BusSurvey:
    """Takes the frames of one bus. Pure state.

    Args:
        decoder: of a vehicle file, to tell which of its signals appear; None for none.
        dbc: names messages that the vehicle file does not ask for; None for none.
    """

    def __init__(self, decoder: CanDecoder | None = None, dbc: Dbc | None = None) -> None:
        self._decoder = decoder
        self._names = {} if dbc is None else _names(dbc, decoder)
        self._speakers = Speakers()
        self.identifiers: dict[tuple[int, bool], Identifier] = {}
        self.signals: dict[str, SignalValue | None] = {}
        self.frames = 0
        self.left_out = 0
        self._bits = 0.0
        self._first_ns = 0
        self._last_ns = 0
        self._stamps_are_fine = False
        self._apparent: list[float] = []
        self._window = 0
        self._window_bits = self._peak_bits = 0.0

    def take(self, frame: CanFrame) -> None:
        """Take a frame; times that go backwards do not count as such."""
        at_ns = frame.received_boottime_ns
        bits = (_EXTENDED_BITS if frame.extended else _STANDARD_BITS) + 8 * len(frame.data)
        if self.frames == 0:
            self._first_ns = self._last_ns = at_ns
        elif at_ns - self._last_ns > 0 and len(self._apparent) < MAX_PAIRS:
            # A log whose times are whole seconds says nothing about tenths.
            self._stamps_are_fine = self._stamps_are_fine or (at_ns - self._last_ns) < _WINDOW_S * 1e9
            self._apparent.append(bits * _STUFFING * 1e9 / (at_ns - self._last_ns))
        self._last_ns = max(self._last_ns, at_ns)
        self.frames += 1
        self._bits += bits * _STUFFING
        self._count_load(bits * _STUFFING, at_ns)
        key = (frame.can_id, frame.extended)
        known = self.identifiers.get(key)
        if known is None:
            if len(self.identifiers) >= MAX_IDENTIFIERS:
                self.left_out += 1
                return
            known = self.identifiers[key] = Identifier(*key, first_ns=at_ns, data=frame.data)
        known.frames += 1
        known.changes += known.data != frame.data
        known.lengths.add(len(frame.data))
        known.last_ns, known.data = at_ns, frame.data
        if self._decoder is not None:
            self._decode(self._decoder, frame)

    def _count_load(self, bits: float, at_ns: int) -> None:
        window = int(at_ns / (_WINDOW_S * 1e9))
        if window != self._window:
            self._window, self._window_bits = window, 0.0
        self._window_bits += bits
        if self.span_s > _WINDOW_S and self._stamps_are_fine:
            self._peak_bits = max(self._peak_bits, self._window_bits)

    @property
    def span_s(self) -> float:
        """From the first frame to the last; 0 when there are no times."""
        return (self._last_ns - self._first_ns) / 1e9

    @property
    def bits_per_s(self) -> float | None:
        """What the frames take of the bus; None without times."""
        return self._bits / self.span_s if self.span_s > 0 else None

    def unheard(self) -> list[SignalLayout]:
        """Signals of the vehicle file that never appeared, by name."""
        known = () if self._decoder is None else self._decoder.signals
        return sorted((one for one in known if one.name not in self.signals), key=lambda one: one.name)

    def what_is(self, identifier: Identifier) -> str:
        """The signals of the vehicle file in it, else the message's name in the DBC, else ""."""
        frame = CanFrame(identifier.can_id, identifier.extended, b"", 0)
        layout = None if self._decoder is None else self._decoder.layout_of(frame)
        if layout is not None:
            return ", ".join(signal.name for signal in layout.signals)
        name = self._names.get((identifier.can_id, identifier.extended))
        if name is None and identifier.extended:
            name = self._names.get((group_number(identifier.can_id), True))
        return f"({name})" if name else ""

    def guess(self) -> BitRateGuess:
        """Guess the bit rate.

        Frames that queue behind each other follow in exactly the time that they take. Where the stamps do not
        show that, because a computer gave them to many frames at once, what vehicles usually have is left,
        and the fullest tenth of a second, which rules out what is too low.
        """
        if self.frames < _LEAST_FRAMES:
            return BitRateGuess(None, "too few frames")
        load = self._peak_bits / _WINDOW_S
        if len(self._apparent) >= _LEAST_PAIRS:
            for rate in COMMON_RATES:
                near = sum(abs(apparent / rate - 1) <= _TOLERANCE for apparent in self._apparent)
                faster = sum(apparent / rate > 1 + _TOLERANCE for apparent in self._apparent)
                if near >= _LEAST_NEAR and faster <= near * _FEW and load <= rate:
                    return BitRateGuess(rate, "frames follow each other as closely as that rate lets them")
        extended = sum(one.frames for one in self.identifiers.values() if one.extended)
        usual, what = (250_000, "29-bit") if extended > self.frames / 2 else (500_000, "11-bit")
        if load <= usual * _FULL:
            why = f"what vehicles with {what} identifiers usually have; the stamps do not tell"
            return BitRateGuess(usual, why)
        higher = [rate for rate in (500_000, 1_000_000) if load <= rate]
        why = f"up to {load / 1000:.0f} kbit/s in a tenth of a second rule out less"
        return BitRateGuess(higher[0] if higher else None, why)

    def _decode(self, decoder: CanDecoder, frame: CanFrame) -> None:
        for signal, value in decoder.values_of(frame):
            if decoder.protocol != "j1939" or self._speakers.believes(
                signal.name, frame.can_id & 0xFF, value, frame.received_boottime_ns
            ):
                self.signals[signal.name] = value


def _names(dbc: Dbc, decoder: CanDecoder | None) -> dict[tuple[int, bool], str]:
    """Names by (identifier, extended); of J1939 by the group, whose priority and source mean nothing."""
    is_j1939 = decoder is not None and decoder.protocol == "j1939"
    names: dict[tuple[int, bool], str] = {}
    for message in dbc.messages:
        can_id = message.frame_id
        if can_id is None:
            continue
        extended, number = bool(can_id & 0x80000000), can_id & 0x1FFFFFFF
        names[group_number(number) if extended and is_j1939 else number, extended] = message.name
    return names


def in_order(identifiers: Iterable[Identifier]) -> list[Identifier]:
    """By number, 11 bits before 29: how a technician looks for one."""
    return sorted(identifiers, key=lambda one: (one.extended, one.can_id))
