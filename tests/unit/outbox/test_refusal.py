"""A disk that refuses: named, waited for, and nothing lost or doubled."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Gap, Kind, Stream
from agent.outbox import writer as writer_module
from agent.outbox.fault import StoreFaultError
from agent.outbox.gaps import gap_of
from agent.outbox.outbox import Outbox
from agent.wire.body import unpack_body
from hil.sim.inline_worker import InlineWorker
from hil.sim.outbox_bench import (
    MANY,
    Bench,
    DoubtfulCommit,
    file_size_limit,
    fill_up,
    opened,
    run,
    until,
)


def test_presses_wait_in_order_while_the_disk_refuses(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())
            with file_size_limit(1):
                waiting = [bench.outbox.put(scribe.press()) for _ in range(3)]
                await until(lambda: bench.health.reasons() != ())
                waiting += [bench.outbox.put(scribe.emergency())]
                bench.outbox.stage(scribe.position())
                await bench.outbox.flush()
                await asyncio.sleep(0.3)
                assert not any(future.done() for future in waiting)
                assert bench.outbox.backlog().unsaved == 5
                # Reading goes on where the files can be read.
            assert await asyncio.wait_for(asyncio.gather(*waiting), 20) == [2, 3, 4, 5]
            await bench.outbox.flush()
            assert bench.outbox.last_seq(Stream.TRAIL) == 1
            await until(lambda: bench.health.reasons() == ())
            rows = await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            assert [Kind(row.kind) for row in rows] == [Kind.STATUS] * 4 + [Kind.EMERGENCY]

    run(scenario)


def test_a_full_store_is_named_and_recovers_on_the_same_connection(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())
            connection = bench.store.file.connection
            await bench.worker.run(lambda: connection.execute("PRAGMA max_page_count = 1").fetchall())
            for _ in range(600):
                bench.outbox.stage(scribe.position())
            press = bench.outbox.put(scribe.press())
            await until(lambda: HealthReason.STORE_FULL in bench.health.reasons())
            assert await asyncio.wait_for(press, 20) == 2, "there is room for the press alone"
            assert bench.outbox.last_seq(Stream.TRAIL) == 0
            await bench.worker.run(lambda: connection.execute("PRAGMA max_page_count = 99999").fetchall())
            await until(lambda: bench.outbox.last_seq(Stream.TRAIL) == 600)
            await until(lambda: bench.health.reasons() == ())
            assert bench.store.file.connection is connection

    run(scenario)


def test_trail_beyond_what_memory_may_hold_is_told_as_a_gap(
    tmp_path: Path, scribe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "STAGED_MAX", 100)
    monkeypatch.setattr(writer_module, "BATCH_MAX", 50)

    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            with file_size_limit(1):
                bench.outbox.put(scribe.press())
                await until(lambda: bench.health.reasons() != ())
                for _ in range(130):
                    bench.outbox.stage(scribe.position())
                newest = scribe.telemetry()
                bench.outbox.stage(newest)
                assert bench.outbox.backlog().unsaved == 101
            await until(lambda: bench.outbox.backlog().unsaved == 0)
            rows = await bench.outbox.read(Stream.TRAIL, 0, **MANY)
            assert [row.seq for row in rows] == list(range(1, 102))
            assert gap_of(rows[0]) == Gap(1, "evicted", (("position", 31),))
            assert unpack_body(Kind.TELEMETRY, rows[-1].body) == newest.body

    run(scenario)


def test_opening_waits_for_no_disk(tmp_path: Path, scribe: Any) -> None:
    blocker = tmp_path / "data"
    blocker.write_text("a file where the folder should be")

    async def scenario() -> None:
        async with opened(blocker, scribe) as bench:
            assert (bench.outbox.journal, bench.outbox.boot) == (0, 0)
            assert bench.health.reasons() == (HealthReason.STORE_IO_ERROR,)
            press = bench.outbox.put(scribe.press())
            await asyncio.sleep(0.05)
            assert not press.done()
            blocker.unlink()
            assert await asyncio.wait_for(press, 20) == 1
            assert bench.outbox.journal != 0
            assert bench.outbox.boot == 1
            await until(lambda: bench.health.reasons() == ())

    run(scenario)


def test_a_commit_in_doubt_gives_each_press_once(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())
            bench.outbox.stage(scribe.position())
            bench.store.file._held = DoubtfulCommit(bench.store.file.connection, done=True)
            futures = [bench.outbox.put(scribe.press()), bench.outbox.put(scribe.emergency())]
            assert await asyncio.wait_for(asyncio.gather(*futures), 20) == [2, 3]
            assert HealthReason.STORE_IO_ERROR in bench.seen_reasons
            await until(lambda: bench.health.reasons() == ())
            await bench.outbox.flush()
            assert [row.seq for row in await bench.outbox.read(Stream.EVENTS, 0, **MANY)] == [1, 2, 3]
            assert [row.seq for row in await bench.outbox.read(Stream.TRAIL, 0, **MANY)] == [1]

    run(scenario)


def test_the_writer_recovers_also_when_more_is_staged_meanwhile(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        health = HealthBoard()
        outbox = Outbox(config.Store(directory=tmp_path), scribe.clock, InlineWorker(), health)
        await outbox.open()
        keeper, commits = outbox._store._keeper, 0
        real = keeper.append

        def append(*arguments: Any, **settings: Any) -> list[int]:
            nonlocal commits
            commits += 1
            if commits == 1:
                raise StoreFaultError(HealthReason.STORE_IO_ERROR, "refused once")
            if commits < 6:
                outbox.stage(scribe.position())
            return real(*arguments, **settings)

        keeper.append = append  # type: ignore[method-assign]  # the disk, at its narrowest place
        for _ in range(3):
            outbox.stage(scribe.position())
        await outbox.flush()
        assert health.reasons() == (HealthReason.STORE_IO_ERROR,)
        await until(lambda: outbox.backlog().unsaved == 0 and health.reasons() == ())
        await outbox.close()

    run(scenario)


def test_an_unexpected_error_is_told_to_the_unit_not_to_the_next_press(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            keeper, failures = bench.outbox._store._keeper, 2
            real = keeper.append

            def append(*arguments: Any, **settings: Any) -> list[int]:
                nonlocal failures
                if failures:
                    failures -= 1
                    raise LookupError("a mistake")
                return real(*arguments, **settings)

            keeper.append = append  # type: ignore[method-assign]  # any mistake of ours
            first = bench.outbox.put(scribe.press())
            await until(lambda: failures == 1)
            await until(lambda: bench.outbox._writer._failure is not None)
            second = bench.outbox.put(scribe.press())
            for _ in range(4):
                # The supervisor starts the unit again, and with it what the writer still holds.
                upkeep = asyncio.create_task(bench.outbox.run(lambda: None))
                waiting: set[asyncio.Future[Any]] = {upkeep, first}
                await asyncio.wait(waiting, timeout=20, return_when=asyncio.FIRST_COMPLETED)
                if first.done():
                    break
                with pytest.raises(LookupError):
                    await upkeep
            assert [await asyncio.wait_for(press, 20) for press in (first, second)] == [1, 2]
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)

    run(scenario)


def test_a_really_full_disk(small_disk: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(small_disk, scribe, running=True, group_commit_s=0.02) as bench:
            await bench.outbox.put(scribe.press())
            filler = small_disk / "filler"
            fill_up(filler)
            drafts = list(scribe.trail(12_000))
            for number, draft in enumerate(drafts):
                bench.outbox.stage(draft)
                if number % 200 == 0:
                    await asyncio.sleep(0.01)
            await until(lambda: HealthReason.STORE_FULL in bench.health.reasons())
            press = bench.outbox.put(scribe.press())
            await asyncio.wait({press}, timeout=3)
            filler.unlink()
            assert await asyncio.wait_for(press, 20) == 2
            await until(lambda: bench.outbox.backlog().unsaved == 0)
            await until(lambda: bench.health.reasons() == ())
            assert bench.outbox.last_seq(Stream.TRAIL) == len(drafts)

    run(scenario)


def test_a_disk_that_was_full_at_the_start_stays_full_by_name_once_a_press_waits(
    small_disk: Path, scribe: Any
) -> None:
    async def scenario() -> None:
        filler = small_disk / "filler"
        fill_up(filler)
        async with opened(small_disk, scribe) as bench:
            told: set[HealthReason] = set()
            bench.health.listen(lambda: told.update(bench.health.reasons()))
            press = bench.outbox.put(scribe.press())
            await asyncio.wait({press}, timeout=3)
            assert bench.health.reasons() == (HealthReason.STORE_FULL,)
            assert HealthReason.STORE_IO_ERROR not in told
            filler.unlink()
            assert await asyncio.wait_for(press, 20) == 1
            await until(lambda: bench.health.reasons() == ())

    run(scenario)


def test_a_disk_that_turns_read_only(small_disk: Path, scribe: Any) -> None:
    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(small_disk)], check=True, capture_output=True)

    async def scenario() -> None:
        bench = Bench(small_disk, scribe.clock)
        await bench.outbox.open()
        await bench.outbox.put(scribe.press())
        await bench.outbox.close()
        remount("ro")
        async with opened(small_disk, scribe) as bench:
            assert bench.health.reasons() == (HealthReason.STORE_READ_ONLY,)
            press = bench.outbox.put(scribe.press())
            await asyncio.sleep(0.3)
            assert not press.done()
            remount("rw")
            assert await asyncio.wait_for(press, 20) == 2
            await until(lambda: bench.health.reasons() == ())

    run(scenario)
