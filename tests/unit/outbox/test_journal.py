"""A new journal on demand: what waits goes out in it, and nothing twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Alert, Kind, Stream
from agent.outbox.fault import StoreFaultError
from agent.outbox.gaps import gap_of
from agent.outbox.outbox import Outbox
from agent.wire.body import unpack_body
from hil.sim.hurt_disk import HurtWorker

MANY = {"max_records": 100_000, "max_bytes": 1 << 30}


def outbox_on(folder: Path, scribe: Any) -> tuple[Outbox, HurtWorker, HealthBoard]:
    worker, health = HurtWorker(folder), HealthBoard()
    return Outbox(config.Store(directory=folder), scribe.clock, worker, health), worker, health


async def filled(outbox: Outbox, scribe: Any) -> None:
    """Ten presses and ten positions, six of each delivered."""
    await outbox.open()
    for _ in range(10):
        outbox.stage(scribe.position())
        await outbox.put(scribe.press())
    for stream in Stream:
        outbox.confirm(stream, 6)


def test_what_waits_goes_on_in_the_new_journal_under_its_numbers(tmp_path: Path, scribe: Any) -> None:
    async def main() -> None:
        outbox, _, _ = outbox_on(tmp_path, scribe)
        await filled(outbox, scribe)
        journal, before = outbox.journal, await outbox.read(Stream.EVENTS, 6, **MANY)
        await outbox.begin_new_journal("the broker knows a newer one")
        assert outbox.journal not in (0, journal)
        rows = await outbox.read(Stream.EVENTS, outbox.confirmed(Stream.EVENTS), **MANY)
        assert rows[:4] == before
        assert [row.seq for row in rows] == [7, 8, 9, 10, 11]
        assert unpack_body(Kind.ALERT, rows[-1].body) == Alert(
            "journal_begun", "the broker knows a newer one"
        )
        assert [row.seq for row in await outbox.read(Stream.TRAIL, 6, **MANY)] == [7, 8, 9, 10]
        # A reader of the new journal that asks for what came before it gets nothing a second time.
        old = await outbox.read(Stream.EVENTS, 0, **MANY, last_seq=6)
        assert [(row.seq, gap_of(row).last_seq, gap_of(row).reason) for row in old] == [(1, 6, "trimmed")]
        assert await outbox.put(scribe.press()) == 12
        begun = outbox.journal
        await outbox.close()
        again, _, _ = outbox_on(tmp_path, scribe)
        await again.open()
        assert again.journal == begun
        assert again.confirmed(Stream.EVENTS) == 6
        row = await again.latest(Kind.STATUS)
        assert row is not None
        assert row.seq == 12
        await again.close()

    asyncio.run(main())


def test_what_readers_may_have_taken_for_repeats_goes_out_again(tmp_path: Path, scribe: Any) -> None:
    async def main() -> None:
        outbox, _, _ = outbox_on(tmp_path, scribe)
        await filled(outbox, scribe)
        await outbox.begin_new_journal("twins", resend_after={Stream.EVENTS: 3})
        assert outbox.confirmed(Stream.EVENTS) == 3
        assert [row.seq for row in await outbox.read(Stream.EVENTS, 3, **MANY)] == [4, 5, 6, 7, 8, 9, 10, 11]
        assert outbox.confirmed(Stream.TRAIL) == 6
        assert outbox.backlog().streams[Stream.EVENTS].records == 8
        await outbox.close()

    asyncio.run(main())


def test_the_newest_press_is_known_although_it_was_delivered_in_the_old_journal(
    tmp_path: Path, scribe: Any
) -> None:
    async def main() -> None:
        outbox, _, _ = outbox_on(tmp_path, scribe)
        await filled(outbox, scribe)
        outbox.confirm(Stream.EVENTS, 10)
        await outbox.begin_new_journal("a copy")
        row = await outbox.latest(Kind.STATUS)
        assert row is not None
        assert row.seq == 10
        assert [r.seq for r in await outbox.read(Stream.EVENTS, 10, **MANY)] == [11]
        await outbox.close()

    asyncio.run(main())


def test_a_disk_that_refuses_keeps_the_old_journal_and_says_so(tmp_path: Path, scribe: Any) -> None:
    async def main() -> None:
        outbox, worker, health = outbox_on(tmp_path, scribe)
        await filled(outbox, scribe)
        journal = outbox.journal
        worker.trouble = "full"
        with pytest.raises(StoreFaultError):
            await outbox.begin_new_journal("not now")
        assert outbox.journal == journal
        assert set(health.reasons()) & {HealthReason.STORE_FULL, HealthReason.STORE_IO_ERROR}
        worker.trouble = None
        await outbox.flush()
        async with asyncio.timeout(20):
            while health.reasons():
                await asyncio.sleep(0.01)
        await outbox.begin_new_journal("now")
        assert outbox.journal != journal
        assert [row.seq for row in await outbox.read(Stream.EVENTS, 6, **MANY)] == [7, 8, 9, 10, 11]
        await outbox.close()

    asyncio.run(main())


def test_every_boot_of_the_store_is_known_by_its_id(tmp_path: Path, scribe: Any) -> None:
    async def main() -> None:
        for boot_id in ("a" * 32, "b" * 32):
            scribe.clock.boot_id = boot_id
            outbox, _, _ = outbox_on(tmp_path, scribe)
            await outbox.open()
            await outbox.close()
        assert outbox.boot_ids == {1: "a" * 32, 2: "b" * 32}

    asyncio.run(main())
