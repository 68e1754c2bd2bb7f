"""What `put`, `stage` and `flush` promise, and what is known after a restart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent import config
from agent.domain.health import HealthBoard
from agent.domain.record import Kind, Stream
from agent.outbox.outbox import Outbox
from agent.runtime.worker import Done
from agent.wire.body import unpack_body
from hil.sim.inline_worker import InlineWorker
from hil.sim.outbox_bench import (
    MANY,
    opened,
    records,
    run,
    until,
)

T = TypeVar("T")


def test_put_resolves_when_the_record_is_in_the_files(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            for expected in range(1, 6):
                assert await bench.outbox.put(scribe.press()) == expected
                assert records(tmp_path, "events") == expected
            assert bench.outbox.last_seq(Stream.EVENTS) == 5

    run(scenario)


def test_puts_at_once_keep_their_order(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            futures = [bench.outbox.put(scribe.press()) for _ in range(200)]
            assert await asyncio.gather(*futures) == list(range(1, 201))
            rows = await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            bodies = [unpack_body(Kind.STATUS, row.body) for row in rows]
            assert [getattr(body, "press_seq", None) for body in bodies] == list(range(1, 201))

    run(scenario)


def test_staged_trail_goes_with_the_next_press(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            for draft in scribe.trail(10):
                bench.outbox.stage(draft)
            assert bench.outbox.backlog().unsaved == 12
            assert records(tmp_path, "trail") == 0
            await bench.outbox.put(scribe.press())
            assert records(tmp_path, "trail") == 12
            assert bench.outbox.backlog().unsaved == 0

    run(scenario)


def test_staged_trail_is_committed_in_time(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe, running=True, group_commit_s=0.05) as bench:
            bench.outbox.stage(scribe.position())
            await until(lambda: bench.outbox.last_seq(Stream.TRAIL) == 1)

    run(scenario)


def test_flush_commits_what_is_staged(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.flush()
            for draft in scribe.trail(12_000):
                bench.outbox.stage(draft)
            await bench.outbox.flush()
            assert records(tmp_path, "trail") == bench.outbox.last_seq(Stream.TRAIL) == 14_800

    run(scenario)


def test_a_press_is_not_staged(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            with pytest.raises(ValueError, match="status"):
                bench.outbox.stage(scribe.press())

    run(scenario)


def test_a_trail_record_is_not_put(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            bench.outbox.stage(scribe.position())
            with pytest.raises(ValueError, match="telemetry"):
                bench.outbox.put(scribe.telemetry())

    run(scenario)


def test_listeners_are_told_after_the_commit(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            told: list[tuple[Any, ...]] = []
            bench.outbox.on_appended(lambda stream: told.append((stream, bench.outbox.last_seq(stream))))
            bench.outbox.on_confirmed(lambda stream, seq: told.append((stream, "confirmed", seq)))
            bench.outbox.stage(scribe.position())
            await bench.outbox.put(scribe.press())
            bench.outbox.confirm(Stream.EVENTS, 1)
            bench.outbox.confirm(Stream.EVENTS, 1)
            assert told == [(Stream.EVENTS, 1), (Stream.TRAIL, 1), (Stream.EVENTS, "confirmed", 1)]

    run(scenario)


def test_it_works_without_a_thread(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        outbox = Outbox(config.Store(directory=tmp_path), scribe.clock, InlineWorker(), HealthBoard())
        await outbox.open()
        before = threading.active_count()
        assert await outbox.put(scribe.press()) == 1
        outbox.stage(scribe.position())
        await outbox.flush()
        assert [row.seq for row in await outbox.read(Stream.TRAIL, 0, **MANY)] == [1]
        assert threading.active_count() == before
        await outbox.close()

    run(scenario)


def test_confirmations_survive_a_restart(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            journal = bench.outbox.journal
            for draft in scribe.trail(100):
                bench.outbox.stage(draft)
            await bench.outbox.flush()
            bench.outbox.confirm(Stream.TRAIL, 40)
            bench.outbox.confirm(Stream.TRAIL, 30)
            bench.outbox.confirm(Stream.EVENTS, 9)
            assert bench.outbox.confirmed(Stream.TRAIL) == 40
            assert bench.outbox.confirmed(Stream.EVENTS) == 0
        async with opened(tmp_path, scribe) as bench:
            assert bench.outbox.journal == journal
            assert bench.outbox.boot == 1
            assert bench.outbox.confirmed(Stream.TRAIL) == 40
            assert (await bench.outbox.read(Stream.TRAIL, 40, **MANY))[0].seq == 41

    run(scenario)


class _MeanwhileWorker(InlineWorker):
    """Counts what it does, and lets something happen while the disk is busy with it."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.done = 0
        self.meanwhile = meanwhile

    def submit(self, work: Callable[[], T], done: Done, *, urgent: bool = False) -> None:
        self.done += 1
        super().submit(work, done, urgent=urgent)
        self.meanwhile()


