"""A store that is deleted, replaced or gone while it is in use."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.domain.record import Kind, Stream
from agent.outbox.gaps import gap_of
from hil.sim.outbox_bench import (
    MANY,
    DoubtfulCommit,
    alert_codes,
    opened,
    run,
    until,
)


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
            assert bench.outbox._store.report.confirmed_seq(Stream.EVENTS) == 2

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
