"""The facade: what `put` promises, grouping, a disk that refuses and comes back, upkeep, closing."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Alert, Draft, Gap, Kind, Stream
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.outbox import outbox as outbox_module
from agent.outbox import writer as writer_module
from agent.outbox.fault import OutboxClosedError, StoreDamagedError, StoreFaultError
from agent.outbox.gaps import gap_of
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from agent.wire.body import unpack_body

T = TypeVar("T")
MANY = {"max_records": 100_000, "max_bytes": 1 << 30}


class InlineWorker:
    """Work done where it is asked for, as in simulated time."""

    async def run(self, work: Callable[[], T], *, urgent: bool = False) -> T:
        return work()

    async def close(self) -> None:
        """Nothing to release."""


class Bench:
    """An outbox with what stands around it."""

    def __init__(self, folder: Path, clock: Any, **settings: Any) -> None:
        self.health = HealthBoard()
        self.seen_reasons: set[str] = set()
        self.health.listen(lambda: self.seen_reasons.update(self.health.reasons()))
        self.worker = ThreadWorker()
        self.outbox = Outbox(config.Store(directory=folder, **settings), clock, self.worker, self.health)

    @property
    def store(self) -> Any:
        return self.outbox._keeper._store


@asynccontextmanager
async def opened(
    folder: Path, scribe: Any, *, running: bool = False, **settings: Any
) -> AsyncIterator[Bench]:
    bench = Bench(folder, scribe.clock, **settings)
    await bench.outbox.open()
    running_task = asyncio.create_task(bench.outbox.run(lambda: None)) if running else None
    try:
        yield bench
    finally:
        if running_task is not None:
            running_task.cancel()
            await asyncio.gather(running_task, return_exceptions=True)
        await bench.outbox.close()


async def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await asyncio.sleep(0.005)


def run(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(scenario())


def records(folder: Path, table: str) -> int:
    """What a reader of the files finds, without the outbox's help."""
    import sqlite3

    with tempfile.TemporaryDirectory() as copy:
        for path in folder.glob("outbox.db*"):
            shutil.copy(path, copy)
        connection = sqlite3.connect(Path(copy) / "outbox.db")
        try:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        finally:
            connection.close()


# ---------------------------------------------------------------------- storing


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


# ---------------------------------------------------------------------- delivering


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


# ---------------------------------------------------------------------- a disk that refuses


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Writes beyond `limit` bytes of a file fail, for real, with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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


@pytest.mark.parametrize("instead", ["nothing", "an earlier state", "something else", "no folder"])
def test_a_store_that_is_deleted_or_replaced_while_in_use_is_carried_over(
    tmp_path: Path, scribe: Any, instead: str
) -> None:
    folder, earlier = tmp_path / "data", tmp_path / "earlier"

    async def scenario() -> None:
        async with opened(folder, scribe) as bench:
            for _ in range(4):
                await bench.outbox.put(scribe.press())
            shutil.copytree(folder, earlier)
            bench.outbox.stage(scribe.position())
            await bench.outbox.put(scribe.press())
            bench.outbox.confirm(Stream.EVENTS, 2)
            journal = bench.outbox.journal
            shutil.rmtree(folder)
            if instead == "an earlier state":
                shutil.copytree(earlier, folder)
            elif instead == "something else":
                folder.mkdir()
                (folder / "outbox.db").write_text("not a database")
            elif instead == "nothing":
                folder.mkdir()
            assert await asyncio.wait_for(bench.outbox.put(scribe.press()), 20) == 6
            await bench.outbox.flush()
            assert await alert_codes(bench.outbox) == ["store_moved"]
            assert bench.outbox.journal == journal
        async with opened(folder, scribe) as bench:
            assert bench.outbox.journal == journal
            assert bench.outbox.confirmed(Stream.EVENTS) == 2
            rows = await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            assert [row.seq for row in rows if row.kind == Kind.STATUS] == [1, 2, 3, 4, 5, 6]
            assert [row.seq for row in await bench.outbox.read(Stream.TRAIL, 0, **MANY)] == [1]
            assert bench.outbox.set_asides == 0
        replaced = instead in ("an earlier state", "something else")
        assert len(list(folder.glob("outbox-foreign-*.db"))) == replaced

    run(scenario)


class DoubtfulCommit:
    """A connection whose COMMITs are carried out or lost, and reported as failed flushes."""

    def __init__(
        self, connection: sqlite3.Connection, *, done: bool, then: Callable[[], None] = lambda: None
    ) -> None:
        self.connection = connection
        self.done = done
        self.then = then

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql != "COMMIT":
            return self.connection.execute(sql, *arguments)
        self.connection.execute("COMMIT" if self.done else "ROLLBACK")
        self.then()
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


