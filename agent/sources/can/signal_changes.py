"""Which decoded values are worth telling: changes beyond a deadband, not too often, and a sign of life."""

from __future__ import annotations

from collections.abc import Iterable

from agent.domain.record import SignalValue
from agent.domain.vehicle import Signal
from agent.hal.can import CanFrame
from agent.sources.can.can_decoder import (
    EXTENDED,
    MAX_KNOWN_IDS,
    UNUSABLE,
    BitField,
    CanDecoder,
    MessageLayout,
    MultiplexCondition,
    SignalLayout,
)
from agent.sources.can.j1939_speakers import Speakers


class _Watched:
    """A signal on its way out of the frames: how to read it, and what was told of it.

    Attributes:
        own_bits: its bits and its selectors', in the payload as a little-endian integer.
        is_told: True once anything was told.
        told: the value told.
        told_ns: CLOCK_BOOTTIME of the frame that was last told of, changed or not.
        due_ns: before this a change is held back.
    """

    __slots__ = (
        "big_endian", "conditions", "deadband", "due_ns", "interval_ns", "is_told", "mask", "name",
        "needed_bytes", "own_bits", "read", "shift", "told", "told_ns",
    )  # fmt: skip

    def __init__(self, layout: SignalLayout, length: int) -> None:
        bits = layout.bits
        self.name = layout.name
        self.deadband = layout.deadband
        self.interval_ns = layout.min_interval_ns
        self.read = layout.reader()
        self.shift = bits.shift
        self.mask = bits.mask
        self.big_endian = bits.big_endian
        self.conditions = layout.conditions
        self.needed_bytes = layout.needed_bytes(length)
        self.own_bits = _little_endian(bits, length)
        for condition in layout.conditions:
            self.own_bits |= _little_endian(condition.selector, length)
        self.is_told = False
        self.told: SignalValue | None = None
        self.told_ns = 0
        self.due_ns = 0


class _Heard:
    """The last frame of a message from one sender.

    Attributes:
        bits: its used bits.
        length: its bytes, at most those of the message.
        until_ns: before this an equal frame has nothing to tell.
    """

    __slots__ = ("bits", "length", "until_ns")

    def __init__(self) -> None:
        self.bits = 0
        self.length = -1
        self.until_ns = 0


class _Message:
    """A message with what was last heard of it: of each control unit on J1939, else under address 0."""

    __slots__ = ("has_big_endian", "heard", "layout", "length", "used_bits", "watched")

    def __init__(self, layout: MessageLayout) -> None:
        self.layout = layout
        self.length = layout.length
        self.used_bits = layout.used_bits
        self.has_big_endian = layout.has_big_endian
        self.watched = tuple(_Watched(signal, layout.length) for signal in layout.signals)
        self.heard: dict[int, _Heard] = {}