def test_confirmations_that_come_during_a_commit_wait_for_their_time(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        worker = _MeanwhileWorker(lambda: None)
        outbox = Outbox(config.Store(directory=tmp_path), scribe.clock, worker, HealthBoard())
        await outbox.open()
        for draft in scribe.trail(100):
            outbox.stage(draft)
        await outbox.flush()
        before = worker.done
        worker.meanwhile = lambda: outbox.confirm(Stream.TRAIL, outbox.confirmed(Stream.TRAIL) + 1)
        outbox.confirm(Stream.TRAIL, 1)
        await outbox.flush()
        for _ in range(50):
            await asyncio.sleep(0)
        assert worker.done == before + 1
        assert outbox.confirmed(Stream.TRAIL) == 2
        worker.meanwhile = lambda: None
        await outbox.close()
        async with opened(tmp_path, scribe) as bench:
            assert bench.outbox.confirmed(Stream.TRAIL) == 2

    run(scenario)


def test_the_backlog_is_told_without_asking_the_disk(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())
            for draft in scribe.trail(100):
                bench.outbox.stage(draft)
            await bench.outbox.flush()
            backlog = bench.outbox.backlog()
            assert backlog.records == 124
            trail = backlog.streams[Stream.TRAIL]
            assert trail.records == 123
            assert trail.bytes > 123 * 32
            rows = await bench.outbox.read(Stream.TRAIL, 0, max_records=1, max_bytes=1)
            assert (trail.oldest_boot, trail.oldest_boottime_ms, trail.oldest_utc_ms) == (
                1,
                rows[0].boottime_ms,
                rows[0].utc_ms,
            )
            assert backlog.stored_bytes >= 8192
            bench.outbox.confirm(Stream.TRAIL, 103)
            assert bench.outbox.backlog().streams[Stream.TRAIL].records == 20
            bench.outbox.confirm(Stream.TRAIL, 123)
            assert bench.outbox.backlog().streams[Stream.TRAIL].records == 0
            await bench.outbox.flush()
            assert bench.outbox.backlog().replay_records == 123

    run(scenario)


def test_the_current_status_is_known_after_a_restart(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe, replay_budget_mib=0) as bench:
            assert await bench.outbox.latest(Kind.STATUS) is None
            await bench.outbox.put(scribe.press("transporting"))
            await bench.outbox.put(scribe.alert())
            bench.outbox.confirm(Stream.EVENTS, 2)
            await bench.outbox.flush()
        scribe.clock.boot_id = "1" * 32
        async with opened(tmp_path, scribe, running=True, replay_budget_mib=0) as bench:
            await until(lambda: not bench.outbox.backlog().replay_records)
            row = await bench.outbox.latest(Kind.STATUS)
            assert row is not None
            assert (row.seq, row.boot, bench.outbox.boot) == (1, 1, 2)
            assert getattr(unpack_body(Kind.STATUS, row.body), "status", None) == "transporting"

    run(scenario)


def test_a_cancelled_caller_does_not_take_its_press_back(tmp_path: Path, scribe: Any) -> None:
    async def wait_for(future: Awaitable[int]) -> int:
        return await future

    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            task = asyncio.create_task(wait_for(bench.outbox.put(scribe.press())))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await bench.outbox.put(scribe.press()) == 2

    run(scenario)
