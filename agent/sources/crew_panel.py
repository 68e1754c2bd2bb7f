"""The crew's buttons and lamps as a part of the agent that is supervised."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn, TypeVar

from agent.domain.crew import HeldKeys
from agent.domain.health import HealthBoard, HealthReason
from agent.hal.buttons import ButtonEdge, ButtonPanel, Lamp
from agent.hal.clock import Clock
from agent.hal.errors import HardwareError

PROGRESS_EVERY_S = 1.0

Result = TypeVar("Result")


class CrewPanel:
    """Reads a panel for as long as it is there, and passes on lamps and acknowledgements. Event loop only.

    Args:
        panel: the device; remembers lamps and acknowledgements that it is told while it is away.
        clock: tells how long a key has been down.
        health: gets BUTTONS_LOST and BUTTON_STUCK.
        stuck_after_s: a key that is down for longer is reported as stuck. The other keys go on working.
    """

    def __init__(
        self, panel: ButtonPanel, clock: Clock, health: HealthBoard, *, stuck_after_s: float
    ) -> None:
        self._panel = panel
        self._clock = clock
        self._health = health
        self._stuck_after_s = stuck_after_s
        self._edges: deque[ButtonEdge] = deque()
        self._held = HeldKeys()
        self._stuck: tuple[str, ...] = ()
        self._write_fault: HardwareError | None = None

    async def run(self, on_edge: Callable[[ButtonEdge], None], progress: Callable[[], None]) -> NoReturn:
        """Open the panel and give each edge to `on_edge`, until cancelled or the device fails.

        Calls `progress` at least once a second, also while the panel says nothing.

        Raises:
            HardwareError: the panel is not there or went away; BUTTONS_LOST then holds until it is opened
                again.
        """
        self._write_fault = None
        try:
            await self._meanwhile(self._panel.open(), progress)
            self._health.clear(HealthReason.BUTTONS_LOST, owner=self._panel.name)
            while True:
                # What `on_edge` fails on must not take the edges behind it along: a restart goes on with
                # those.
                while self._edges:
                    edge = self._edges.popleft()
                    self._held.handle(edge)
                    on_edge(edge)
                self._watch_stuck()
                self._edges.extend(await self._meanwhile(self._panel.read(), progress))
        except HardwareError as error:
            self._health.raise_(HealthReason.BUTTONS_LOST, str(error), owner=self._panel.name)
            raise
        finally:
            await self._panel.close()

    async def show(self, key: str, lamp: Lamp) -> None:
        """Light the lamp of `key`, now or as soon as the panel is back. Never raises HardwareError."""
        await self._tell(self._panel.show(key, lamp))

    async def acknowledge(self, edge: ButtonEdge) -> None:
        """Let the panel forget `edge`, now or as soon as it is back. Never raises HardwareError."""
        await self._tell(self._panel.acknowledge(edge))

    async def _tell(self, telling: Awaitable[None]) -> None:
        try:
            await telling
        except HardwareError as error:
            self._write_fault = error  # `run` fails with it: it is the one that is supervised

    async def _meanwhile(self, awaitable: Awaitable[Result], progress: Callable[[], None]) -> Result:
        """The result of `awaitable`; reports progress and looks at held keys while it is not there."""
        work = asyncio.ensure_future(awaitable)
        try:
            while True:
                progress()
                await asyncio.wait({work}, timeout=PROGRESS_EVERY_S)
                if work.done():
                    return work.result()
                self._watch_stuck()
                if self._write_fault is not None:
                    raise self._write_fault
        finally:
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError, HardwareError):
                    await work

    def _watch_stuck(self) -> None:
        stuck = self._held.stuck(self._clock.boottime_ns(), self._stuck_after_s)
        if stuck == self._stuck:
            return
        self._stuck = stuck
        if stuck:
            self._health.raise_(HealthReason.BUTTON_STUCK, ", ".join(stuck), owner=self._panel.name)
        else:
            self._health.clear(HealthReason.BUTTON_STUCK, owner=self._panel.name)
