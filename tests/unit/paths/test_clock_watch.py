"""The system clock's word: taken once a second, and never believed when nobody vouches for it."""

from __future__ import annotations

import asyncio

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.stamp import UtcSource
from agent.domain.time_base import TimeBase
from agent.hal.errors import DeviceLostError
from agent.paths.clock_watch import ClockWatch
from hil.sim.manual_clock import ManualClock
from hil.sim.virtual_loop import VirtualLoop

NOW_MS = 1_795_000_000_000


class Bench:
    """A clock watch with its parts."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.time_base, self.health = clock, TimeBase(), HealthBoard()
        self.watch = ClockWatch(clock, self.time_base, self.health)

    def untrusted(self) -> bool:
        return HealthReason.TIME_UNSYNCHRONISED in self.health.reasons()


def bench_at(unix_ms: int, *, synchronised: bool) -> Bench:
    return Bench(ManualClock(lambda: 0, boot_id="ab" * 16, unix_ms=unix_ms, synchronised=synchronised))


def test_a_clock_that_no_time_service_disciplines_is_told_and_gives_no_trusted_time() -> None:
    bench = bench_at(NOW_MS, synchronised=False)
    bench.watch.look()
    assert bench.untrusted()
    assert bench.time_base.source(0) in (UtcSource.NONE, UtcSource.LAST_KNOWN)


def test_a_clock_that_a_time_service_disciplines_is_believed() -> None:
    bench = bench_at(NOW_MS, synchronised=True)
    bench.watch.look()
    assert not bench.untrusted()
    utc = bench.time_base.utc(0)
    assert utc is not None
    assert utc.unix_ms == NOW_MS


def test_the_reason_goes_as_soon_as_the_clock_is_disciplined() -> None:
    async def main() -> None:
        clock = ManualClock.of_loop("ab" * 16, 0)
        bench, progress = Bench(clock), []
        unit = asyncio.get_running_loop().create_task(bench.watch.run(lambda: progress.append(1)))
        try:
            await asyncio.sleep(0.5)
            assert bench.untrusted()
            clock.step(NOW_MS, synchronised=True)
            await asyncio.sleep(1)
            assert not bench.untrusted()
            await asyncio.sleep(10)
            assert len(progress) >= 11, "a unit reports once a second"
        finally:
            unit.cancel()
            await asyncio.gather(unit, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_the_receivers_time_is_passed_on_while_nothing_speaks_against_it() -> None:
    told: list[float] = []

    def take(offset_s: float) -> None:
        if len(told) == 3:
            raise DeviceLostError("chrony", "away")
        told.append(offset_s)

    now_ns = 0
    clock = ManualClock(lambda: now_ns, boot_id="ab" * 16, unix_ms=NOW_MS, synchronised=False)
    time_base, health = TimeBase(), HealthBoard()
    watch = ClockWatch(clock, time_base, health, pass_on=take, ntp=False)
    watch.tick()
    assert told == []  # a system clock that nobody disciplines is not told of itself
    for second in range(1, 8):
        now_ns = second * 1_000_000_000
        time_base.take_epoch(NOW_MS + 20 * 86_400_000 + second * 1000, now_ns)
        watch.tick()
        if len(told) == 3:
            break
    assert all(abs(offset_s - 20 * 86_400) < 2 for offset_s in told)
    watch.tick()
    assert HealthReason.TIME_NOT_PASSED_ON in health.reasons()
    told.clear()
    watch.tick()
    assert HealthReason.TIME_NOT_PASSED_ON not in health.reasons()
    assert len(told) == 1


def test_sleep_of_the_computer_is_told_once_and_by_how_long() -> None:
    slept: list[int] = []
    clock = ManualClock(lambda: 0, boot_id="ab" * 16, unix_ms=NOW_MS)
    watch = ClockWatch(clock, TimeBase(), HealthBoard(), on_sleep_over=slept.append)
    watch.look()
    clock.suspend(3600 * 10**9)
    watch.look()
    watch.look()
    assert slept == [3600 * 10**9]
    assert clock.boottime_ns() == 3600 * 10**9


def test_clocks_that_are_read_one_after_the_other_are_no_sleep() -> None:
    slept: list[int] = []
    clock = ManualClock(lambda: 0, boot_id="ab" * 16, unix_ms=NOW_MS)
    watch = ClockWatch(clock, TimeBase(), HealthBoard(), on_sleep_over=slept.append)
    for _ in range(100):
        clock.suspend(5_000_000)
        watch.look()
    assert slept == []
