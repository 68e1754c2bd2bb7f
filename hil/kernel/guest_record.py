"""Runs in the machine: the real outbox on a disk whose writes are recorded, with a mark for each promise.

A mark "ACK:n:seq:crc:positions" is put between the writes after press n was called stored; for a trail
without presses, "TRAIL:n" after n positions were committed.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import random
import struct
from pathlib import Path

from agent import config
from agent.domain.health import HealthBoard
from agent.domain.record import Draft, Stream
from agent.domain.stamp import Stamp
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from firmware_shims.system_clock import SystemClock
from hil.kernel.console import say
from hil.kernel.guest_outbox import Shift, make_position

_DM_TARGET_MSG = 0xC138FD0E
"""_IOWR(0xfd, 14, struct dm_ioctl) of linux/dm-ioctl.h."""
_DM_IOCTL = struct.Struct("<3I2IIiIIIQ128s129s7x")
_DEVICE = b"recorded"


class Marker:
    """Puts marks into the write log: the message that `dmsetup message` sends, without its start-up cost."""

    def __init__(self) -> None:
        self._control = os.open("/dev/mapper/control", os.O_RDWR)

    def mark(self, text: str) -> None:
        """Put one mark, a word without spaces, after all writes that are complete."""
        message = struct.pack("<Q", 0) + f"mark {text}".encode() + b"\0"
        size = _DM_IOCTL.size
        header = _DM_IOCTL.pack(4, 0, 0, size + len(message), size, 0, 0, 0, 0, 0, 0, _DEVICE, b"")
        fcntl.ioctl(self._control, _DM_TARGET_MSG, bytearray(header + message))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--synchronous", default="FULL")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--presses", type=int, default=150)
    parser.add_argument("--trail-s", type=int, default=0, help="instead: a trail at 1 Hz for so long")
    parser.add_argument("--group-commit-s", type=float, default=0.2)
    asyncio.run(_run(parser.parse_args()))


async def _run(args: argparse.Namespace) -> None:
    clock = SystemClock()
    settings = config.Store(
        directory=args.directory, synchronous=args.synchronous, group_commit_s=args.group_commit_s
    )
    outbox = Outbox(settings, clock, ThreadWorker(), HealthBoard())
    await outbox.open()
    marker = Marker()
    upkeep = asyncio.create_task(outbox.run(lambda: None))
    if args.trail_s:
        await _trail(outbox, clock, marker, args.trail_s)
    else:
        await _presses(outbox, clock, marker, args)
    upkeep.cancel()
    await asyncio.gather(upkeep, return_exceptions=True)
    say("DONE", outbox.last_seq(Stream.EVENTS), outbox.last_seq(Stream.TRAIL))
    # No close: what a clean end writes must not help the store to survive.
    os._exit(0)


async def _presses(outbox: Outbox, clock: SystemClock, marker: Marker, args: argparse.Namespace) -> None:
    def acknowledged(*promise: int) -> None:
        marker.mark("ACK:" + ":".join(map(str, promise)))

    shift = Shift(outbox, clock, random.Random(args.seed), 1, acknowledged)
    others = [asyncio.create_task(shift.drive()), asyncio.create_task(_confirm(outbox))]
    await shift.press(1, count=args.presses)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _confirm(outbox: Outbox) -> None:
    """Deliver now and then, so that confirmations and trimming are among the writes."""
    while True:
        await asyncio.sleep(0.15)
        for stream in Stream:
            outbox.confirm(stream, outbox.last_seq(stream))


async def _trail(outbox: Outbox, clock: SystemClock, marker: Marker, duration_s: int) -> None:
    """A position a second and nothing else, delivered as it goes, as on a quiet drive with coverage."""
    outbox.on_appended(lambda stream: outbox.confirm(stream, outbox.last_seq(stream)))
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(1, duration_s + 1):
        outbox.stage(Draft(Stamp(clock.boottime_ns()), make_position(1, number)))
        await asyncio.sleep(max(0, start + number - loop.time()))
        marker.mark(f"TRAIL:{outbox.last_seq(Stream.TRAIL)}")


if __name__ == "__main__":
    main()
