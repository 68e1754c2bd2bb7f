"""A store that is damaged or not ours: set aside, told, and the work goes on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Alert, Kind, Stream
from agent.outbox import database
from agent.outbox.fault import StoreDamagedError, StoreFaultError
from agent.outbox.outbox import Outbox
from agent.wire.body import unpack_body
from hil.sim.hurt_disk import HurtWorker
from hil.sim.outbox_bench import (
    MANY,
    alert_codes,
    fill_up,
    opened,
    records,
    run,
    until,
)


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


@pytest.mark.parametrize("column", ["waiting_bytes", "replay_bytes"])
def test_a_counter_that_can_not_grow_any_more_ends_no_unit_and_takes_no_press(
    tmp_path: Path, scribe: Any, column: str
) -> None:
    async def before() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())

    async def after() -> None:
        async with opened(tmp_path, scribe) as bench:
            assert await asyncio.wait_for(bench.outbox.put(scribe.press()), 20) > 1
            assert "store_set_aside" in await alert_codes(bench.outbox)

    run(before)
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox.db")) as connection, connection:
        connection.execute(f"UPDATE stream SET {column} = {(1 << 63) - 1}")  # of this test
    run(after)


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
            journal, keeper = bench.outbox.journal, bench.outbox._store._keeper
            with monkeypatch.context() as refusing:
                refusing.setattr(Path, "rename", rename)
                with pytest.raises(StoreFaultError):
                    await bench.worker.run(lambda: keeper._set_aside(StoreDamagedError("a test"), carry=True))
            assert await asyncio.wait_for(bench.outbox.put(scribe.press()), 20) > 3
            assert bench.outbox.journal == journal
            rows = await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            assert [row.seq for row in rows if row.kind == Kind.STATUS][:3] == [1, 2, 3]

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


def test_a_flipped_bit_that_forbids_writing_is_damage_and_no_refusal(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())
            journal = bench.outbox.journal
        with (tmp_path / database.FILE_NAME).open("r+b") as file:
            file.seek(18)
            file.write(b"\x42")
        async with opened(tmp_path, scribe) as bench:
            assert bench.health.reasons() == ()
            assert await asyncio.wait_for(bench.outbox.put(scribe.press()), 20) > 1
            assert bench.outbox.journal == journal
            rows = await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            assert sum(row.kind == Kind.STATUS for row in rows) == 2
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


def hurt_outbox(folder: Path, scribe: Any) -> tuple[Outbox, HurtWorker, HealthBoard]:
    worker, health = HurtWorker(folder), HealthBoard()
    return Outbox(config.Store(directory=folder), scribe.clock, worker, health), worker, health


async def with_cold_cache(outbox: Outbox) -> None:
    """Nothing of the store is in memory any more: the next read is one of the disk."""
    await outbox._store.do(lambda k: k._store.file.connection.execute("PRAGMA shrink_memory").fetchall())


def test_what_can_not_be_read_is_named_and_given_up_after_some_tries(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        outbox, worker, health = hurt_outbox(tmp_path, scribe)
        await outbox.open()
        for _ in range(3):
            await outbox.put(scribe.press())
        journal = outbox.journal
        worker.trouble = "unreadable"
        for _ in range(3):
            await with_cold_cache(outbox)
            with pytest.raises(StoreFaultError):
                await outbox.read(Stream.EVENTS, 0, **MANY)
            assert HealthReason.STORE_IO_ERROR in health.reasons()
        assert outbox.set_asides == 0, "three tries within a second may be a bad moment"
        scribe.clock.now_ms += 3_000
        await with_cold_cache(outbox)
        rows = await outbox.read(Stream.EVENTS, 0, **MANY)
        assert [row.seq for row in rows if row.kind == Kind.STATUS] == [1, 2, 3]
        worker.trouble = None
        assert outbox.set_asides == 1
        assert outbox.journal == journal
        assert health.reasons() == ()
        assert await alert_codes(outbox) == ["store_set_aside"]
        await outbox.close()

    run(scenario)


def test_a_bad_moment_costs_nothing_but_a_try(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        outbox, worker, health = hurt_outbox(tmp_path, scribe)
        await outbox.open()
        await outbox.put(scribe.press())
        for _ in range(6):
            worker.trouble = "unreadable"
            await with_cold_cache(outbox)
            with pytest.raises(StoreFaultError):
                await outbox.read(Stream.EVENTS, 0, **MANY)
            worker.trouble = None
            scribe.clock.now_ms += 10_000
            assert len(await outbox.read(Stream.EVENTS, 0, **MANY)) == 1
            assert health.reasons() == ()
        assert outbox.set_asides == 0
        await outbox.close()

    run(scenario)


class UnreadableConnection:
    """A connection on a file with a dead sector: whatever asks for records meets it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql.startswith("SELECT seq"):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
            error.sqlite_errorname = "SQLITE_IOERR_READ"
            raise error
        return self.connection.execute(sql, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


def test_a_dead_sector_at_the_start_is_named_and_then_salvaged_around(
    tmp_path: Path, scribe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())
            journal = bench.outbox.journal
        real = database.connect

        def connect(path: Path, synchronous: Any) -> Any:
            # The store as it lies there; what a salvage makes lies on other sectors.
            sound = list(tmp_path.glob("outbox-damaged-*")) or path.name != database.FILE_NAME
            return real(path, synchronous) if sound else UnreadableConnection(real(path, synchronous))

        monkeypatch.setattr(database, "connect", connect)
        async with opened(tmp_path, scribe) as bench:
            assert bench.health.reasons() == (HealthReason.STORE_IO_ERROR,)
            press = bench.outbox.put(scribe.press())
            while not press.done():
                scribe.clock.now_ms += 1_000
                await asyncio.sleep(0.05)
            await until(lambda: bench.health.reasons() == ())
            assert bench.outbox.journal == journal
            rows = await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            assert [row.seq for row in rows if row.kind == Kind.STATUS] == [1, press.result()]
            assert await alert_codes(bench.outbox) == ["store_set_aside"]

    run(scenario)
