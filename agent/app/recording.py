"""What `mdt record` runs: every device, read and recorded, without the rest of the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from agent.app.black_box import BlackBox
from agent.app.device_feeds import device_feed, unit_name
from agent.app.platform import Platform
from agent.config import Config
from agent.domain.health import HealthBoard
from agent.hal.feed import Feed
from agent.recorder.recording_files import OneFile
from agent.supervision.supervisor import Progress, Supervisor, Unit


async def record(config: Config, platform: Platform, out: Path, stop: asyncio.Event) -> str | None:
    """Write everything the drivers read to `out` until `stop` is set, without the rest of the agent.

    Returns why the recording is not whole, None when all went well.
    """
    clock, health = platform.clock(), HealthBoard()
    box = BlackBox(config, platform, clock, health, files=OneFile(out))
    feeds = {
        unit_name(device): device_feed(device, platform, clock, box.recorder) for device in config.devices
    }
    supervisor = Supervisor(config.supervision, health, platform.random())
    supervisor.start(Unit("recorder", box.recorder.run))
    for name, feed in feeds.items():
        supervisor.start(Unit(name, partial(_listen, feed)))
    try:
        await _first(stop.wait, supervisor.failed)
    finally:
        await supervisor.stop([*feeds, "recorder"], config.supervision.stop_sources_s)
        await box.close()
    return box.recorder.problem


async def _listen(feed: Feed[Any], progress: Progress) -> NoReturn:
    try:
        await feed.open()
        while True:
            progress()
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await feed.read()
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