class SignalChanges:
    """Turns frames into the signals to tell. Pure state, no clock: the frames carry the time.

    Only what changed is decoded, and of what has a minimum interval only the newest value once it is due, so
    that the cost grows with what happens in the vehicle and not with the load of the bus. An unchanged signal
    is told again every `refresh_ns`, so that who hears of it knows that it is still true.
    """

    def __init__(self, decoder: CanDecoder, refresh_ns: int = 1_000_000_000) -> None:
        self._decoder = decoder
        self._refresh_ns = refresh_ns
        self._speakers = Speakers() if decoder.protocol == "j1939" else None
        self._messages = {id(layout): _Message(layout) for layout in decoder.messages}
        self._known: dict[int, _Message | None] = {}
        self._held: dict[str, tuple[_Watched, int, int]] = {}

    def take(self, frames: Iterable[CanFrame]) -> list[Signal]:
        """The signals that are to be told now, in the order of the frames."""
        # A full bus brings 4,500 frames a second: nothing is looked up twice here, or called needlessly.
        known, is_j1939, counts = self._known, self._speakers is not None, self._decoder.counts
        from_bytes = int.from_bytes
        to_tell: list[Signal] = []
        seen = 0
        for frame in frames:
            seen += 1
            can_id, data, now_ns = frame.can_id, frame.data, frame.received_boottime_ns
            try:
                message = known[can_id | EXTENDED if frame.extended else can_id]
            except KeyError:
                message = self._learn(frame)
            if message is None:
                counts.unwanted += 1
                continue
            length = len(data)
            if length != message.length:
                length, data = self._cut(message, data)
            # Most frames repeat what was said before beside a counter and a checksum: compare first.
            little = from_bytes(data, "little")
            address = can_id & 0xFF if is_j1939 else 0
            heard = message.heard.get(address)
            if heard is None:
                heard = message.heard[address] = _Heard()
            bits = little & message.used_bits
            changed = heard.bits ^ bits
            if now_ns >= heard.until_ns or length != heard.length:
                heard.length, heard.until_ns, changed = length, now_ns + self._refresh_ns, -1
            if changed:
                heard.bits = bits
                big = from_bytes(data.ljust(message.length, b"\0"), "big") if message.has_big_endian else 0
                self._changed(message, changed, (little, big, length, address, now_ns), to_tell)
        counts.heard += seen
        return to_tell

    def never_told(self) -> tuple[str, ...]:
        """Names of the signals that no frame has given yet, sorted."""
        return tuple(
            sorted(
                watched.name
                for message in self._messages.values()
                for watched in message.watched
                if not watched.is_told
            )
        )

    def unknown(self) -> list[Signal]:
        """Every signal that was told, as not known any more, dated to when it was told last."""
        return [
            Signal(watched.name, None, watched.told_ns)
            for message in self._messages.values()
            for watched in message.watched
            if watched.is_told and watched.told is not None
        ]

    def release(self, now_ns: int) -> list[Signal]:
        """Changes that were held back for their minimum interval and are due at `now_ns`."""
        to_tell: list[Signal] = []
        if self._held:
            for watched, raw, at_ns in [held for held in self._held.values() if now_ns >= held[0].due_ns]:
                del self._held[watched.name]
                self._tell(watched, self._value(watched, raw), at_ns, to_tell)
        return to_tell

    def _learn(self, frame: CanFrame) -> _Message | None:
        """The message of an identifier that was not met lately."""
        layout = self._decoder.layout_of(frame)
        if len(self._known) >= MAX_KNOWN_IDS:
            self._known.clear()
        message = None if layout is None else self._messages[id(layout)]
        self._known[frame.can_id | EXTENDED if frame.extended else frame.can_id] = message
        return message

    def _cut(self, message: _Message, data: bytes) -> tuple[int, bytes]:
        """A payload of another length: what is too much goes, what is missing is counted."""
        if len(data) > message.length:
            return message.length, data[: message.length]
        self._decoder.counts.short += 1
        return len(data), data

    def _changed(
        self,
        message: _Message,
        changed: int,
        payload: tuple[int, int, int, int, int],
        to_tell: list[Signal],
    ) -> None:
        little, big, length, address, now_ns = payload
        speakers = self._speakers
        pages = other_pages = 0
        for watched in message.watched:
            if not watched.own_bits & changed or length < watched.needed_bytes:
                continue
            if watched.conditions:
                pages += 1
                if not _is_here(watched.conditions, little, big):
                    other_pages += 1
                    continue
            raw = ((big if watched.big_endian else little) >> watched.shift) & watched.mask
            if speakers is None:
                if now_ns < watched.due_ns:
                    self._held[watched.name] = (watched, raw, now_ns)
                else:
                    self._tell(watched, self._value(watched, raw), now_ns, to_tell)
                continue
            value = self._value(watched, raw)
            if speakers.believes(watched.name, address, value, now_ns):
                if now_ns < watched.due_ns:
                    self._held[watched.name] = (watched, raw, now_ns)
                else:
                    self._tell(watched, value, now_ns, to_tell)
        if pages and pages == other_pages:
            self._decoder.counts.other_pages += 1

    def _value(self, watched: _Watched, raw: int) -> SignalValue | None:
        value = watched.read(raw)
        if value is UNUSABLE:
            self._decoder.counts.unusable += 1
            return None
        return value

    def _tell(self, watched: _Watched, value: SignalValue | None, at_ns: int, to_tell: list[Signal]) -> None:
        if watched.is_told and not _differs(watched.told, value, watched.deadband):
            # Told again as it was told: within the deadband the new value is noise.
            if at_ns - watched.told_ns >= self._refresh_ns:
                watched.told_ns = at_ns
                to_tell.append(Signal(watched.name, watched.told, at_ns))
            return
        if self._held:
            self._held.pop(watched.name, None)
        watched.is_told, watched.told, watched.told_ns = True, value, at_ns
        watched.due_ns = at_ns + watched.interval_ns
        to_tell.append(Signal(watched.name, value, at_ns))


def _is_here(conditions: tuple[MultiplexCondition, ...], little: int, big: int) -> bool:
    return all(condition.selector.raw(little, big) in condition.ids for condition in conditions)


def _little_endian(bits: BitField, length: int) -> int:
    """The bits of a field in the payload read as a little-endian integer."""
    mask = bits.mask << bits.shift
    return int.from_bytes(mask.to_bytes(length, "big"), "little") if bits.big_endian else mask


def _differs(old: SignalValue | None, new: SignalValue | None, deadband: float) -> bool:
    if old == new:
        return False
    # Standing still is not "almost 0.3 km/h": what becomes exactly 0 is told whatever the deadband.
    if deadband and new and isinstance(old, int | float) and isinstance(new, int | float):
        return abs(new - old) >= deadband
    return True
