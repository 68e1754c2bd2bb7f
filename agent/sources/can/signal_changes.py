"""Which decoded values are worth telling: changes beyond a deadband, not too often, and a sign of life."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.record import SignalValue
from agent.domain.vehicle import Signal
from agent.hal.can import CanFrame
from agent.sources.can.can_decoder import CanDecoder, MessageLayout, SignalLayout
from agent.sources.can.j1939_speakers import Speakers


@dataclass(slots=True)
class _Told:
    """What was last told of a signal.

    Attributes:
        value: the value told.
        changed_ns: CLOCK_BOOTTIME of the frame that changed it.
        told_ns: CLOCK_BOOTTIME of the frame that was last told of, changed or not.
    """

    value: SignalValue | None
    changed_ns: int
    told_ns: int


@dataclass(slots=True)
class _Heard:
    """The last frame of a message that was looked into.

    Attributes:
        bits: its used bits.
        until_ns: before this an equal frame has nothing to tell.
    """

    bits: int
    until_ns: int


class SignalChanges:
    """Turns frames into the signals to tell. Pure state, no clock: the frames carry the time.

    An unchanged signal is told again every `refresh_ns`, so that who hears of it knows that it is still true.
    """

    def __init__(self, decoder: CanDecoder, refresh_ns: int = 1_000_000_000) -> None:
        self._decoder = decoder
        self._refresh_ns = refresh_ns
        self._speakers = Speakers() if decoder.protocol == "j1939" else None
        self._heard: dict[tuple[int, int], _Heard] = {}
        self._told: dict[str, _Told] = {}
        self._held: dict[str, tuple[SignalLayout, Signal]] = {}

    def wanted(self, frame: CanFrame) -> MessageLayout | None:
        """The layout of a frame that can be decoded, None for any other frame."""
        return self._decoder.layout_of(frame)

    def take(self, layout: MessageLayout, frame: CanFrame) -> list[Signal]:
        """The signals of a frame that are to be told now."""
        now_ns = frame.received_boottime_ns
        # Most frames repeat what was said before beside a counter and a checksum: compare before decoding.
        bits = int.from_bytes(frame.data[: layout.length], "little") & layout.used_bits
        address = 0 if self._speakers is None else frame.can_id & 0xFF
        heard = self._heard.get((layout.can_id, address))
        if heard is not None and heard.bits == bits and now_ns < heard.until_ns:
            return []
        to_tell: list[Signal] = []
        for signal, value in layout.values(frame.data):
            if self._speakers is not None and not self._speakers.believes(
                signal.name, address, value, now_ns
            ):
                continue
            told = self._tell(signal, value, now_ns)
            if told is not None:
                to_tell.append(told)
        self._heard[layout.can_id, address] = _Heard(bits, now_ns + self._refresh_ns)
        return to_tell

    def release(self, now_ns: int) -> list[Signal]:
        """Changes that were held back for their minimum interval and are due at `now_ns`."""
        due = [
            (layout, signal)
            for layout, signal in self._held.values()
            if now_ns - self._told[signal.name].changed_ns >= layout.min_interval_ns
        ]
        for layout, signal in due:
            self._change(layout, signal)
        return [signal for _, signal in due]

    def _tell(self, layout: SignalLayout, value: SignalValue | None, now_ns: int) -> Signal | None:
        told = self._told.get(layout.name)
        if told is not None and not _differs(told.value, value, layout.deadband):
            self._held.pop(layout.name, None)
            # Told again as it was told: within the deadband the new value is noise.
            if now_ns - told.told_ns < self._refresh_ns:
                return None
            told.told_ns = now_ns
            return Signal(layout.name, told.value, now_ns)
        signal = Signal(layout.name, value, now_ns)
        if told is not None and now_ns - told.changed_ns < layout.min_interval_ns:
            self._held[layout.name] = (layout, signal)
            return None
        self._change(layout, signal)
        return signal

    def _change(self, layout: SignalLayout, signal: Signal) -> None:
        at_ns = signal.received_boottime_ns
        self._held.pop(layout.name, None)
        self._told[layout.name] = _Told(signal.value, at_ns, at_ns)


def _differs(old: SignalValue | None, new: SignalValue | None, deadband: float) -> bool:
    if old == new:
        return False
    # Standing still is not "almost 0.3 km/h": what becomes exactly 0 is told whatever the deadband.
    if deadband and new and isinstance(old, int | float) and isinstance(new, int | float):
        return abs(new - old) >= deadband
    return True
