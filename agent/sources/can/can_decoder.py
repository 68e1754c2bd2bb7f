"""Frames to signals, by plain tables: the DBC is read once, by `decoder_compiler`, and then forgotten."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Final, Literal

from agent.domain.record import SignalValue
from agent.domain.vehicle import Signal
from agent.hal.can import CanFrame

ANY_DESTINATION_FROM = 240
"""J1939: below this PDU format, bits 8-15 of the identifier are a destination, not group number."""

LEAST_INTEGER, LARGEST_INTEGER = -(2**63), 2**64 - 1
"""What the contract can hold; more is no value of a vehicle."""
_MAX_DENOMINATOR = 10**12
MAX_KNOWN_IDS = 4096
"""J1939 identifiers that are remembered; a hostile bus has half a milliard of them."""
EXTENDED = 1 << 29
"""Added to the identifier of a 29-bit frame, which is then another key than the 11-bit one."""


class Unusable(Enum):
    """Stands for a value that the bits do give and that can not be true."""

    UNUSABLE = "unusable"


UNUSABLE: Final = Unusable.UNUSABLE
Reader = Callable[[int], SignalValue | Literal[Unusable.UNUSABLE] | None]
"""An unsigned raw to its value, None for "not available"."""


@dataclass(frozen=True, slots=True)
class BitField:
    """Where a raw value lies in a message.

    Attributes:
        shift: bits below it, in the payload read as one integer of the field's own byte order.
        mask: all ones of its length.
        big_endian: True for Motorola byte order.
    """

    shift: int
    mask: int
    big_endian: bool

    def raw(self, little: int, big: int) -> int:
        """The unsigned raw value, from the payload as a little- and as a big-endian integer."""
        return ((big if self.big_endian else little) >> self.shift) & self.mask


@dataclass(frozen=True, slots=True)
class MultiplexCondition:
    """A selector that must have one of `ids` for a signal to be in the frame."""

    selector: BitField
    ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class SignalLayout:
    """How one signal is taken out of a payload.

    Attributes:
        name: canonical name (VSS path below `Vehicle.`).
        unit: VSS unit, None for a signal without one.
        bits: where it lies.
        sign_bit: the sign's bit for two's complement, 0 for unsigned.
        float_format: struct format pairs of an IEEE 754 value ("<I", "<f"), None for an integer.
        scale: value = raw * scale + offset, in `unit`.
        offset: see `scale`.
        decimals: places a value is rounded to, which removes binary noise only; None for none.
        values: values of single raws: mapped words, and None for "not available".
        only_values: True when a raw outside `values` is no value.
        highest_raw: raws above it are "not available"; None for no bound.
        conditions: selectors of a multiplexed signal, outermost first.
        deadband: smallest change to report, in `unit`.
        min_interval_ns: least time between reported changes.
        lowest: what is below it can not be true, in `unit`; None for no bound.
        highest: what is above it can not be true, in `unit`; None for no bound.
        steps: (lowest value, what it is called) of each step, ascending; below the first there is no value.
    """

    name: str
    unit: str | None
    bits: BitField
    sign_bit: int = 0
    float_format: tuple[str, str] | None = None
    scale: float = 1
    offset: float = 0
    decimals: int | None = None
    values: Mapping[int, SignalValue | None] = field(default_factory=dict)
    only_values: bool = False
    highest_raw: int | None = None
    conditions: tuple[MultiplexCondition, ...] = ()
    deadband: float = 0
    min_interval_ns: int = 0
    lowest: float | None = None
    highest: float | None = None
    steps: tuple[tuple[float, SignalValue], ...] = ()

    def value(self, raw: int) -> SignalValue | None:
        """The value of an unsigned raw, None for "not available" and for what can not be true."""
        value = self.reader()(raw)
        return None if value is UNUSABLE else value

    def reader(self) -> Reader:
        """What `value` does, prepared: to be made once and called for each frame."""
        number = self._stepped(self._bounded(self._number()))
        values, only_values, highest_raw = dict(self.values), self.only_values, self.highest_raw
        if not values and not only_values and highest_raw is None:
            return number

        def read(raw: int) -> SignalValue | Literal[Unusable.UNUSABLE] | None:
            if raw in values:
                return values[raw]
            if only_values or (highest_raw is not None and raw > highest_raw):
                return None
            return number(raw)

        return read

    def _stepped(self, number: Reader) -> Reader:
        steps = self.steps
        if not steps:
            return number

        def read(raw: int) -> SignalValue | Literal[Unusable.UNUSABLE] | None:
            value = number(raw)
            if value is None or value is UNUSABLE or isinstance(value, str):
                return value
            return next((called for lowest, called in reversed(steps) if value >= lowest), None)

        return read

    def needed_bytes(self, length: int) -> int:
        """Bytes that a frame of a message of `length` bytes must have to give this signal."""
        fields = [self.bits, *(condition.selector for condition in self.conditions)]
        return max(
            length - one.shift // 8 if one.big_endian else (one.shift + one.mask.bit_length() + 7) // 8
            for one in fields
        )

    def _number(self) -> Callable[[int], float | None]:
        if self.float_format is not None:
            return self._floating(*self.float_format)
        scale, offset, decimals, sign, wrap = (
            self.scale, self.offset, self.decimals, self.sign_bit, self.sign_bit << 1
        )  # fmt: skip
        if isinstance(scale, int) and isinstance(offset, int):
            return lambda raw: (raw - wrap if raw & sign else raw) * scale + offset
        ratio, shift = _fraction(scale), _fraction(offset)
        if ratio is not None and shift is not None:
            # Whole numbers and one division: correctly rounded, so that 0.01 * 5530 reads 55.3.
            below = math.lcm(ratio.denominator, shift.denominator)
            factor, summand = int(ratio * below), int(shift * below)
            return lambda raw: ((raw - wrap if raw & sign else raw) * factor + summand) / below
        if decimals is None:
            return lambda raw: (raw - wrap if raw & sign else raw) * scale + offset
        return lambda raw: round((raw - wrap if raw & sign else raw) * scale + offset, decimals)

    def _floating(self, integer: str, floating: str) -> Callable[[int], float | None]:
        scale, offset = self.scale, self.offset

        def read(raw: int) -> float | None:
            (value,) = struct.unpack(floating, struct.pack(integer, raw))
            # A float that is none is how its sender says "not available".
            return value * scale + offset if math.isfinite(value) else None

        return read

    def _bounded(self, number: Callable[[int], float | None]) -> Reader:
        """Check a value where it may be more than anybody can hold, or has a plausible range."""
        lowest, highest = self.lowest, self.highest
        reach = self.bits.mask * abs(self.scale) + abs(self.offset)
        if self.float_format is None and lowest is None and highest is None and reach <= -LEAST_INTEGER:
            return number

        def read(raw: int) -> float | Literal[Unusable.UNUSABLE] | None:
            try:
                value = number(raw)
            except ArithmeticError:
                return UNUSABLE
            if value is None:
                return None
            # Of floats too: 1e300 is finite, and whoever converts or rounds it is left with nothing.
            unusable = not LEAST_INTEGER <= value <= LARGEST_INTEGER
            below, above = lowest is not None and value < lowest, highest is not None and value > highest
            return UNUSABLE if unusable or below or above else value

        return read


def _fraction(number: float) -> Fraction | None:
    """A number as it is written in decimal, None where that takes too many digits."""
    exact = Fraction(Decimal(repr(number)))
    return exact if exact.denominator <= _MAX_DENOMINATOR else None


@dataclass(frozen=True, slots=True)
class MessageLayout:
    """The wanted signals of one message.

    Attributes:
        name: the message's name in the DBC.
        can_id: identifier; of a J1939 message the one of the DBC, whose priority and source mean nothing.
        extended: True for 29 bits.
        length: bytes of the message; what a longer frame has more is not looked at.
        signals: what is taken out.
        used_bits: the bits of all signals and selectors, in the payload as a little-endian integer.
        has_big_endian: True when any of them is Motorola.
        source_address: J1939 control unit that alone is heard, None for any.
    """

    name: str
    can_id: int
    extended: bool
    length: int
    signals: tuple[SignalLayout, ...]
    used_bits: int
    has_big_endian: bool
    source_address: int | None = None

    def values(self, data: bytes) -> list[tuple[SignalLayout, SignalValue | None]]:
        """What a payload says.

        Left out are signals that are not multiplexed into it, and those of whose bits some did not arrive.
        """
        little = int.from_bytes(data[: self.length], "little")
        big = int.from_bytes(data[: self.length].ljust(self.length, b"\0"), "big")
        return [
            (signal, signal.value(signal.bits.raw(little, big)))
            for signal in self.signals
            if signal.needed_bytes(self.length) <= len(data)
            and all(condition.selector.raw(little, big) in condition.ids for condition in signal.conditions)
        ]


@dataclass(slots=True)
class DecodeCounts:
    """What a bus brought, for a technician.

    Attributes:
        heard: all frames.
        unwanted: frames that none is for; a filter in the kernel keeps most of them away.
        short: wanted frames with fewer bytes than the description has; what did arrive is used.
        other_pages: frames in whose multiplexer page nothing that is wanted stands.
        unusable: values that can not be true: beyond the plausible range, or larger than any reader can hold.
    """

    heard: int = 0
    unwanted: int = 0
    short: int = 0
    other_pages: int = 0
    unusable: int = 0


def group_number(can_id: int) -> int:
    """The J1939 parameter group number (18 bits) of a 29-bit identifier."""
    is_broadcast = (can_id >> 16) & 0xFF >= ANY_DESTINATION_FROM
    return (can_id >> 8) & (0x3FFFF if is_broadcast else 0x3FF00)


class CanDecoder:
    """Finds the layout of a frame. Not thread-safe; used from the event loop.

    Attributes:
        counts: what came along.
        protocol: "can" or "j1939".
        messages: all layouts.
    """

    def __init__(self, messages: Iterable[MessageLayout], protocol: str = "can") -> None:
        self.messages = tuple(messages)
        self.protocol = protocol
        self.counts = DecodeCounts()
        self._by_group: dict[int, MessageLayout] = {}
        self._by_id: dict[int, MessageLayout] = {}
        for message in self.messages:
            if protocol == "j1939" and message.extended:
                self._by_group[group_number(message.can_id)] = message
            else:
                self._by_id[message.can_id | (EXTENDED if message.extended else 0)] = message
        self._known: dict[int, MessageLayout | None] = dict(self._by_id)

    @property
    def signals(self) -> tuple[SignalLayout, ...]:
        """All signals that can be decoded."""
        return tuple(signal for message in self.messages for signal in message.signals)

    def layout_of(self, frame: CanFrame) -> MessageLayout | None:
        """The layout of a frame, else None."""
        key = frame.can_id | EXTENDED if frame.extended else frame.can_id
        try:
            return self._known[key]
        except KeyError:
            return self._find(key)

    def values_of(self, frame: CanFrame) -> list[tuple[SignalLayout, SignalValue | None]]:
        """All wanted signals of a frame with their values, changed or not; counts what it is given."""
        layout = self.layout_of(frame)
        self.counts.heard += 1
        if layout is None:
            self.counts.unwanted += 1
            return []
        self.counts.short += len(frame.data) < layout.length
        values = layout.values(frame.data)
        self.counts.other_pages += not values and len(frame.data) >= layout.length
        return values

    def decode(self, frame: CanFrame) -> list[Signal]:
        """All wanted signals of a frame, changed or not; none for a frame that is not wanted."""
        at_ns = frame.received_boottime_ns
        return [Signal(signal.name, value, at_ns) for signal, value in self.values_of(frame)]

    def filters(self) -> list[tuple[int, int, bool]]:
        """(identifier, mask, extended) of the wanted frames, for filtering as early as possible."""
        filters = [
            (message.can_id, 0x1FFFFFFF if message.extended else 0x7FF, message.extended)
            for message in self._by_id.values()
        ]
        for group, message in self._by_group.items():
            mask = 0x03FF0000 | (0xFF00 if (group >> 8) & 0xFF >= ANY_DESTINATION_FROM else 0)
            if message.source_address is not None:
                mask |= 0xFF
            source = message.source_address or 0
            filters.append(((group << 8) & mask | source & mask, mask, True))
        return filters

    def _find(self, key: int) -> MessageLayout | None:
        layout = None
        if key & EXTENDED and self._by_group:
            layout = self._by_group.get(group_number(key & ~EXTENDED))
            if layout is not None and layout.source_address not in (None, key & 0xFF):
                layout = None
        if len(self._known) >= MAX_KNOWN_IDS:
            self._known = dict(self._by_id)
        self._known[key] = layout
        return layout
