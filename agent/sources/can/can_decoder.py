"""Frames to signals, by plain tables: the DBC is read once, by `decoder_compiler`, and then forgotten."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.domain.record import SignalValue
from agent.domain.vehicle import Signal
from agent.hal.can import CanFrame

ANY_DESTINATION_FROM = 240
"""J1939: below this PDU format, bits 8-15 of the identifier are a destination, not group number."""


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

    def value(self, raw: int) -> SignalValue | None:
        """The value of an unsigned raw, None for "not available"."""
        if self.float_format is not None:
            return self._float_value(raw)
        if self.values or self.only_values:
            if raw in self.values:
                return self.values[raw]
            if self.only_values:
                return None
        if self.highest_raw is not None and raw > self.highest_raw:
            return None
        if raw & self.sign_bit:
            raw -= self.sign_bit << 1
        value = raw * self.scale + self.offset
        return value if self.decimals is None else round(value, self.decimals)

    def _float_value(self, raw: int) -> float | None:
        integer, floating = self.float_format or ("", "")
        (value,) = struct.unpack(floating, struct.pack(integer, raw))
        return value * self.scale + self.offset if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class MessageLayout:
    """The wanted signals of one message.

    Attributes:
        name: the message's name in the DBC.
        can_id: identifier; of a J1939 message the one of the DBC, whose priority and source mean nothing.
        extended: True for 29 bits.
        length: bytes of the message; a shorter frame can not be it.
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
        """What a payload of at least `length` bytes says; signals not multiplexed into it are left out."""
        data = data[: self.length]
        little = int.from_bytes(data, "little")
        big = int.from_bytes(data, "big") if self.has_big_endian else 0
        found: list[tuple[SignalLayout, SignalValue | None]] = []
        for signal in self.signals:
            bits = signal.bits
            for condition in signal.conditions:
                if condition.selector.raw(little, big) not in condition.ids:
                    break
            else:
                raw = ((big if bits.big_endian else little) >> bits.shift) & bits.mask
                found.append((signal, signal.value(raw)))
        return found


def group_number(can_id: int) -> int:
    """The J1939 parameter group number (18 bits) of a 29-bit identifier."""
    is_broadcast = (can_id >> 16) & 0xFF >= ANY_DESTINATION_FROM
    return (can_id >> 8) & (0x3FFFF if is_broadcast else 0x3FF00)


class CanDecoder:
    """Finds the layout of a frame. Not thread-safe; used from the event loop.

    Attributes:
        unwanted_frames: frames that no layout is for.
        short_frames: frames with fewer bytes than their message, which are never decoded.
        protocol: "can" or "j1939".
        messages: all layouts.
    """

    def __init__(self, messages: Iterable[MessageLayout], protocol: str = "can") -> None:
        self.messages = tuple(messages)
        self.protocol = protocol
        self.unwanted_frames = 0
        self.short_frames = 0
        self._by_group = {
            group_number(message.can_id): message
            for message in self.messages
            if protocol == "j1939" and message.extended
        }
        self._by_id = {
            (message.can_id, message.extended): message
            for message in self.messages
            if not (protocol == "j1939" and message.extended)
        }

    @property
    def signals(self) -> tuple[SignalLayout, ...]:
        """All signals that can be decoded."""
        return tuple(signal for message in self.messages for signal in message.signals)

    def layout_of(self, frame: CanFrame) -> MessageLayout | None:
        """The layout of a frame that can be decoded, else None; counts what it refuses."""
        layout = self._by_id.get((frame.can_id, frame.extended))
        if layout is None and frame.extended and self._by_group:
            layout = self._by_group.get(group_number(frame.can_id))
            if layout is not None and layout.source_address not in (None, frame.can_id & 0xFF):
                layout = None
        if layout is None:
            self.unwanted_frames += 1
            return None
        if len(frame.data) < layout.length:
            self.short_frames += 1
            return None
        return layout

    def decode(self, frame: CanFrame) -> list[Signal]:
        """All wanted signals of a frame, changed or not; none for a frame that is not wanted or too short."""
        layout = self.layout_of(frame)
        if layout is None:
            return []
        at_ns = frame.received_boottime_ns
        return [Signal(signal.name, value, at_ns) for signal, value in layout.values(frame.data)]

    def filters(self) -> list[tuple[int, int, bool]]:
        """(identifier, mask, extended) of the wanted frames, for filtering as early as possible."""
        filters = [(can_id, 0x1FFFFFFF if extended else 0x7FF, extended) for can_id, extended in self._by_id]
        for group, message in self._by_group.items():
            mask = 0x03FF0000 | (0xFF00 if (group >> 8) & 0xFF >= ANY_DESTINATION_FROM else 0)
            if message.source_address is not None:
                mask |= 0xFF
            source = message.source_address or 0
            filters.append(((group << 8) & mask | source & mask, mask, True))
        return filters
