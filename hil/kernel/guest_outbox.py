"""Runs in the machine: the real outbox under presses and positions, until the power goes.

What it says (see `hil.kernel.console`); n numbers the presses of all boots, crc is over the record as stored:

    OPEN journal boot last_events last_trail   the store opened by itself
    ROW seq n crc                              a record of the events stream found at start; n is - for others
    TRAIL run first last count                 positions found of one run of this program
    READY                                      presses begin
    PUT n crc                                  handed to the outbox
    ACK n seq positions                        stored: what the lamp would say; positions staged before it
    SENT seq n crc                             delivered to dispatch, which is who listens to this console
    DRAINED                                    nothing waits any more (only with --drain)
"""

from __future__ import annotations

import argparse
import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from agent import config
from agent.domain.fix import FixMode
from agent.domain.health import HealthBoard
from agent.domain.record import Draft, Kind, Position, StatusChange, Stream
from agent.domain.stamp import Stamp
from agent.domain.status import UnitStatus
from agent.hal.clock import Clock
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from agent.wire.body import pack_body, unpack_body
from agent.wire.row import Row
from firmware_shims.system_clock import SystemClock
from hil.kernel.console import say

STATUSES = tuple(status.value for status in UnitStatus)
PRESS_STRIDE = 100_000
"""Presses of run r are numbered from r * PRESS_STRIDE: ascending for ever, and no number is used twice."""
RUN_STRIDE = 1_000_000
"""Position k of run r has latitude (r * RUN_STRIDE + k) * 1e-7 degree: each can be told from all others."""