def test_a_store_that_is_deleted_before_an_orderly_stop_is_found_by_the_next_start(
    tmp_path: Path, scribe: Any
) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            assert await bench.outbox.put(scribe.press()) == 1
            for path in tmp_path.glob("outbox*"):
                path.unlink()
        async with opened(tmp_path, scribe) as bench:
            assert bench.outbox.last_seq(Stream.EVENTS) == 1

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


def test_a_disk_that_does_not_answer_is_named(
    tmp_path: Path, scribe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_STALL_TOLD_AFTER_S", 0.05)
    monkeypatch.setattr(outbox_module, "_TICK_S", 0.02)

    async def scenario() -> None:
        async with opened(tmp_path, scribe, running=True) as bench:
            started, go = threading.Event(), threading.Event()

            def hold() -> bool:
                started.set()
                return go.wait(20)

            stuck = asyncio.create_task(bench.outbox._work(hold))
            await until(started.is_set)
            press = bench.outbox.put(scribe.press())
            await until(lambda: HealthReason.STORE_IO_ERROR in bench.health.reasons())
            assert not press.done()
            go.set()
            assert await press == 1
            await stuck
            await until(lambda: bench.health.reasons() == ())

    run(scenario)


async def alert_codes(outbox: Outbox) -> list[str]:
    rows = await outbox.read(Stream.EVENTS, 0, **MANY)
    bodies = [unpack_body(Kind.ALERT, row.body) for row in rows if row.kind == Kind.ALERT]
    return [body.code for body in bodies if isinstance(body, Alert)]


def test_another_store_in_its_place_is_delivered_from_its_own_beginning(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            for _ in range(50):
                await bench.outbox.put(scribe.press())
            bench.outbox.confirm(Stream.EVENTS, 50)
            await bench.outbox.flush()
            journal = bench.outbox.journal
            await bench.worker.run(bench.store.file.abandon)
            for path in tmp_path.glob("outbox*"):
                path.unlink()
            seqs = [await asyncio.wait_for(bench.outbox.put(scribe.press()), 20) for _ in range(3)]
            await bench.outbox.flush()
            assert bench.outbox.journal not in (0, journal)
            assert seqs == [1, 3, 4], "the second is the alert"
            assert bench.outbox.confirmed(Stream.EVENTS) == 0
            assert bench.outbox.backlog().streams[Stream.EVENTS].records == 4
            assert await alert_codes(bench.outbox) == ["store_replaced"]
            bench.outbox.confirm(Stream.EVENTS, 2)
            await bench.outbox.flush()
            assert bench.outbox._report.confirmed_seq(Stream.EVENTS) == 2

    run(scenario)


def test_an_earlier_state_in_its_place_gives_no_number_twice(tmp_path: Path, scribe: Any) -> None:
    folder, earlier = tmp_path / "data", tmp_path / "earlier"

    async def scenario() -> None:
        async with opened(folder, scribe) as bench:
            for _ in range(5):
                await bench.outbox.put(scribe.press())
            await bench.worker.run(bench.store.file.checkpoint)
            shutil.copytree(folder, earlier)
            for _ in range(5):
                await bench.outbox.put(scribe.press())
            journal = bench.outbox.journal
            await bench.worker.run(bench.store.file.abandon)
            shutil.rmtree(folder)
            shutil.copytree(earlier, folder)
            seq = await asyncio.wait_for(bench.outbox.put(scribe.press()), 20)
            assert seq > 10
            assert bench.outbox.journal == journal
            rows = await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            assert [row.seq for row in rows[:6]] == [1, 2, 3, 4, 5, 6]
            assert gap_of(rows[5]).reason == "damaged"
            assert gap_of(rows[5]).last_seq >= 10
            await until(lambda: bench.outbox.backlog().unsaved == 0)
            assert await alert_codes(bench.outbox) == ["store_set_aside"]

    run(scenario)


@pytest.mark.parametrize("done", [True, False])
def test_a_store_that_is_deleted_with_a_commit_in_doubt_gives_each_press_once(
    tmp_path: Path, scribe: Any, *, done: bool
) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            assert await bench.outbox.put(scribe.press()) == 1

            def delete() -> None:
                for path in tmp_path.glob("outbox*"):
                    path.unlink()

            connection = bench.store.file.connection
            bench.store.file._held = DoubtfulCommit(connection, done=done, then=delete)
            assert await asyncio.wait_for(bench.outbox.put(scribe.press()), 20) == 2
            await bench.outbox.flush()
            rows = await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            assert [row.kind for row in rows] == [Kind.STATUS, Kind.STATUS, Kind.ALERT]

    run(scenario)


def test_the_writer_recovers_also_when_more_is_staged_meanwhile(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        health = HealthBoard()
        outbox = Outbox(config.Store(directory=tmp_path), scribe.clock, InlineWorker(), health)
        await outbox.open()
        keeper, commits = outbox._keeper, 0
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
            keeper, failures = bench.outbox._keeper, 2
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
            await until(bench.outbox._writer._task.done)  # type: ignore[union-attr]  # it was started
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


def _mounted(size: str, folder: Path) -> bool:
    folder.mkdir()
    if os.geteuid() != 0:
        return False
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "outbox-test", str(folder)],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MiB; skips where it can not be mounted."""
    folder = tmp_path / "disk"
    if not _mounted("2m", folder):
        pytest.skip("a file system can not be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(path: Path) -> None:
    """Take all the space there is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(descriptor, bytes(4096)):
            pass
    except OSError:
        pass
    finally:
        os.close(descriptor)


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


# ---------------------------------------------------------------------- upkeep, damage, closing


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


def test_a_damaged_store_is_told_to_dispatch(tmp_path: Path, scribe: Any) -> None:
    (tmp_path / "outbox.db").write_bytes(b"ruin" * 4096)

    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())
            rows = await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            alerts = [unpack_body(Kind.ALERT, row.body) for row in rows if row.kind == Kind.ALERT]
            assert len(alerts) == 1
            assert isinstance(alerts[0], Alert)
            assert alerts[0].code == "store_set_aside"
            assert len(list(tmp_path.glob("outbox-damaged-*.db"))) == 1

    run(scenario)


def test_the_alert_of_upkeep_that_was_cancelled_is_still_told(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, scribe.clock)
        await bench.outbox.open()
        await bench.outbox.put(scribe.press())
        keeper, started, go = bench.outbox._keeper, threading.Event(), threading.Event()

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


def test_what_can_not_be_read_for_a_report_takes_no_commit_back(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:

            def oldest_waiting(stream: Stream) -> None:
                raise StoreDamagedError(f"a page of {stream}")

            bench.store.oldest_waiting = oldest_waiting
            assert await asyncio.wait_for(bench.outbox.put(scribe.press()), 20) == 1
            assert records(tmp_path, "events") == 1

    run(scenario)


def test_a_salvage_refused_between_its_renames_is_finished_by_recovering(
    tmp_path: Path, scribe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name == "outbox-salvage.db":
            raise OSError(errno.EIO, "the card has gone")
        return real(path, target)

    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            assert [await bench.outbox.put(scribe.press()) for _ in range(3)] == [1, 2, 3]
            journal, keeper = bench.outbox.journal, bench.outbox._keeper
            with monkeypatch.context() as refusing:
                refusing.setattr(Path, "rename", rename)
                with pytest.raises(StoreFaultError):
                    await bench.worker.run(lambda: keeper._set_aside(StoreDamagedError("a test"), carry=True))
            assert await asyncio.wait_for(bench.outbox.put(scribe.press()), 20) > 3
            assert bench.outbox.journal == journal
            rows = await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            assert [row.seq for row in rows if row.kind == Kind.STATUS][:3] == [1, 2, 3]

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


@pytest.mark.parametrize(
    ("name", "statements"),
    [
        ("newer", ("CREATE TABLE trip (trip INTEGER)", "PRAGMA user_version = 7")),
        ("foreign", ("DROP TABLE trail", "PRAGMA application_id = 7")),
    ],
)
def test_a_store_that_is_not_ours_is_set_aside_untouched_and_the_agent_goes_on(
    tmp_path: Path, scribe: Any, name: str, statements: tuple[str, ...]
) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())
            journal = bench.outbox.journal
        connection = sqlite3.connect(tmp_path / "outbox.db")
        for statement in statements:
            connection.execute(statement)
        connection.close()
        before = (tmp_path / "outbox.db").read_bytes()
        async with opened(tmp_path, scribe) as bench:
            assert await bench.outbox.put(scribe.press()) > 1, "after the alert"
            assert bench.outbox.journal not in (0, journal)
            assert await alert_codes(bench.outbox) == ["store_set_aside"]
        (aside,) = tmp_path.glob(f"outbox-{name}-*.db")
        assert aside.read_bytes() == before
        async with opened(tmp_path, scribe) as bench:
            assert bench.outbox.set_asides == 0

    run(scenario)


def test_a_flipped_bit_in_the_version_costs_no_record(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())
            journal = bench.outbox.journal
        connection = sqlite3.connect(tmp_path / "outbox.db")
        connection.execute("PRAGMA user_version = 65537")
        connection.close()
        async with opened(tmp_path, scribe) as bench:
            assert bench.outbox.journal == journal
            row = await bench.outbox.latest(Kind.STATUS)
            assert row is not None
            assert row.seq == 1
            assert await alert_codes(bench.outbox) == ["store_set_aside"]

    run(scenario)


def test_a_folder_in_the_place_of_the_store_is_set_aside(tmp_path: Path, scribe: Any) -> None:
    (tmp_path / "outbox.db").mkdir()

    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            assert await bench.outbox.put(scribe.press()) > 1
            assert await alert_codes(bench.outbox) == ["store_set_aside"]

    run(scenario)


def test_a_damaged_store_without_room_to_mend_it_is_named_and_mended_once_there_is_room(
    small_disk: Path, scribe: Any
) -> None:
    async def scenario() -> None:
        async with opened(small_disk, scribe) as bench:
            for _ in range(3000):
                bench.outbox.stage(scribe.position())
            await bench.outbox.put(scribe.press())
            journal = bench.outbox.journal
        with (small_disk / "outbox.db").open("r+b") as file:
            file.seek(8 * 4096)
            file.write(os.urandom(4096))
        filler = small_disk / "filler"
        fill_up(filler)
        async with opened(small_disk, scribe) as bench:
            assert bench.health.reasons() == (HealthReason.STORE_FULL,)
            press = bench.outbox.put(scribe.press())
            await until(lambda: bench.outbox.backlog().unsaved == 1)
            assert not press.done()
            filler.unlink()
            assert await asyncio.wait_for(press, 20) > 1
            await until(lambda: bench.health.reasons() == ())
            assert bench.outbox.journal == journal
            assert await alert_codes(bench.outbox) == ["store_set_aside"]

    run(scenario)


def test_close_stores_what_it_can_and_may_be_repeated(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, scribe.clock)
        await bench.outbox.open()
        press = bench.outbox.put(scribe.press())
        bench.outbox.stage(scribe.position())
        await bench.outbox.close()
        await bench.outbox.close()
        assert press.result() == 1
        with pytest.raises(OutboxClosedError):
            bench.outbox.put(scribe.press())
        with pytest.raises(OutboxClosedError):
            bench.outbox.stage(scribe.position())
        assert records(tmp_path, "trail") == 1
        assert not (tmp_path / "outbox.db-wal").exists()

    run(scenario)


def test_close_while_the_disk_refuses_ends_and_says_so(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        bench = Bench(tmp_path, scribe.clock)
        await bench.outbox.open()
        with file_size_limit(1):
            press = bench.outbox.put(scribe.press())
            await until(lambda: bench.health.reasons() != ())
            await asyncio.wait_for(bench.outbox.close(), 10)
        with pytest.raises(OutboxClosedError):
            press.result()

    run(scenario)


def test_close_without_open(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        await Bench(tmp_path / "none", scribe.clock).outbox.close()

    run(scenario)
    assert not (tmp_path / "none").exists()


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


def test_a_flush_whose_commit_is_in_doubt_returns_and_so_does_closing(
    tmp_path: Path, scribe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            bench.outbox.stage(scribe.position())
            bench.store.file._held = DoubtfulCommit(bench.store.file.connection, done=False)

            def refuse(_: Path) -> None:
                raise OSError(errno.EIO, "no")

            monkeypatch.setattr("agent.outbox.database.probe", refuse)
            async with asyncio.timeout(10):
                await bench.outbox.flush()
            assert bench.health.reasons() == (HealthReason.STORE_IO_ERROR,)
            assert bench.outbox.backlog().unsaved == 1
            async with asyncio.timeout(10):
                await bench.outbox.close()

    run(scenario)


def test_damage_met_in_closing_keeps_nothing_from_ending(
    tmp_path: Path, scribe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            assert await bench.outbox.put(scribe.press()) == 1

            def found_damaged() -> None:
                bench.store.file.abandon()
                raise StoreDamagedError("a garbled page")

            monkeypatch.setattr(bench.store, "close", found_damaged)
            await bench.outbox.close()
            assert bench.health.reasons() == (HealthReason.STORE_IO_ERROR,)
            assert not [thread for thread in threading.enumerate() if thread.name == "outbox"]
        async with opened(tmp_path, scribe) as again:
            assert again.outbox.last_seq(Stream.EVENTS) == 1

    run(scenario)
