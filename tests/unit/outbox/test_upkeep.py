"""What is done beside the work: thinning, progress, a disk that is slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Draft, Kind, Stream
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.outbox import outbox as outbox_module
from agent.outbox import store_worker
from agent.outbox.deposit import Fate
from agent.outbox.fault import StoreDamagedError
from agent.outbox.outbox import Outbox
from agent.runtime.worker import Done
from hil.sim.inline_worker import InlineWorker
from hil.sim.outbox_bench import (
    MANY,
    Bench,
    alert_codes,
    opened,
    run,
    until,
)
from hil.sim.virtual_loop import VirtualLoop

T = TypeVar("T")


def test_a_disk_that_does_not_answer_is_named(
    tmp_path: Path, scribe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_worker, "_STALL_TOLD_AFTER_S", 0.05)
    monkeypatch.setattr(outbox_module, "_TICK_S", 0.02)

    async def scenario() -> None:
        async with opened(tmp_path, scribe, running=True) as bench:
            started, go = threading.Event(), threading.Event()

            def hold() -> bool:
                started.set()
                return go.wait(20)

            stuck = asyncio.create_task(bench.outbox._store.do(lambda _: hold()))
            await until(started.is_set)
            press = bench.outbox.put(scribe.press())
            await until(lambda: HealthReason.STORE_IO_ERROR in bench.health.reasons())
            assert not press.done()
            go.set()
            assert await press == 1
            await stuck
            await until(lambda: bench.health.reasons() == ())

    run(scenario)


def test_over_the_budget_the_trail_is_thinned_beside_the_work(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe, running=True, budget_mib=1, synchronous="OFF") as bench:
            for number, draft in enumerate(scribe.trail(16_000)):
                bench.outbox.stage(draft)
                if number % 1000 == 0:
                    await bench.outbox.put(scribe.press())
            await bench.outbox.flush()
            assert HealthReason.STORE_OVER_BUDGET in bench.health.reasons()
            await until(lambda: HealthReason.STORE_OVER_BUDGET not in bench.health.reasons(), 30)
            backlog = bench.outbox.backlog()
            assert sum(waiting.bytes for waiting in backlog.streams.values()) <= 1 << 20
            rows = await bench.outbox.read(Stream.TRAIL, 0, **MANY)
            assert any(row.kind == Kind.GAP for row in rows)
            assert backlog.streams[Stream.EVENTS].records == 20

    run(scenario)


def test_progress_is_reported_and_nothing_is_done_idle(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, scribe.clock)
        await bench.outbox.open()
        reported = []
        task = asyncio.create_task(bench.outbox.run(lambda: reported.append(1)))
        await until(lambda: len(reported) >= 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bench.outbox.close()

    run(scenario)


def test_the_alert_of_upkeep_that_was_cancelled_is_still_told(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, scribe.clock)
        await bench.outbox.open()
        await bench.outbox.put(scribe.press())
        keeper, started, go = bench.outbox._store._keeper, threading.Event(), threading.Event()

        def maintain(now_utc_ms: int | None) -> None:
            started.set()
            go.wait(20)
            keeper._set_aside(StoreDamagedError("a test"), carry=True)
            keeper._open()

        keeper.maintain = maintain  # type: ignore[method-assign]  # upkeep that meets damage
        upkeep = asyncio.create_task(bench.outbox._maintain(lambda: None))
        await until(started.is_set)
        upkeep.cancel()
        await asyncio.gather(upkeep, return_exceptions=True)
        go.set()
        await bench.outbox.close()
        async with opened(tmp_path, scribe) as bench:
            assert await alert_codes(bench.outbox) == ["store_set_aside"]

    run(scenario)


def test_one_stamp_does_not_move_the_time_of_upkeep_forward(tmp_path: Path, scribe: Any) -> None:
    def stamped(utc_ms: int) -> Draft:
        draft = scribe.position()
        return Draft(Stamp(draft.stamp.boottime_ns, Utc(utc_ms, UtcSource.GNSS, 50)), draft.body)

    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            for _ in range(600):
                bench.outbox.stage(scribe.position())
            assert bench.outbox._now_utc_ms() is None, "nothing has agreed for ten minutes yet"
            bench.outbox.stage(scribe.position())
            newest = scribe.position().stamp.utc.unix_ms
            assert bench.outbox._now_utc_ms() == newest
            for _ in range(20):
                bench.outbox.stage(stamped(newest + 20 * 365 * 86_400_000))
                scribe.clock.now_ms += 60_000
                bench.outbox.stage(scribe.position())
            newest = scribe.position().stamp.utc.unix_ms
            assert bench.outbox._now_utc_ms() == newest
            bench.outbox.stage(stamped(newest))
            assert bench.outbox._now_utc_ms() <= newest + 1_000

    run(scenario)


def test_a_disk_that_takes_seconds_is_named_with_the_figure_until_it_was_quick_for_a_while(
    tmp_path: Path, scribe: Any
) -> None:
    """A flush of five seconds: the press waits, its lamp says not stored, and the reason is on the board."""
    loop = VirtualLoop()
    worker = StallingWorker()
    health = HealthBoard()
    seen: list[str] = []
    health.listen(lambda: seen.append(str(health.details())))

    async def scenario() -> None:
        outbox = Outbox(config.Store(directory=tmp_path), scribe.clock, worker, health)
        await outbox.open()
        upkeep = loop.create_task(outbox.run(lambda: None))
        worker.takes_s = 5.0
        press = outbox.put(scribe.press())
        await asyncio.sleep(3)
        assert health.reasons() == (HealthReason.STORE_SLOW,)
        assert press.fate == Fate.NOT_STORED
        await press
        assert str(press.fate) == str(Fate.STORED)
        assert "took 5.0 s" in health.details()[HealthReason.STORE_SLOW]
        worker.takes_s = 0.0
        await outbox.put(scribe.press())
        await asyncio.sleep(20)
        assert health.reasons() == (HealthReason.STORE_SLOW,), "not at the first quick one"
        await asyncio.sleep(20)
        assert health.reasons() == ()
        upkeep.cancel()
        await asyncio.gather(upkeep, return_exceptions=True)
        await outbox.close()

    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()


class StallingWorker(InlineWorker):
    """Does its work after a while."""

    takes_s = 0.0

    def submit(self, work: Callable[[], T], done: Done, *, urgent: bool = False) -> None:
        asyncio.get_running_loop().call_later(
            self.takes_s, partial(super().submit, work, done, urgent=urgent)
        )