def main() -> None:
    """Entry point; the arguments are in `_arguments`."""
    asyncio.run(_run(_arguments()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--synchronous", default="FULL")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", type=int, default=1, help="number of this boot, from 1")
    parser.add_argument("--audit-after", type=int, default=0, help="events up to here are known to be there")
    parser.add_argument("--audit-trail-after", type=int, default=0, help="the same of the trail")
    parser.add_argument("--link", choices=("up", "down"), default="up")
    parser.add_argument("--drain", action="store_true", help="press nothing, deliver everything, end")
    return parser.parse_args()


async def _run(args: argparse.Namespace) -> None:
    clock = SystemClock()
    settings = config.Store(directory=args.directory, synchronous=args.synchronous, group_commit_s=0.25)
    outbox = Outbox(settings, clock, ThreadWorker(), HealthBoard())
    await outbox.open()
    say("OPEN", outbox.journal, outbox.boot, outbox.last_seq(Stream.EVENTS), outbox.last_seq(Stream.TRAIL))
    await _audit(outbox, args.audit_after, args.audit_trail_after)
    tasks = [asyncio.create_task(outbox.run(lambda: None))]
    if args.drain:
        await _deliver(outbox, until_empty=True)
        say("DRAINED")
    else:
        dice = random.Random(args.seed)
        shift = Shift(outbox, clock, dice, args.run, _say_acknowledged)
        say("READY")
        tasks.append(asyncio.create_task(shift.drive()))
        tasks.append(asyncio.create_task(shift.press(args.run * PRESS_STRIDE)))
        if args.link == "up":
            tasks.append(asyncio.create_task(_deliver(outbox, until_empty=False)))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    tasks[0].cancel()
    await outbox.close()


def _say_acknowledged(number: int, seq: int, _crc: int, positions: int) -> None:
    say("ACK", number, seq, positions)


class Shift:
    """Presses, several at a time now and then, and positions between them.

    `acknowledged` is called with (press, seq, crc, positions staged before it) once a press is stored.
    """

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        dice: random.Random,
        run: int,
        acknowledged: Callable[[int, int, int, int], None],
    ) -> None:
        self._acknowledged = acknowledged
        self._outbox = outbox
        self._clock = clock
        self._dice = dice
        self._run = run
        self._staged = 0

    async def drive(self) -> None:
        """Stage positions, far faster than a vehicle makes them."""
        while True:
            self._staged += 1
            self._outbox.stage(
                Draft(Stamp(self._clock.boottime_ns()), make_position(self._run, self._staged))
            )
            await asyncio.sleep(self._dice.uniform(0, 0.004))

    async def press(self, first: int, *, count: int | None = None) -> None:
        """Press `count` times or for ever; a press is acknowledged when its future resolves."""
        number = first
        while count is None or number < first + count:
            burst = self._dice.choice((1, 1, 1, 2, 5))
            await asyncio.gather(*(self._press(n) for n in range(number, number + burst)))
            number += burst
            await asyncio.sleep(self._dice.choice((0, 0, 0.001, 0.005, 0.02)))

    async def _press(self, number: int) -> None:
        body = StatusChange(
            status=STATUSES[number % len(STATUSES)],
            previous=STATUSES[(number - 1) % len(STATUSES)],
            input=f"key-{number % len(STATUSES)}",
            press_seq=number,
        )
        stamp = Stamp(self._clock.boottime_ns())
        crc = _crc(stamp.boottime_ns // 1_000_000, pack_body(body))
        say("PUT", number, crc)
        positions = self._staged
        seq = await self._outbox.put(Draft(stamp, body))
        self._acknowledged(number, seq, crc, positions)


def make_position(run: int, number: int) -> Position:
    """Position `number` of run `run`: unlike every other."""
    return Position(
        lat_deg=(run * RUN_STRIDE + number) * 1e-7,
        lon_deg=-71.06,
        alt_m=12.0,
        speed_mps=13.4,
        course_deg=271.5,
        mode=FixMode.FIX_3D,
        satellites=9,
        hdop=0.9,
    )


async def _audit(outbox: Outbox, events_after: int, trail_after: int) -> None:
    """Say every event and every position after those, as the store has them."""
    async for row in rows_of(outbox, Stream.EVENTS, events_after):
        say("ROW", row.seq, *row_content(row))
    runs: dict[int, list[int]] = {}
    async for row in rows_of(outbox, Stream.TRAIL, trail_after):
        if row.kind == Kind.POSITION:
            run, number = position_number(row)
            runs.setdefault(run, []).append(number)
    for run, numbers in runs.items():
        say("TRAIL", run, numbers[0], numbers[-1], len(numbers))


def position_number(row: Row) -> tuple[int, int]:
    """Run and number of a position record that a Shift made."""
    body = unpack_body(row.kind, row.body)
    assert isinstance(body, Position)
    return divmod(round(body.lat_deg * 1e7), RUN_STRIDE)


async def rows_of(outbox: Outbox, stream: Stream, after_seq: int) -> AsyncIterator[Row]:
    """All stored records of a stream after `after_seq`, in order."""
    while rows := await outbox.read(stream, after_seq, max_records=2000, max_bytes=1 << 20):
        for row in rows:
            yield row
        after_seq = rows[-1].seq


async def _deliver(outbox: Outbox, *, until_empty: bool) -> None:
    """Play the uplink: what dispatch was told is confirmed, in batches."""
    while True:
        idle = True
        for stream in Stream:
            rows = await outbox.read(stream, outbox.confirmed(stream), max_records=100, max_bytes=32_768)
            for row in rows if stream is Stream.EVENTS else ():
                say("SENT", row.seq, *row_content(row))
            if rows:
                idle = False
                outbox.confirm(stream, rows[-1].seq)
        if idle and until_empty:
            return
        await asyncio.sleep(0.02 if idle else 0)


def row_content(row: Row) -> tuple[object, int]:
    """Number of the press that a record of the events stream is ("-" for none), and its checksum."""
    body = unpack_body(row.kind, row.body)
    number = body.press_seq if isinstance(body, StatusChange) else None
    return "-" if number is None else number, _crc(row.boottime_ms, row.body)


def _crc(boottime_ms: int, body: bytes) -> int:
    return zlib.crc32(body, boottime_ms & 0xFFFFFFFF)


if __name__ == "__main__":
    main()
