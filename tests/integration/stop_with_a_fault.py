"""Runs the daemon as `mdt run` does, with one part broken: `stop_with_a_fault.py FAULT CONFIG`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from agent.app.daemon import Daemon
from agent.app.devices import load
from agent.app.vehicle_platform import VehiclePlatform
from agent.cli.run import run_daemon
from agent.paths.clock_watch import ClockWatch
from agent.runtime import log
from agent.runtime.worker import Done, ThreadWorker, Worker
from agent.uplink.publisher import Publisher

T = TypeVar("T")
FOR_EVER = threading.Event()


class HangingWorker(ThreadWorker):
    """A disk that stops to answer as soon as the stop begins, or at once."""

    at_once = False

    def submit(self, work: Callable[[], T], done: Done, *, urgent: bool = False) -> None:
        def hang() -> T:
            if self.at_once or STOPPING.is_set():
                FOR_EVER.wait()
            return work()

        super().submit(hang, done, urgent=urgent)


STOPPING = threading.Event()


class Platform(VehiclePlatform):
    """The vehicle's, with the outbox on a disk that hangs."""

    def worker(self, name: str) -> Worker:
        return HangingWorker(name) if name == "outbox" else super().worker(name)


async def deaf(self: ClockWatch, progress: Callable[[], None]) -> NoReturn:
    """A unit that does not hear that it is cancelled."""
    while True:
        progress()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)


async def raising(self: Publisher, deadline_s: float) -> None:
    """A drain that fails."""
    raise OSError("no descriptor is left")


async def hanging(self: Publisher, deadline_s: float) -> None:
    """A drain that knows no deadline."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)


def main() -> int:
    fault, config = sys.argv[1], load(Path(sys.argv[2]))
    log.set_up("info")
    stop = Daemon.stop

    def noted(self: Daemon) -> None:
        STOPPING.set()
        if fault == "thread_is_left":
            threading.Thread(target=FOR_EVER.wait, name="left-over").start()
        stop(self)

    Daemon.stop = noted  # type: ignore[method-assign]
    platform = VehiclePlatform()
    match fault:
        case "disk_hangs_while_stopping":
            platform = Platform()
        case "disk_hangs_while_starting":
            platform, HangingWorker.at_once = Platform(), True
        case "unit_is_deaf":
            ClockWatch.run = deaf  # type: ignore[method-assign]
        case "drain_raises":
            Publisher.drain = raising  # type: ignore[method-assign]
        case "drain_hangs":
            Publisher.drain = hanging  # type: ignore[method-assign]
        case "thread_is_left" | "nothing":
            pass
        case _:
            raise ValueError(fault)
    return run_daemon(config, platform)


if __name__ == "__main__":
    sys.exit(main())
