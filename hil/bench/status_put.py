"""How fast presses become durable, a commit each, beside a bare SQLite commit of the same bytes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from agent.outbox.entry import entry_of
from agent.outbox.store import Store
from firmware_shims.system_clock import SystemClock
from hil.bench.figure import Figure, Target, middle
from hil.bench.opened_outbox import opened_outbox
from hil.bench.peer_process import SCRIPTS, Contender, peer_python
from hil.bench.setting import NotHereError, Setting
from hil.bench.trail import press

BLOCK = 40
"""Commits of one contender before the next has its turn: short, so that a noisy disk treats all alike."""
BLOCKS_A_ROUND = 5
ROW_BYTES = 30
"""What the columns beside the body take in a row of ours; the peers store a blob of the whole size."""
TARGET = Target(0.8, of_ratio=True)

Contest = Callable[[], Awaitable[float]]


def measure(setting: Setting) -> list[Figure]:
    """Commits a second: through the outbox as the daemon calls it, of the store alone, and of the peers."""
    return asyncio.run(_measure(setting))


async def _measure(setting: Setting) -> list[Figure]:
    folder = setting.fresh_folder("status_put")
    block = setting.count(BLOCK, least=2)
    note = ""
    async with contextlib.AsyncExitStack() as stack:
        contests: dict[str, Contest] = {
            "raw": await stack.enter_async_context(_raw(folder, block)),
            "store": await stack.enter_async_context(_store(folder, block)),
            "outbox": await stack.enter_async_context(_outbox(folder, block)),
        }
        try:
            queue = stack.enter_context(
                Contender(
                    [peer_python("persist-queue"), str(SCRIPTS / "persist_queue_puts.py")],
                    folder=folder,
                    name="persist-queue",
                )
            )
        except NotHereError as reason:
            note = str(reason)
        else:
            contests["persist-queue"] = lambda: _ask(queue, block)
        rates: dict[str, list[float]] = {name: [] for name in contests}
        for _ in range(setting.rounds * BLOCKS_A_ROUND):
            for name, contest in contests.items():
                rates[name].append(block / await contest())
    raw, store, outbox, peer = (
        middle(rates.get(name, [])) for name in ("raw", "store", "outbox", "persist-queue")
    )
    return [
        Figure("status_put", outbox, "commits/s", "SQLite, WAL, FULL", raw, TARGET),
        Figure("status_put.store", store, "commits/s", "SQLite, WAL, FULL", raw, TARGET),
        Figure("status_put", outbox, "commits/s", "persist-queue", peer, note=note),
    ]


async def _ask(queue: Contender, block: int) -> float:
    answer = queue.ask("each", block, ROW_BYTES + _body_bytes())
    return float(answer["wall_s"])


def _body_bytes() -> int:
    return len(entry_of(press(1, 1)).body)


@contextlib.asynccontextmanager
async def _raw(folder: Path, block: int) -> AsyncIterator[Contest]:
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE record (seq INTEGER PRIMARY KEY, record BLOB NOT NULL)")
    record = bytes(ROW_BYTES + _body_bytes())

    async def contest() -> float:
        begun_s = time.perf_counter()
        for _ in range(block):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO record (record) VALUES (?)", (record,))
            connection.execute("COMMIT")
        return time.perf_counter() - begun_s

    try:
        yield contest
    finally:
        connection.close()


@contextlib.asynccontextmanager
async def _store(folder: Path, block: int) -> AsyncIterator[Contest]:
    store, clock = Store(folder / "store"), SystemClock()
    store.open(clock.boot_id)

    async def contest() -> float:
        begun_s = time.perf_counter()
        for number in range(block):
            store.append((entry_of(press(number, clock.boottime_ns())),))
            if store.file.checkpoint_due:
                store.file.checkpoint()
        return time.perf_counter() - begun_s

    try:
        yield contest
    finally:
        store.close()


@contextlib.asynccontextmanager
async def _outbox(folder: Path, block: int) -> AsyncIterator[Contest]:
    clock = SystemClock()
    async with opened_outbox(folder / "outbox") as outbox:

        async def contest() -> float:
            begun_s = time.perf_counter()
            for number in range(block):
                await outbox.put(press(number, clock.boottime_ns()))
            return time.perf_counter() - begun_s

        yield contest
