"""Runs in the machine in leaping time: a day of the real outbox, its timers and its upkeep.

A position a second, a press every five minutes, coverage lost for the second half of each hour. Says once an
hour `HOUR n stored waiting resident_kb bytes_on_disk`, at the end `DAY positions presses gaps`, then `DONE`.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from agent import config
from agent.domain.health import HealthBoard
from agent.domain.record import Draft, Kind, StatusChange, Stream
from agent.domain.stamp import Stamp
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from firmware_shims.system_clock import SystemClock
from hil.kernel.console import say
from hil.kernel.guest_outbox import STATUSES, make_position, rows_of

PRESS_EVERY_S = 300
HOUR_S = 3600


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--hours", type=int, default=24)
    asyncio.run(_run(parser.parse_args()))


async def _run(args: argparse.Namespace) -> None:
    clock = SystemClock()
    outbox = Outbox(config.Store(directory=args.directory), clock, ThreadWorker(), HealthBoard())
    await outbox.open()
    upkeep = asyncio.create_task(outbox.run(lambda: None))
    loop = asyncio.get_running_loop()
    start = loop.time()
    for second in range(1, args.hours * HOUR_S + 1):
        outbox.stage(Draft(Stamp(clock.boottime_ns()), make_position(1, second)))
        if second % PRESS_EVERY_S == 0:
            number = second // PRESS_EVERY_S
            body = StatusChange(STATUSES[number % len(STATUSES)], None, "panel", number)
            await outbox.put(Draft(Stamp(clock.boottime_ns()), body))
        if second % HOUR_S < HOUR_S // 2 and second % 60 == 0:
            for stream in Stream:
                outbox.confirm(stream, outbox.last_seq(stream))
        if second % HOUR_S == 0:
            _tell(outbox, args.directory, second // HOUR_S)
        await asyncio.sleep(max(0, start + second - loop.time()))
    await outbox.flush()
    await _count(outbox)
    upkeep.cancel()
    await asyncio.gather(upkeep, return_exceptions=True)
    await outbox.close()
    say("DONE")


def _tell(outbox: Outbox, directory: Path, hour: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    size = sum(path.stat().st_size for path in directory.iterdir())
    stored = outbox.last_seq(Stream.TRAIL)
    say("HOUR", hour, stored, stored - outbox.confirmed(Stream.TRAIL), pages * 4, size)


async def _count(outbox: Outbox) -> None:
    counts = dict.fromkeys(Kind, 0)
    for stream in Stream:
        async for row in rows_of(outbox, stream, 0):
            counts[Kind(row.kind)] += 1
    say("DAY", counts[Kind.POSITION], counts[Kind.STATUS], counts[Kind.GAP])


if __name__ == "__main__":
    main()
