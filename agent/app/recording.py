"""What `mdt record` runs: every device, read and recorded, without the rest of the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from agent.app.black_box import BlackBox
from agent.app.device_feeds import device_feed, unit_name
from agent.app.platform import Platform
from agent.config import Config, DiagnosticDevice
from agent.domain.health import HealthBoard
from agent.hal.feed import Feed
from agent.recorder.recording_files import OneFile
from agent.supervision.supervisor import Progress, Supervisor, Unit


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a recording.

    Attributes:
        problem: why it is not whole; None when everything that was read is in it.
        heard: names of the devices that something came from.
        silent: names of the others, each with what was wrong with it, "" when it only said nothing.
    """

    problem: str | None
    heard: tuple[str, ...]
    silent: dict[str, str]


async def record(config: Config, platform: Platform, out: Path, stop: asyncio.Event) -> Recorded:
    """Write everything the drivers read to `out` until `stop` is set, without the rest of the agent."""
    clock, health = platform.clock(), HealthBoard()
    box = BlackBox(config, platform, clock, health, files=OneFile(out))
    supervisor = Supervisor(config.supervision, health, platform.random())
    supervisor.start(Unit("recorder", box.recorder.run))
    heard: set[str] = set()
    devices = [device for device in config.devices if not isinstance(device, DiagnosticDevice)]
    for device in devices:  # what must be asked says nothing that could be recorded
        feed = device_feed(device, platform, clock, box.recorder)
        supervisor.start(Unit(unit_name(device), partial(_listen, feed, partial(heard.add, device.name))))
    try:
        await _first(stop.wait, supervisor.failed)
    finally:
        states = supervisor.states()
        units = [unit_name(device) for device in devices]
        await supervisor.stop([*units, "recorder"], config.supervision.stop_sources_s)
        await box.close()
    silent = {
        device.name: states.get(unit_name(device), "").partition("waiting: ")[2]
        for device in devices
        if device.name not in heard
    }
    return Recorded(box.recorder.problem, tuple(sorted(heard)), silent)


async def _listen(feed: Feed[Any], heard: Callable[[], None], progress: Progress) -> NoReturn:
    try:
        await feed.open()
        while True:
            progress()
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await feed.read()
                    heard()
    finally:
        await feed.close()


async def _first(*waits: Callable[[], Awaitable[Any]]) -> None:
    """Wait until one of `waits` is over; raises what it raised."""
    tasks = [asyncio.ensure_future(wait()) for wait in waits]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
