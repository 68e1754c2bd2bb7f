"""The GNSS receiver as a part of the agent that is supervised."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import NoReturn, Protocol

from agent.domain.fix import Fix
from agent.domain.health import HealthBoard, HealthReason
from agent.hal.errors import DeviceNotFoundError, HardwareError
from agent.hal.gnss import NmeaBytes, NmeaFeed
from agent.sources.gnss.nmea_framing import Rejection
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from agent.sources.gnss.ubx import RadioState

PROGRESS_EVERY_S = 1.0
OPEN_TIMEOUT_S = 15.0
INDICATED, WORSE = 2, 3
"""Of MON-RF's jamming state and NAV-STATUS's spoofing state: from 2 on there is something, 3 is worse."""
REOPEN_AFTER = 6
"""So many times `silent_after_s` without a byte, and the device is opened afresh: a forwarder in a router may
have forgotten us although its TCP still answers."""


class Decoder(Protocol):
    """Makes fixes of the bytes of a feed."""

    @property
    def idle_gap_s(self) -> float | None:
        """How long to wait for more bytes before `idle` is due; None while nothing waits."""
        ...

    @property
    def sentences(self) -> int:
        """What could be read."""
        ...

    @property
    def rejections(self) -> Counter[Rejection]:
        """What could not, by reason."""
        ...

    @property
    def radio(self) -> RadioState:
        """What the receiver says of its antenna and of interference."""
        ...

    def feed(self, chunk: NmeaBytes) -> list[Fix]:
        """Take what one read gave."""
        ...

    def idle(self) -> list[Fix]:
        """The feed paused for `idle_gap_s`."""
        ...


class GnssSource:
    """Reads a receiver for as long as it is there. Event loop only.

    Args:
        feed: the device.
        health: gets GNSS_LOST, GNSS_SILENT, GNSS_NO_FIX and GNSS_GARBLED.
        silent_after_s: without an epoch for longer, the receiver counts as silent.
        make_decoder: what understands the feed; made anew at each opening.
    """

    def __init__(
        self,
        feed: NmeaFeed,
        health: HealthBoard,
        *,
        silent_after_s: float,
        make_decoder: Callable[[], Decoder] = ReceiverDecoder,
    ) -> None:
        self._make_decoder = make_decoder
        self._feed = feed
        self._health = health
        self._silent_after_s = silent_after_s

    async def run(
        self,
        on_fix: Callable[[Fix], None],
        progress: Callable[[], None],
        on_silence: Callable[[], None] = lambda: None,
    ) -> NoReturn:
        """Open the receiver and give each epoch to `on_fix`, until cancelled or the device fails.

        Epochs without a fix are given too. Calls `progress` at least once a second, also while the receiver
        says nothing, and `on_silence` when there is no telling where the vehicle is: again and again while
        the receiver is silent, and once it is lost or no longer read.

        Raises:
            HardwareError: the receiver is not there or went away; GNSS_LOST then holds until it is heard.
        """
        try:
            await self._open(progress)
            await self._listen(on_fix, progress, on_silence)
        except HardwareError as error:
            self._health.clear(
                HealthReason.GNSS_SILENT,
                HealthReason.GNSS_NO_FIX,
                HealthReason.GNSS_GARBLED,
                HealthReason.GNSS_JAMMED,
                HealthReason.GNSS_SPOOFED,
                HealthReason.GNSS_ANTENNA,
                owner=self._feed.name,
            )
            self._health.raise_(HealthReason.GNSS_LOST, str(error), owner=self._feed.name)
            raise
        finally:
            on_silence()
            await self._feed.close()

    async def _open(self, progress: Callable[[], None]) -> None:
        opening = asyncio.ensure_future(self._feed.open())
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                while not opening.done():
                    progress()
                    await asyncio.wait({opening}, timeout=PROGRESS_EVERY_S)
            opening.result()
        except TimeoutError as error:
            raise DeviceNotFoundError(self._feed.name, "opening takes too long") from error
        finally:
            opening.cancel()
            await asyncio.wait({opening})
            if not opening.cancelled():
                opening.exception()  # looked at, so that asyncio does not complain when we were cancelled

    async def _listen(
        self,
        on_fix: Callable[[Fix], None],
        progress: Callable[[], None],
        on_silence: Callable[[], None],
    ) -> NoReturn:
        loop = asyncio.get_running_loop()
        decoder = self._make_decoder()
        watch = _Watch(self._feed.name, self._health, self._silent_after_s, loop.time())
        while True:
            wait_s = decoder.idle_gap_s
            try:
                async with asyncio.timeout(PROGRESS_EVERY_S if wait_s is None else wait_s):
                    chunks = await self._feed.read()
            except TimeoutError:
                fixes = decoder.idle()
            else:
                watch.heard(loop.time())
                fixes = [fix for chunk in chunks for fix in decoder.feed(chunk)]
            for fix in fixes:
                watch.saw(fix, loop.time())
                on_fix(fix)
            progress()
            if watch.judge(decoder, loop.time()):
                on_silence()
            if watch.is_dead(loop.time()):
                await self._feed.close()
                await self._open(progress)
                watch.heard(loop.time())


class _Watch:
    """Judges a receiver by what comes from it."""

    def __init__(self, name: str, health: HealthBoard, silent_after_s: float, now_s: float) -> None:
        self._name = name
        self._health = health
        self._silent_after_s = silent_after_s
        self._heard_at_s = now_s
        self._epoch_at_s = now_s
        self._judged_at_s = now_s
        self._judged_good = 0
        self._judged_bad = 0

    def heard(self, now_s: float) -> None:
        """Bytes arrived."""
        self._heard_at_s = now_s

    def saw(self, fix: Fix, now_s: float) -> None:
        """An epoch is over."""
        self._epoch_at_s = now_s
        self._health.clear(HealthReason.GNSS_LOST, HealthReason.GNSS_SILENT, owner=self._name)
        if fix.has_position:
            self._health.clear(HealthReason.GNSS_NO_FIX, owner=self._name)
        else:
            detail = f"{self._name}: {fix.satellites or 0} satellites"
            self._health.raise_(HealthReason.GNSS_NO_FIX, detail, owner=self._name)

    def judge_radio(self, radio: RadioState) -> None:
        """Jamming, spoofing and the antenna, by the receiver's own word."""
        jammed, spoofed = (radio.jamming or 0) >= INDICATED, (radio.spoofing or 0) >= INDICATED
        broken = radio.antenna in ("open", "short")
        details = {
            HealthReason.GNSS_JAMMED: (
                jammed,
                "no fix" if radio.jamming == WORSE else "a fix all the same",
            ),
            HealthReason.GNSS_SPOOFED: (spoofed, "several signs" if radio.spoofing == WORSE else "a sign"),
            HealthReason.GNSS_ANTENNA: (broken, f"the antenna is {radio.antenna}"),
        }
        for reason, (holds, detail) in details.items():
            if holds:
                self._health.raise_(reason, f"{self._name}: {detail}", owner=self._name)
            else:
                self._health.clear(reason, owner=self._name)

    def judge(self, decoder: Decoder, now_s: float) -> bool:
        """Look at silence at any time, at garbling once every `silent_after_s`. True while it is silent."""
        self.judge_radio(decoder.radio)
        if now_s - self._judged_at_s >= self._silent_after_s:
            self._judged_at_s = now_s
            self._judge_garbling(decoder)
        if now_s - self._epoch_at_s < self._silent_after_s:
            return False
        what = "bytes" if now_s - self._heard_at_s >= self._silent_after_s else "new epoch"
        self._health.clear(HealthReason.GNSS_LOST, owner=self._name)
        detail = f"{self._name}: no {what} for {now_s - self._epoch_at_s:.0f} s"
        self._health.raise_(HealthReason.GNSS_SILENT, detail, owner=self._name)
        return True

    def is_dead(self, now_s: float) -> bool:
        """True when not a byte came for so long that opening the device afresh is worth trying."""
        return now_s - self._heard_at_s >= self._silent_after_s * REOPEN_AFTER

    def _judge_garbling(self, decoder: Decoder) -> None:
        # A malformed field stands in a sentence whose checksum is right: a quirk, no garbling.
        bad = decoder.rejections.total() - decoder.rejections[Rejection.BAD_FIELD]
        new_good, new_bad = decoder.sentences - self._judged_good, bad - self._judged_bad
        self._judged_good, self._judged_bad = decoder.sentences, bad
        if new_bad > new_good:
            detail = f"{self._name}: {new_bad} of {new_bad + new_good} sentences; is the baud rate right?"
            self._health.raise_(HealthReason.GNSS_GARBLED, detail, owner=self._name)
        elif new_good:
            self._health.clear(HealthReason.GNSS_GARBLED, owner=self._name)
