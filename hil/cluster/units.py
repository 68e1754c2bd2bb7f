"""Units in one process: outbox, publisher and link of each, and presses of which each is accounted for."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

from agent import config
from agent.domain.health import HealthBoard
from agent.domain.record import Draft, StatusChange
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.outbox.deposit import Deposit, Fate
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from agent.uplink.link.paho_link import PahoLink
from agent.uplink.publisher import Publisher
from agent.wire.topics import Topics
from firmware_shims.system_clock import SystemClock

_STATUSES = ("en_route", "on_scene", "transporting", "at_destination", "available")


class Unit:
    """One unit, as the daemon wires it, with the shipped settings. Used as `async with`.

    Args:
        topics: who it is.
        folder: of its store.
        brokers: the cluster's nodes, in its order of preference.

    Attributes:
        presses: what was pressed, by `press_seq`.
        health: what it says of itself.
    """

    def __init__(self, topics: Topics, folder: Path, brokers: Sequence[config.Broker]) -> None:
        self.topics = topics
        self.presses: dict[int, Deposit] = {}
        self.health = HealthBoard()
        self._clock = SystemClock()
        self._outbox = Outbox(config.Store(directory=folder), self._clock, ThreadWorker(), self.health)
        self._publisher = Publisher(
            config.Uplink(brokers=tuple(brokers)),
            topics,
            self._outbox,
            PahoLink(),
            self._clock,
            self.health,
            rng=random.Random(topics.unit),
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Unit:
        await self._outbox.open()
        self._tasks = [
            asyncio.create_task(self._outbox.run(lambda: None)),
            asyncio.create_task(self._publisher.run(lambda: None)),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await self._publisher.drain(2.0)
        await self._outbox.close()

    def press(self) -> None:
        """Press the next status."""
        number = len(self.presses) + 1
        utc = Utc(self._clock.system_utc().unix_ms, UtcSource.NTP, 20)
        status, previous = _STATUSES[number % len(_STATUSES)], _STATUSES[(number - 1) % len(_STATUSES)]
        body = StatusChange(status, previous, status, number)
        self.presses[number] = self._outbox.put(Draft(Stamp(self._clock.boottime_ns(), utc), body))

    @property
    def acknowledged(self) -> set[int]:
        """Numbers of the presses of which the broker's acknowledgement came."""
        return {number for number, one in self.presses.items() if one.fate is Fate.DELIVERED}

    @property
    def all_acknowledged(self) -> bool:
        """Whether nothing waits any more."""
        return len(self.acknowledged) == len(self.presses)
