"""What `put` gives back goes on being true: stored, delivered, found again, stored once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.domain.record import Kind, Stream
from agent.outbox.deposit import Deposit, Fate
from agent.outbox.fault import StoreDamagedError
from agent.wire.body import unpack_body
from hil.sim.outbox_bench import MANY, Bench, opened, run


def heard_of(deposit: Deposit) -> list[tuple[int | None, Fate]]:
    heard: list[tuple[int | None, Fate]] = []
    deposit.listen(lambda one: heard.append((one.seq, one.fate)))
    return heard


async def set_aside(bench: Bench, *statements: str) -> None:
    """The store is found damaged now; `statements` say what it lost."""
    keeper = bench.outbox._store._keeper

    def work() -> None:
        for statement in statements:
            keeper._store.file.connection.execute(statement)
        keeper._set_aside(StoreDamagedError("a test"), carry=True)
        keeper.open()

    await bench.outbox._store.do(lambda _: work())


def test_a_deposit_is_stored_and_then_delivered(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            first, second = (bench.outbox.put(scribe.press()) for _ in range(2))
            heard = heard_of(first)
            assert (first.seq, first.fate) == (None, Fate.NOT_STORED)
            assert [await first, await second] == [1, 2]
            bench.outbox.confirm(Stream.EVENTS, 1)
            assert heard == [(1, Fate.STORED), (1, Fate.DELIVERED)]
            assert second.fate is Fate.STORED

    run(scenario)


def test_a_record_of_an_earlier_run_is_followed(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            await bench.outbox.put(scribe.press())
        async with opened(tmp_path, scribe) as bench:
            row = await bench.outbox.latest(Kind.STATUS)
            assert row is not None
            deposit = bench.outbox.follow(row)
            assert (await deposit, deposit.fate) == (1, Fate.STORED)
            bench.outbox.confirm(Stream.EVENTS, 1)
            assert deposit.fate is Fate.DELIVERED
            assert bench.outbox.follow(row).fate is Fate.DELIVERED

    run(scenario)


def test_what_a_salvage_carried_over_is_where_it_was(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            deposit = bench.outbox.put(scribe.press())
            await deposit
            heard = heard_of(deposit)
            await set_aside(bench)
            await bench.outbox.flush()
            assert (deposit.seq, deposit.fate, heard) == (1, Fate.STORED, [])

    run(scenario)


def test_what_damage_took_is_stored_again_once_unless_it_was_delivered(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            deposits = [bench.outbox.put(scribe.press(status)) for status in ("en_route", "on_scene")]
            for deposit in deposits:
                await deposit
            bench.outbox.confirm(Stream.EVENTS, 1)
            await bench.outbox.flush()
            heard = heard_of(deposits[1])
            await set_aside(bench, "DELETE FROM events WHERE seq < 3")
            assert heard == [(None, Fate.NOT_STORED)]
            assert deposits[0].fate is Fate.DELIVERED
            await bench.outbox.flush()
            assert heard[1:] == [(deposits[1].seq, Fate.STORED)]
            rows = [
                row for row in await bench.outbox.read(Stream.EVENTS, 0, **MANY) if row.kind == Kind.STATUS
            ]
            assert [
                (row.seq, getattr(unpack_body(Kind.STATUS, row.body), "status", None)) for row in rows
            ] == [(deposits[1].seq, "on_scene")]

    run(scenario)


def test_a_record_that_turns_out_garbled_is_stored_again(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            deposit = bench.outbox.put(scribe.press())
            await deposit
            connection = bench.store.file.connection
            await bench.outbox._store.do(
                lambda _: connection.execute("UPDATE events SET boottime_ms = 5").fetchall()
            )
            await bench.outbox.read(Stream.EVENTS, 0, **MANY)
            heard = heard_of(deposit)
            assert (deposit.seq, deposit.fate) == (None, Fate.NOT_STORED)
            await bench.outbox.flush()
            assert [fate for _, fate in heard] == [Fate.STORED]
            row = await bench.outbox.latest(Kind.STATUS)
            assert row is not None
            assert row.seq == deposit.seq
            assert bench.outbox.set_asides == 0

    run(scenario)


def test_a_new_journal_takes_back_what_readers_may_not_have_taken(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            deposits = [bench.outbox.put(scribe.press()) for _ in range(4)]
            for deposit in deposits:
                await deposit
            bench.outbox.confirm(Stream.EVENTS, 3)
            await bench.outbox.begin_new_journal("a twin", resend_after={Stream.EVENTS: 1})
            assert [deposit.fate for deposit in deposits] == [
                Fate.DELIVERED,
                Fate.STORED,
                Fate.STORED,
                Fate.STORED,
            ]
            assert [deposit.seq for deposit in deposits] == [None, 2, 3, 4], "the first is of the old journal"

    run(scenario)


def test_nobody_who_let_go_of_a_deposit_keeps_it_in_memory(tmp_path: Path, scribe: Any) -> None:
    async def scenario() -> None:
        async with opened(tmp_path, scribe) as bench:
            for _ in range(50):
                await bench.outbox.put(scribe.press())
            assert len(bench.outbox._store.deposits) <= 1

    run(scenario)
