"""The supervised receiver: fixes, progress and health, with the loop's time in our hands."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from agent.domain.fix import Fix
from agent.domain.health import HealthBoard, HealthReason
from agent.hal.errors import DeviceLostError, DeviceNotFoundError, HardwareError
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.gnss_source import OPEN_TIMEOUT_S, GnssSource
from agent.sources.gnss.nmea_framing import checksum
from agent.sources.gnss.ubx import SYNC
from agent.sources.gnss.ubx import checksum as ubx_checksum

S = 1_000_000_000


class SkippingLoop(asyncio.SelectorEventLoop):
    """Time jumps to the next timer whenever nothing else is left to do."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1000.0
        select = self._selector.select  # type: ignore[attr-defined]  # the place where asyncio waits

        def skip(timeout: float | None) -> Any:
            if timeout:
                self._now_s += timeout
            return select(0 if timeout is not None else None)

        self._selector.select = skip  # type: ignore[attr-defined]  # as above

    def time(self) -> float:
        return self._now_s


class TimedFeed:
    """Says each item at its time since the first opening; an error ends the connection."""

    name = "/dev/gnss0"

    def __init__(self, script: Sequence[tuple[float, bytes | HardwareError]], *, open_s: float = 0) -> None:
        self._script = deque(script)
        self._open_s = open_s
        self._begun_s: float | None = None
        self.opened = 0
        self.closed = 0

    async def open(self) -> None:
        self.opened += 1
        await asyncio.sleep(self._open_s)
        if self._begun_s is None:
            self._begun_s = asyncio.get_running_loop().time()

    async def read(self) -> Sequence[NmeaBytes]:
        loop = asyncio.get_running_loop()
        if not self._script:
            await asyncio.Event().wait()
        assert self._begun_s is not None
        await asyncio.sleep(max(0, self._begun_s + self._script[0][0] - loop.time()))
        _, item = self._script.popleft()
        if isinstance(item, HardwareError):
            raise item
        return [NmeaBytes(item, round(loop.time() * S))]

    async def close(self) -> None:
        self.closed += 1


