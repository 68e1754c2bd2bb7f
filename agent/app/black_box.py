"""The black box beside a running agent, and the recording of `mdt record`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from agent import __version__
from agent.app.platform import Platform
from agent.config import Config
from agent.domain.health import HealthBoard, HealthReason
from agent.hal.clock import Clock
from agent.hal.feed import Feed
from agent.recorder.recorder import Recorder
from agent.recorder.recording_files import OneFile, RecordingFiles, RotatingFiles
from agent.supervision.supervisor import Progress, Supervisor, Unit

_MIB = 1024 * 1024


class BlackBox:
    """A recorder with a worker of its own, and its health reason."""

    def __init__(
        self,
        config: Config,
        platform: Platform,
        clock: Clock,
        health: HealthBoard,
        *,
        files: RecordingFiles | None = None,
    ) -> None:
        """Store the arguments; `files` instead of the configuration's rotating set."""
        self._health = health
        self._worker = platform.worker("recorder")
        if files is None:
            if config.recorder is None:
                raise ValueError("the configuration has no [recorder]")
            files = RotatingFiles(
                config.recorder.directory,
                budget_bytes=config.recorder.budget_mib * _MIB,
                file_bytes=config.recorder.file_mib * _MIB,
            )
        self.recorder = Recorder(
            files,
            clock,
            self._worker,
            metadata={
                "unit": f"{config.unit.agency}/{config.unit.unit}",
                "agent_version": __version__,
            },
            on_problem=self._on_problem,
        )

    async def close(self) -> None:
        """Release the worker, once the recorder's `run` has ended."""
        await self._worker.close()

    def _on_problem(self, problem: str | None) -> None:
        if problem is None:
            self._health.clear(HealthReason.RECORDER_STOPPED)
        else:
            self._health.raise_(HealthReason.RECORDER_STOPPED, problem)


async def record(config: Config, platform: Platform, out: Path, stop: asyncio.Event) -> str | None:
    """Write everything the drivers read to `out` until `stop` is set, without the rest of the agent.

    Returns why the recording is not whole, None when all went well.
    """
    clock, health = platform.clock(), HealthBoard()
    box = BlackBox(config, platform, clock, health, files=OneFile(out))
    feeds: dict[str, Feed[Any]] = {}
    if config.gnss is not None:
        feeds["gnss"] = box.recorder.nmea(platform.nmea(config.gnss, clock))
    for bus in config.can:
        feeds[f"can-{bus.name}"] = box.recorder.can(platform.can(bus, (), clock), bus.name)
    if config.buttons.box is not None:
        feeds["buttons"] = box.recorder.panel(platform.button_box(config.buttons.box, clock))
    if config.buttons.gpio is not None:
        feeds["gpio-buttons"] = box.recorder.panel(platform.button_gpio(config.buttons.gpio, clock))
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
