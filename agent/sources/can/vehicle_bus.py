"""One vehicle bus: frames in, changed signals out, and whether the bus is well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NoReturn, Protocol

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.vehicle import Signal
from agent.hal.can import CanFeed, CanFilter, CanFrame
from agent.hal.errors import DeviceNotFoundError, HardwareError
from agent.sources.can.can_decoder import CanDecoder
from agent.sources.can.signal_changes import SignalChanges

TICK_S = 0.5
"""How often the bus is looked at when nothing arrives: progress, silence, changes that were held back."""
OPEN_TIMEOUT_S = 15.0
"""Longer than any adapter takes to settle, shorter than what would starve the watchdog."""
MANY_ERRORS = 10
"""So many error frames within `OVERRUN_LASTS_S` are a bus that is disturbed."""
OVERRUN_LASTS_S = 30.0
"""An overrun is history when no frame was lost for this long."""


class FrameTap(Protocol):
    """Takes the frames of a bus beside the signals."""

    @property
    def filters(self) -> Sequence[CanFilter]:
        """Which frames it wants."""
        ...

    def take(self, frames: Sequence[CanFrame]) -> None:
        """Take frames, also such as it does not want."""
        ...


class VehicleBus:
    """Reads one bus until it is cancelled or the device fails. Event loop only.

    Args:
        feed: the bus; it is asked for what the decoder knows, and tells how much was lost.
        make_decoder: gives what is taken from it; awaited once, while the rest of the agent goes on.
        health: is told CAN_LOST, CAN_SILENT, CAN_OVERRUN and CAN_ERRORS.
        silent_after_s: no wanted frame for this long is silence.
        taps: get all frames, and add what they want to the filters.
    """

    def __init__(
        self,
        feed: CanFeed,
        make_decoder: Callable[[], Awaitable[CanDecoder]],
        health: HealthBoard,
        *,
        silent_after_s: float,
        taps: Sequence[FrameTap] = (),
    ) -> None:
        self._feed = feed
        self._taps = tuple(taps)
        self._make_decoder = make_decoder
        self._decoder: CanDecoder | None = None
        self._changes: SignalChanges | None = None
        self._health = health
        self._silent_after_s = silent_after_s

    async def run(
        self, on_signals: Callable[[Sequence[Signal]], None], progress: Callable[[], None]
    ) -> NoReturn:
        """Open the bus and hand on what changes, and about once a second what is still true.

        `progress` is called at least once a second once the bus is open, also when it is silent.

        Raises:
            HardwareError: the bus can not be opened, or went away; or its decoder can not be had now.
            ConfigError: the vehicle file can not be used.
        """
        loop = asyncio.get_running_loop()
        try:
            decoder = self._decoder = self._decoder or await self._made(progress)
            self._feed.listen_for([*decoder.filters(), *(one for tap in self._taps for one in tap.filters)])
            await self._open()
            self._health.clear(HealthReason.CAN_LOST, owner=self._feed.name)
            # A fresh start tells every signal again: what changed while the device was away is not known.
            changes = self._changes = SignalChanges(decoder)
            counts = decoder.counts
            watch = _Watch(self._feed, self._health, self._silent_after_s, loop.time())
            while True:
                progress()
                frames = await self._read()
                now_s = loop.time()
                for tap in self._taps:
                    tap.take(frames)
                unwanted = counts.unwanted
                signals = changes.take(frames)
                if len(frames) > counts.unwanted - unwanted:
                    watch.heard(frames[-1], now_s)
                signals += changes.release(watch.boottime_ns(now_s))
                if signals:
                    on_signals(signals)
                watch.judge(now_s)
        except HardwareError as error:
            self._health.raise_(HealthReason.CAN_LOST, str(error), owner=self._feed.name)
            self._forget(on_signals)
            raise
        finally:
            reasons = (HealthReason.CAN_SILENT, HealthReason.CAN_OVERRUN, HealthReason.CAN_ERRORS)
            self._health.clear(*reasons, owner=self._feed.name)
            await self._feed.close()

    @property
    def decoder(self) -> CanDecoder | None:
        """What finds signals in the frames; None before it was made."""
        return self._decoder

    def report(self) -> dict[str, Any]:
        """What a technician may want to know, JSON-able: how much came, and which signals never did."""
        decoder, changes = self._decoder, self._changes
        if decoder is None:
            return {}
        unheard = () if changes is None else changes.never_told()
        return {
            **asdict(decoder.counts),
            "lost": self._feed.overruns,
            "error_frames": self._feed.error_frames,
            "signals_never_heard": list(unheard),
        }

    def _forget(self, on_signals: Callable[[Sequence[Signal]], None]) -> None:
        """What the bus said is no longer known: an ignition that was off may be on by now."""
        changes, self._changes = self._changes, None
        unknown = [] if changes is None else changes.unknown()
        if unknown:
            on_signals(unknown)

    async def _made(self, progress: Callable[[], None]) -> CanDecoder:
        making = asyncio.ensure_future(self._make_decoder())
        try:
            while True:
                await asyncio.wait({making}, timeout=TICK_S)
                if making.done():
                    return making.result()
                progress()
        finally:
            if not making.done():
                making.cancel()
                with suppress(asyncio.CancelledError):
                    await making

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._feed.open()
        except TimeoutError as error:
            raise DeviceNotFoundError(self._feed.name, "opening takes too long") from error

    async def _read(self) -> Sequence[CanFrame]:
        try:
            async with asyncio.timeout(TICK_S):
                return await self._feed.read()
        except TimeoutError:
            return ()


class _Watch:
    """Judges a bus by what comes from it."""

    def __init__(self, feed: CanFeed, health: HealthBoard, silent_after_s: float, now_s: float) -> None:
        self._feed = feed
        self._health = health
        self._silent_after_s = silent_after_s
        self._heard_at_s = now_s
        self._heard_boottime_ns = 0
        self._lost = 0
        self._lost_at_s = now_s
        self._errors = 0
        self._errors_at_s = now_s

    def heard(self, frame: CanFrame, now_s: float) -> None:
        """A wanted frame arrived."""
        self._heard_at_s = now_s
        self._heard_boottime_ns = frame.received_boottime_ns

    def boottime_ns(self, now_s: float) -> int:
        """CLOCK_BOOTTIME now, as the newest frame's stamp and the time since tell it; 0 before the first."""
        if not self._heard_boottime_ns:
            return 0
        return self._heard_boottime_ns + round((now_s - self._heard_at_s) * 1e9)

    def judge(self, now_s: float) -> None:
        """Raise and clear the reasons."""
        name = self._feed.name
        if now_s - self._heard_at_s > self._silent_after_s:
            detail = f"{name}: no wanted frame for {self._silent_after_s:g} s"
            self._health.raise_(HealthReason.CAN_SILENT, detail, owner=self._feed.name)
        else:
            self._health.clear(HealthReason.CAN_SILENT, owner=self._feed.name)
        lost = self._feed.overruns
        if lost > self._lost:
            self._lost, self._lost_at_s = lost, now_s
            detail = f"{name}: {lost} frames lost since it was opened"
            self._health.raise_(HealthReason.CAN_OVERRUN, detail, owner=name)
        elif now_s - self._lost_at_s > OVERRUN_LASTS_S:
            self._health.clear(HealthReason.CAN_OVERRUN, owner=self._feed.name)
        errors = self._feed.error_frames
        if errors - self._errors >= MANY_ERRORS:
            self._errors, self._errors_at_s = errors, now_s
            detail = f"{name}: {errors} error frames since it was opened"
            self._health.raise_(HealthReason.CAN_ERRORS, detail, owner=name)
        elif now_s - self._errors_at_s > OVERRUN_LASTS_S:
            # A few in half a minute are a plug being plugged in somewhere.
            self._errors, self._errors_at_s = errors, now_s
            self._health.clear(HealthReason.CAN_ERRORS, owner=name)
