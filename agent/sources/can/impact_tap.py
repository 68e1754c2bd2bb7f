"""The frames of a bus for the impact recorder, and the impacts in them at the rate of the bus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.domain.impact import tells_of_impacts
from agent.domain.vehicle import Signal
from agent.hal.can import CanFilter, CanFrame
from agent.sources.can.can_decoder import CanDecoder
from agent.sources.can.signal_changes import SignalChanges


class ImpactTap:
    """Implements agent.sources.can.vehicle_bus.FrameTap.

    The signals that tell of an impact are decoded apart from the others: their dead-bands and intervals
    spare the journal, and would hide an impact for half a second.

    Args:
        decoder_of: gives the bus's decoder; None before there is one.
        on_frames: takes the frames that the vehicle file is about.
        on_signals: takes signals that may tell of an impact, each change of them.
    """

    filters: Sequence[CanFilter] = ()
    """None of its own: it takes what the vehicle file asks for."""

    def __init__(
        self,
        decoder_of: Callable[[], CanDecoder | None],
        on_frames: Callable[[list[CanFrame]], None],
        on_signals: Callable[[Sequence[Signal]], None],
    ) -> None:
        self._decoder_of = decoder_of
        self._on_frames = on_frames
        self._on_signals = on_signals
        self._decoder: CanDecoder | None = None
        self._changes: SignalChanges | None = None

    def take(self, frames: Sequence[CanFrame]) -> None:
        """Take frames, also such as are not wanted."""
        decoder = self._decoder or self._begun()
        if decoder is None or not frames:
            return
        layout_of = decoder.layout_of
        wanted = [frame for frame in frames if layout_of(frame) is not None]
        if not wanted:
            return
        self._on_frames(wanted)
        if self._changes is not None and (signals := self._changes.take(wanted)):
            self._on_signals(signals)

    def _begun(self) -> CanDecoder | None:
        decoder = self._decoder = self._decoder_of()
        if decoder is not None:
            telling = [
                replace(message, signals=signals)
                for message in decoder.messages
                if (signals := tuple(
                    replace(signal, deadband=0, min_interval_ns=0)
                    for signal in message.signals
                    if tells_of_impacts(signal.name)
                ))
            ]  # fmt: skip
            # Each frame, changed or not: that a speed stays what it became tells a stop from an error.
            self._changes = (
                SignalChanges(CanDecoder(telling, decoder.protocol), refresh_ns=0) if telling else None
            )
        return decoder
