"""The end: what the disk takes is stored, and nobody waits for what it does not."""

from __future__ import annotations

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.domain.health import HealthReason
from agent.domain.record import Stream
from agent.outbox.fault import OutboxClosedError, StoreDamagedError
from hil.sim.outbox_bench import (
    Bench,
    DoubtfulCommit,
    file_size_limit,
    opened,
    records,
    run,
    until,
)


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