def simulate(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(coroutine)


def epoch(second: int, status: str = "A") -> bytes:
    where = "4221.5000,N,07103.6000,W" if status == "A" else ",,,"
    body = f"GNRMC,1200{second:02d},{status},{where},10.0,90.0,210726,,,{'A' if status == 'A' else 'N'}"
    return f"${body}*{checksum(body.encode()):02X}\r\n".encode()


class Run:
    """One run of a source, for `for_s` seconds of the loop's time."""

    def __init__(
        self, feed: TimedFeed, for_s: float, *, while_running: Callable[[float], None] | None = None
    ) -> None:
        self.feed = feed
        self.health = HealthBoard()
        self.changes: list[tuple[float, tuple[HealthReason, ...]]] = []
        self.fixes: list[tuple[float, Fix]] = []
        self.progress_s: list[float] = []
        self.error: HardwareError | None = None
        self._for_s = for_s
        simulate(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        self.health.listen(lambda: self.changes.append((loop.time() - begun_s, self.health.reasons())))
        source = GnssSource(self.feed, self.health, silent_after_s=5)
        self.progress_s.append(0)
        try:
            async with asyncio.timeout(self._for_s):
                await source.run(
                    lambda fix: self.fixes.append((loop.time() - begun_s, fix)),
                    lambda: self.progress_s.append(loop.time() - begun_s),
                )
        except TimeoutError:
            pass
        except HardwareError as error:
            self.error = error
        self.progress_s.append(loop.time() - begun_s)

    @property
    def longest_without_progress_s(self) -> float:
        return max(b - a for a, b in zip(self.progress_s, self.progress_s[1:], strict=False))


def test_each_epoch_becomes_a_fix_after_a_pause_and_then_at_once() -> None:
    run = Run(TimedFeed([(second, epoch(second)) for second in range(6)]), 7)
    assert [round(at_s, 6) for at_s, _ in run.fixes] == [0.2, 1.2, 2.2, 3, 4, 5]
    assert [fix.received_boottime_ns for _, fix in run.fixes] == [(1000 + second) * S for second in range(6)]
    assert run.health.reasons() == ()
    assert run.longest_without_progress_s <= 1.0
    assert run.feed.closed == 1


def test_silence_is_told_in_time_and_ends_with_the_next_epoch() -> None:
    run = Run(TimedFeed([(0, epoch(0)), (12, epoch(12))]), 13)
    silent_s, recovered_s = (at_s for at_s, _ in run.changes)
    assert 5 <= silent_s <= 6.3
    assert recovered_s == pytest.approx(12.2)
    assert [reasons for _, reasons in run.changes] == [(HealthReason.GNSS_SILENT,), ()]
    assert run.longest_without_progress_s <= 1.0


def test_a_receiver_that_repeats_itself_counts_as_silent() -> None:
    run = Run(TimedFeed([(second, epoch(0)) for second in range(9)]), 9)
    assert len(run.fixes) == 1
    assert run.health.reasons() == (HealthReason.GNSS_SILENT,)
    assert "no new epoch" in run.health.details()[HealthReason.GNSS_SILENT]


def test_no_fix_is_told_and_taken_back() -> None:
    run = Run(TimedFeed([(0, epoch(0)), (1, epoch(1, "V")), (2, epoch(2, "V")), (3, epoch(3))]), 4)
    assert [reasons for _, reasons in run.changes] == [(HealthReason.GNSS_NO_FIX,), ()]
    assert [fix.has_position for _, fix in run.fixes] == [True, False, False, True]


def test_a_wrong_baud_rate_is_told() -> None:
    garbage = bytes(range(128, 256)) * 3 + b"\n"
    run = Run(TimedFeed([(second, garbage) for second in range(8)] + [(9, epoch(9)), (11, epoch(11))]), 16)
    assert HealthReason.GNSS_GARBLED in run.changes[0][1] + run.changes[1][1]
    assert HealthReason.GNSS_GARBLED not in run.health.reasons()


def test_a_lost_device_is_told_and_raised_and_forgiven_when_heard_again() -> None:
    feed = TimedFeed([(0, epoch(0, "V")), (1, DeviceLostError("/dev/gnss0", "hung up")), (3, epoch(3))])
    run = Run(feed, 4)
    assert isinstance(run.error, DeviceLostError)
    assert run.health.reasons() == (HealthReason.GNSS_LOST,), "what was known before is no longer known"
    assert feed.closed == 1

    async def again() -> None:
        source = GnssSource(feed, run.health, silent_after_s=5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await source.run(lambda _: None, lambda: None)

    simulate(again())
    assert run.health.reasons() == ()


def test_a_device_that_opens_slowly_keeps_reporting_progress_and_is_given_up() -> None:
    run = Run(TimedFeed([], open_s=60), 30)
    assert isinstance(run.error, DeviceNotFoundError)
    assert run.progress_s[-1] == pytest.approx(OPEN_TIMEOUT_S)
    assert run.longest_without_progress_s <= 1.0
    assert run.health.reasons() == (HealthReason.GNSS_LOST,)


def test_cancelling_while_opening_leaves_no_task() -> None:
    run = Run(TimedFeed([], open_s=60), 3)
    assert run.error is None
    assert run.feed.closed == 1


def test_a_dead_line_is_opened_afresh_without_a_word() -> None:
    run = Run(TimedFeed([(0, epoch(0)), (40, epoch(40))]), 45)
    assert run.feed.opened == 2
    assert [reasons for _, reasons in run.changes] == [(HealthReason.GNSS_SILENT,), ()]
    assert len(run.fixes) == 2


def test_a_receiver_that_is_well_does_not_clear_what_another_raised() -> None:
    health = HealthBoard()
    well, away = TimedFeed([(second, epoch(second)) for second in range(6)]), TimedFeed([])
    away.name = "/dev/gnss1"
    away._script.append((0, DeviceLostError("/dev/gnss1", "unplugged")))

    async def main() -> None:
        with pytest.raises(DeviceLostError):
            await GnssSource(away, health, silent_after_s=5).run(lambda _: None, lambda: None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await GnssSource(well, health, silent_after_s=5).run(lambda _: None, lambda: None)

    simulate(main())
    assert "/dev/gnss1" in health.details()[HealthReason.GNSS_LOST]


def test_who_listens_is_told_that_nobody_knows_where_it_is_while_it_is_silent_and_when_it_is_lost() -> None:
    told: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        feed = TimedFeed([(0, epoch(0)), (10, DeviceLostError("/dev/gnss0", "unplugged"))])
        source = GnssSource(feed, HealthBoard(), silent_after_s=5)
        with pytest.raises(DeviceLostError):
            await source.run(lambda _: None, lambda: None, lambda: told.append(loop.time() - begun_s))

    simulate(main())
    assert 5 <= told[0] <= 6.3
    assert told[-1] == pytest.approx(10)


def mon_rf(jamming: int, antenna: int) -> bytes:
    payload = bytes((0, 1, 0, 0, 0, jamming, antenna, 1)) + bytes(20)
    body = bytes((0x0A, 0x38)) + len(payload).to_bytes(2, "little") + payload
    return SYNC + body + ubx_checksum(body)


def test_what_the_receiver_says_of_its_radio_is_told_and_taken_back() -> None:
    script = [(0.0, epoch(0)), (1, epoch(1) + mon_rf(3, 4)), (3, epoch(3) + mon_rf(1, 2)), (4, epoch(4))]
    run = Run(TimedFeed(script), 5)
    seen = {reason for _, reasons in run.changes for reason in reasons}
    assert {HealthReason.GNSS_JAMMED, HealthReason.GNSS_ANTENNA} <= seen
    assert run.health.reasons() == ()
