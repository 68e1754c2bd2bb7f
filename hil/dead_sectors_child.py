"""An outbox on a disk with dead sectors: opened, pressed, read to its end; what came of it as one JSON line.

Run as `python -m hil.dead_sectors_child FOLDER WHEN [FILE FIRST END]...`: WHEN is `start`, for sectors that
died before, or `running`, for such as die once the store is open and nothing of it is in memory any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from agent import config
from agent.domain.health import HealthBoard
from agent.domain.record import Draft, Gap, Kind, StatusChange, Stream
from agent.domain.stamp import Stamp
from agent.hal.clock import SystemUtc
from agent.outbox.fault import StoreFaultError
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from agent.wire.body import unpack_body
from hil.dead_sectors import kill

FASTER = 5
"""The clock by which the outbox judges how long something could not be read: so a test takes a second."""
GIVES_UP_S = 50.0


class _Clock:
    boot_id = "d" * 32

    def boottime_ns(self) -> int:
        return time.monotonic_ns() * FASTER

    def suspended_ns(self) -> int:
        """It never sleeps."""
        return 0

    def system_utc(self) -> SystemUtc:
        return SystemUtc(1_773_471_600_000, synchronised=True, max_error_ms=20)


async def _read(outbox: Outbox, stream: Stream) -> dict[str, Any]:
    """All of a stream, as the uplink reads it: a refusal is tried again after a while."""
    found: dict[str, Any] = {"records": 0, "gaps": [], "refusals": 0}
    after_seq = 0
    async with asyncio.timeout(GIVES_UP_S):
        while True:
            try:
                rows = await outbox.read(stream, after_seq, max_records=100, max_bytes=1 << 20)
            except StoreFaultError:
                found["refusals"] += 1
                await asyncio.sleep(0.1)
                continue
            if not rows:
                return found
            for row in rows:
                if row.kind == Kind.GAP:
                    gap = unpack_body(Kind.GAP, row.body)
                    assert isinstance(gap, Gap)
                    found["gaps"].append([row.seq, gap.last_seq])
                else:
                    found["records"] += 1
            after_seq = rows[-1].seq


async def _main(folder: Path, dying: list[tuple[Path, int, int]]) -> dict[str, Any]:
    clock, health, seen = _Clock(), HealthBoard(), set[str]()
    health.listen(lambda: seen.update(map(str, health.reasons())))
    outbox = Outbox(config.Store(directory=folder), clock, ThreadWorker("outbox"), health)
    await outbox.open()
    running = asyncio.create_task(outbox.run(lambda: None))

    def press() -> Draft:
        return Draft(Stamp(clock.boottime_ns()), StatusChange("on_scene", "en_route", "on_scene", 1))

    try:
        if dying:
            await outbox.put(press())
            for file, first, end in dying:
                kill(Path(os.environ["DEAD_SECTORS"]), file, [(first, end)])
            store: Any = outbox._store  # noqa: SLF001 - what only a harness does to it
            shrink = "PRAGMA shrink_memory"
            await store.do(lambda keeper: keeper._store.file.connection.execute(shrink).fetchall())  # noqa: SLF001
        async with asyncio.timeout(GIVES_UP_S):
            pressed = await outbox.put(press())
        streams = {str(stream): await _read(outbox, stream) for stream in Stream}
        async with asyncio.timeout(GIVES_UP_S):
            while health.reasons():
                await asyncio.sleep(0.02)
        return {
            "pressed": pressed,
            "seen": sorted(seen),
            "journal": outbox.journal,
            "set_asides": outbox.set_asides,
            **streams,
        }
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await outbox.close()


if __name__ == "__main__":
    _, where, when, *spans = sys.argv
    dead = [
        (Path(where) / spans[at], int(spans[at + 1]), int(spans[at + 2])) for at in range(0, len(spans), 3)
    ]
    print(json.dumps(asyncio.run(_main(Path(where), dead if when == "running" else []))))
