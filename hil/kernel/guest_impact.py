"""Runs in the machine: the real impact recorder on the machine's disk, cut off or looked at after the cut.

It says "KEEPS boottime_ms" at an impact, "BEGUN id ms" once what was before it should be on the disk, after
so many milliseconds; with --look it says "TOLD id complete frames" of each recording that was left untold.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.domain.record import RecordingKept
from agent.hal.can import CanFrame
from agent.recorder.kept_recordings import KeptRecordings
from agent.recorder.moment_recorder import MomentRecorder
from agent.runtime.worker import ThreadWorker
from firmware_shims.system_clock import SystemClock
from hil.drive.items import CanItem
from hil.kernel.console import say
from hil.recording.mcap_file import RecordingReader

FRAMES = 400
IMPACT_AT = 300


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--look", action="store_true")
    args = parser.parse_args()
    asyncio.run(_look(args.directory) if args.look else _record(args.directory))


def _recorder(folder: Path, clock: SystemClock, told: asyncio.Queue[RecordingKept]) -> MomentRecorder:
    async def announce(body: RecordingKept, at_ns: int) -> object:
        del at_ns
        told.put_nowait(body)
        return None

    def problem(why: str | None) -> None:
        if why is not None:
            say("FAULT", why)

    def context() -> Mapping[str, Any]:
        return {}

    return MomentRecorder(
        KeptRecordings(folder, 5),
        clock,
        ThreadWorker("impact"),
        metadata={"unit": "rig"},
        before_s=30,
        after_s=30,
        announce=announce,
        context=context,
        on_problem=problem,
    )


async def _record(folder: Path) -> None:
    clock, told = SystemClock(), asyncio.Queue[RecordingKept]()
    recorder = _recorder(folder, clock, told)
    running = asyncio.create_task(recorder.run(lambda: None))
    began_ns = 0
    for number in range(FRAMES):
        now_ns = clock.boottime_ns()
        recorder.frames("can/can0", [CanFrame(0x120, False, number.to_bytes(8, "little"), now_ns)])
        if number == IMPACT_AT:
            began_ns = now_ns
            recorder.keep("impact", "a wall", now_ns)
            say("KEEPS", now_ns // 1_000_000)
        if not told.empty():
            say("BEGUN", told.get_nowait().recording, (clock.boottime_ns() - began_ns) // 1_000_000)
        await asyncio.sleep(0.01)
    await asyncio.sleep(60)
    running.cancel()


async def _look(folder: Path) -> None:
    told: asyncio.Queue[RecordingKept] = asyncio.Queue()
    recorder = _recorder(folder, SystemClock(), told)
    running = asyncio.create_task(recorder.run(lambda: None))
    async with asyncio.timeout(30):
        body = await told.get()
    path = KeptRecordings(folder, 5).path_of(body.recording)
    assert path is not None
    frames = sum(isinstance(item, CanItem) for item in RecordingReader(path).items())
    say("TOLD", body.recording, str(body.complete), frames)
    running.cancel()
    await asyncio.wait([running])
    say("DONE")


if __name__ == "__main__":
    main()
