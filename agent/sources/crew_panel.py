"""The crew's buttons and lamps as a part of the agent that is supervised."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from agent.domain.chatter import KeyNoise
from agent.domain.crew import HeldKeys
from agent.domain.health import HealthBoard, HealthReason
from agent.hal.buttons import ButtonEdge, ButtonPanel, Lamp
from agent.hal.clock import Clock
from agent.hal.errors import HardwareError

PROGRESS_EVERY_S = 1.0
MOST_RECENT = 64
"""Edges that an installer can look back at."""

Result = TypeVar("Result")


class CrewPanel:
    """Reads a panel for as long as it is there, and passes on lamps and acknowledgements. Event loop only.

    Args:
        panel: the device; remembers lamps and acknowledgements that it is told while it is away.
        clock: tells how long a key has been down.
        health: gets BUTTONS_LOST, BUTTON_STUCK and BUTTON_CHATTER.
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
        self._told: dict[HealthReason, tuple[str, ...]] = {}
        self._noise = KeyNoise()
        self._recent: deque[tuple[int, ButtonEdge]] = deque(maxlen=MOST_RECENT)
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
                    self._noise.edge(edge.key, edge.at_boottime_ns, self._clock.boottime_ns())
                    self._recent.append((self._recent[-1][0] + 1 if self._recent else 1, edge))
                    on_edge(edge)
                self._watch_keys()
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

    async def sound(self, pattern_ms: Sequence[int]) -> None:
        """Sound the buzzer; a panel that is away stays silent. Never raises HardwareError."""
        await self._tell(self._panel.sound(pattern_ms))

    def slept(self, for_ns: int) -> None:
        """The computer slept for so long."""
        self._held.slept(for_ns)

    def snapshot(self) -> dict[str, Any]:
        """The newest edges, each with its number, and keys that are stuck or chatter; JSON-able."""
        return {
            "device": self._panel.name,
            "stuck": list(self._told.get(HealthReason.BUTTON_STUCK, ())),
            "chattering": list(self._told.get(HealthReason.BUTTON_CHATTER, ())),
            "edges": [
                {
                    "number": number,
                    "key": edge.key,
                    "pressed": edge.pressed,
                    "inferred": edge.inferred,
                    "boottime_ms": edge.at_boottime_ns // 1_000_000,
                }
                for number, edge in self._recent
            ],
        }

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
                self._watch_keys()
                if self._write_fault is not None:
                    raise self._write_fault
        finally:
            if not work.done():
                work.cancel()
                with suppress(asyncio.CancelledError, HardwareError):
                    await work

    def _watch_keys(self) -> None:
        now_ns = self._clock.boottime_ns()
        self._noise.counted(self._panel.noise(), now_ns)
        self._say(HealthReason.BUTTON_STUCK, self._held.stuck(now_ns, self._stuck_after_s))
        self._say(HealthReason.BUTTON_CHATTER, self._noise.noisy(now_ns))

    def _say(self, reason: HealthReason, keys: tuple[str, ...]) -> None:
        if keys == self._told.get(reason, ()):
            return
        self._told[reason] = keys
        if keys:
            self._health.raise_(reason, ", ".join(keys), owner=self._panel.name)
        else:
            self._health.clear(reason, owner=self._panel.name)
