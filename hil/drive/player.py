"""Plays items in wall time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from hil.drive.items import TimedItem
from hil.drive.timeline import NS

Sink = Callable[..., Awaitable[None] | None]
"""Takes one item of the type it is registered for; may be a coroutine function."""

BEHIND_NS = 1_000_000
"""Items that are due within this are handed out without sleeping."""


class Player:
    """Hands items to sinks when they are due. Used from the event loop only.

    Times are counted from one beginning, so neither a slow sink nor a late wake-up shifts what follows. While
    a coroutine sink is awaited nothing else is handed out; what became due meanwhile follows at once.

    Attributes:
        now_ns: the time on the drive's timeline, of the last item handed out.
        late_s: the longest delay of an item so far, in wall time.
    """

    def __init__(
        self,
        sinks: Mapping[type, Sink],
        *,
        speed: float = 1.0,
        from_ns: int | None = None,
        until_ns: int | None = None,
    ) -> None:
        """Store the settings.

        Args:
            sinks: item type to its sink; items of other types are passed over.
            speed: seconds of the drive in one second of wall time.
            from_ns: where to start on the timeline of the items; without it at the first item.
            until_ns: where to stop; without it at the end.

        Raises:
            ValueError: the speed is not positive.
        """
        if not speed > 0:
            raise ValueError(f"speed {speed}: must be positive")
        self.now_ns = 0
        self.late_s = 0.0
        self._sinks = dict(sinks)
        self._speed = speed
        self._from_ns = from_ns
        self._until_ns = until_ns

    async def play(self, items: Iterable[TimedItem]) -> None:
        """Play to the end or `until_ns`. What a sink raises ends it."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        from_ns = self._from_ns
        for item in items:
            if from_ns is None:
                from_ns = item.t_ns
            if item.t_ns < from_ns:
                continue
            if self._until_ns is not None and item.t_ns >= self._until_ns:
                break
            due_s = begun_s + (item.t_ns - from_ns) / NS / self._speed
            wait_s = due_s - loop.time()
            if wait_s * NS > BEHIND_NS:
                await asyncio.sleep(wait_s)
                wait_s = due_s - loop.time()
            self.late_s = max(self.late_s, -wait_s)
            self.now_ns = item.t_ns
            await self._hand_out(item)

    async def _hand_out(self, item: TimedItem) -> None:
        sink = self._sinks.get(type(item))
        if sink is None:
            return
        result = sink(item)
        if result is not None:
            await result
