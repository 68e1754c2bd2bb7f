"""The system clock's word: taken once a second, and never believed when nobody vouches for it."""

from __future__ import annotations

import asyncio

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.stamp import UtcSource
from agent.domain.time_base import TimeBase
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
