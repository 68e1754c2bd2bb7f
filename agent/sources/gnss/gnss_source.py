"""The GNSS receiver as a part of the agent that is supervised."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NoReturn, Protocol

from agent.domain.fix import Fix, FixMode
from agent.domain.health import HealthBoard, HealthReason
from agent.hal.errors import DeviceNotFoundError, HardwareError
from agent.hal.gnss import NmeaBytes, NmeaFeed
from agent.sources.gnss.nmea_framing import Rejection
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from agent.sources.gnss.sky import Satellite, Sky
from agent.sources.gnss.ubx import RadioState

PROGRESS_EVERY_S = 1.0
OPEN_TIMEOUT_S = 15.0
INDICATED, WORSE = 2, 3
"""Of MON-RF's jamming state and NAV-STATUS's spoofing state: from 2 on there is something, 3 is worse."""
STRONG_DBHZ = 30
"""A satellite that is heard so well can be used; below, its message is hardly read."""
NEEDED = 4
_FIX_WORDS = {FixMode.NONE: "none", FixMode.FIX_2D: "2D", FixMode.FIX_3D: "3D"}
_INTERFERENCE = {0: "not told", 1: "none", 2: "indicated", 3: "strong"}
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

    @property
    def sky(self) -> Sky:
        """What the receiver says of satellites."""
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
        self._decoder: Decoder | None = None
        self._last: Fix | None = None

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """What a technician wants to know of the receiver at this boot time, JSON-able and bounded."""
        fix, decoder = self._last, self._decoder
        radio = RadioState() if decoder is None else decoder.radio
        satellites = None if decoder is None else decoder.sky.satellites(now_ns)
        age_s = None if fix is None else (now_ns - fix.received_boottime_ns) / 1e9
        fresh = fix is not None and age_s is not None and age_s <= self._silent_after_s
        placed = fresh and fix is not None and fix.has_position
        return {
            "fix": _FIX_WORDS[fix.mode] if fix is not None and placed else "none",
            "age_s": age_s,
            "satellites_used": None if fix is None or not fresh else fix.satellites,
            "hdop": None if fix is None or not fresh else fix.hdop,
            "antenna": radio.antenna,
            "jamming": _INTERFERENCE[radio.jamming or 0],
            "spoofing": _INTERFERENCE[radio.spoofing or 0],
            "sentences": 0 if decoder is None else decoder.sentences,
            "rejected": {} if decoder is None else {str(k): n for k, n in decoder.rejections.items()},
            "satellites": None if satellites is None else [asdict(one) for one in satellites],
            "why_no_fix": [] if placed else self._why_no_fix(radio, satellites, told=fresh),
        }

    def heard(self, now_ns: int) -> tuple[int, int] | None:
        """Satellites that are heard, and those of them heard well; None when the receiver does not tell."""
        satellites = None if self._decoder is None else self._decoder.sky.satellites(now_ns)
        if satellites is None:
            return None
        signals = [one.signal_dbhz for one in satellites if one.signal_dbhz is not None]
        return len(signals), sum(signal >= STRONG_DBHZ for signal in signals)

    def _why_no_fix(self, radio: RadioState, satellites: list[Satellite] | None, *, told: bool) -> list[str]:
        """Sentences, the cause that hides the others first; never empty."""
        if self._decoder is None:
            return ["the receiver is not there, or can not be opened: see its cable and its name"]
        why = []
        if not told:
            why.append("the receiver tells no epoch: see its power and its baud")
        if radio.antenna in ("open", "short"):
            why.append(f"the antenna is {radio.antenna}: see its cable and plug")
        if (radio.jamming or 0) >= INDICATED:
            why.append("the receiver is jammed: look for what transmits near the antenna")
        if satellites is None or not told:
            return why or ["the receiver has no fix, and does not tell what it hears"]
        strong = sum((one.signal_dbhz or 0) >= STRONG_DBHZ for one in satellites)
        heard = sum(one.signal_dbhz is not None for one in satellites)
        if not heard:
            why.append("no satellite is heard: is the antenna connected, and under the open sky?")
        elif strong < NEEDED:
            why.append(
                f"{heard} satellites are heard, {strong} of them with {STRONG_DBHZ} dBHz or more; "
                f"{NEEDED} are needed: is the antenna under the open sky?"
            )
        else:
            why.append(
                f"{strong} satellites are heard well: a receiver that was off for long needs a minute or two"
            )
        return why

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
            self._decoder = self._last = None
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
        decoder = self._decoder = self._make_decoder()
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
                self._last = fix
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
