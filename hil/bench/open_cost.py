"""What opening and counting a store costs, small and large."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path

from agent.domain.record import Stream
from firmware_shims.system_clock import SystemClock
from hil.bench.figure import Figure, Target, middle
from hil.bench.opened_outbox import opened_outbox
from hil.bench.setting import Setting
from hil.bench.trail import fill

SMALL = 10_000
LARGE = 1_000_000
TARGET = Target(1.5, at_most=True, of_ratio=True)
READ = 500


def measure(setting: Setting) -> list[Figure]:
    """Milliseconds to open, to count what waits, and to read the next batch; small and large in turn."""
    folder = setting.fresh_folder("open_cost")
    sizes = {"small": setting.count(SMALL, least=600), "large": setting.count(LARGE, least=1_000)}
    for name, count in sizes.items():
        setting.say(f"open_cost: {count:,} records to fill")
        fill(folder / name, count, boot_id=SystemClock().boot_id)
    took: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sizes}
    scanned: list[float] = []
    for _ in range(setting.rounds):
        for name in sizes:
            took[name].append(asyncio.run(_look(folder / name)))
        scanned.append(_scan(folder / "large" / "outbox.db"))
    small, large = ([middle(column) for column in zip(*took[name], strict=True)] for name in sizes)
    peer, note = f"{sizes['small']:,} records", f"with {sizes['large']:,} records"
    return [
        Figure("open_cost", large[0], "ms to open", peer, small[0], TARGET, note),
        Figure("open_cost.read", large[2], f"ms to read {READ}", peer, small[2], TARGET),
        Figure("open_cost.count", large[1], "ms to count", "SELECT count(*)", middle(scanned)),
    ]


async def _look(folder: Path) -> tuple[float, float, float]:
    begun_s = time.perf_counter()
    async with opened_outbox(folder) as outbox:
        opened_s = time.perf_counter()
        counted = outbox.backlog().records
        counted_s = time.perf_counter()
        after = outbox.last_seq(Stream.TRAIL) - READ
        rows = await outbox.read(Stream.TRAIL, after, max_records=READ, max_bytes=1 << 20)
        read_s = time.perf_counter()
        assert counted == outbox.last_seq(Stream.TRAIL)
        assert len(rows) == READ
    return (opened_s - begun_s) * 1000, (counted_s - opened_s) * 1000, (read_s - counted_s) * 1000


def _scan(file: Path) -> float:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as reader:
        begun_s = time.perf_counter()
        reader.execute("SELECT count(*) FROM trail").fetchone()
        return (time.perf_counter() - begun_s) * 1000
