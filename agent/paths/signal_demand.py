"""Vehicle signals for somebody who asked for them: their newest values, at a rate, for a while.

They go out as answers and not as records: who looks at an engine for an hour leaves nothing behind in the
journal, and needs no right to read it.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.domain.record import Outcome
from agent.paths.file_sender import Uplink
from agent.paths.fleet_commands import Asked, Result, accepted, done, refused
from agent.wire.fleet_orders import SignalsWanted
from agent.wire.reader_request import RefusalReason, Reply
from agent.wire.time_text import utc_text

MOST_AT_ONCE: Final = 4
PART_BYTES: Final = 2_400
"""Of the values in one answer: it goes into a packet that every broker takes."""
IDLE_S: Final = 10.0
_SHOWN: Final = 8


@dataclass(slots=True)
class _Demand:
    asked: Asked
    wanted: SignalsWanted
    next_at: float
    ends_at: float
    under_way: int = 0
    connection: int = -1


class SignalDemand:
    """Sends what was asked for. Used from the event loop.

    Args:
        signals: newest value of each signal by name, None for what is not known now.
        uplink: the publisher.
        utc_ms: the UTC of now; None while no source is trusted.
        finish: told when a demand is over.
    """

    def __init__(
        self,
        signals: Callable[[], Mapping[str, Any]],
        uplink: Callable[[], Uplink],
        utc_ms: Callable[[], int | None],
        finish: Callable[[Asked, Result], None],
    ) -> None:
        self._signals = signals
        self._uplink = uplink
        self._utc_ms = utc_ms
        self._finish = finish
        self._demands: list[_Demand] = []
        self._new = asyncio.Event()

    def ask(self, wanted: SignalsWanted, asked: Asked) -> Result:
        """Begin, or say why not. It ends with its time, and with a restart."""
        known = self._signals()
        strangers = [name for name in wanted.names if name not in known]
        if len(strangers) == len(wanted.names):
            have = ", ".join(sorted(known)[:_SHOWN]) or "nothing"
            return refused(RefusalReason.NOTHING_THERE, f"none of these was heard; the vehicle tells {have}")
        if len(self._demands) >= MOST_AT_ONCE:
            return refused(RefusalReason.BUSY, f"{MOST_AT_ONCE} want signals already")
        now = asyncio.get_running_loop().time()
        self._demands.append(_Demand(asked, wanted, now, now + wanted.for_s))
        self._new.set()
        return accepted(f"never heard: {', '.join(strangers)}" if strangers else None)

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop."""
        loop = asyncio.get_running_loop()
        while True:
            progress()
            self._new.clear()
            now = loop.time()
            for demand in tuple(self._demands):
                if now >= demand.ends_at:
                    self._demands.remove(demand)
                    self._finish(demand.asked, done("its time is over"))
                elif now >= demand.next_at:
                    self._send(demand)
                    late = math.floor((now - demand.next_at) / demand.wanted.every_s)
                    demand.next_at += (1 + late) * demand.wanted.every_s
            due = [min(one.next_at, one.ends_at) - loop.time() for one in self._demands]
            wait_s = min([IDLE_S, *due])
            try:
                async with asyncio.timeout(max(0.0, wait_s)):
                    await self._new.wait()
            except TimeoutError:
                continue

    def _send(self, demand: _Demand) -> None:
        """The newest values, unless the last ones are still on their way: a slow network gets them seldom."""
        uplink = self._uplink()
        if demand.under_way and demand.connection == uplink.connections:
            return
        demand.under_way, demand.connection = 0, uplink.connections
        known, utc_ms = self._signals(), self._utc_ms()
        values = {name: known.get(name) for name in demand.wanted.names}

        def landed(_: int) -> None:
            demand.under_way = max(0, demand.under_way - 1)

        for part in _parts(values):
            body = {"signals": part, "utc": None if utc_ms is None else utc_text(utc_ms)}
            reply = Reply("signals", str(Outcome.ACCEPTED), demand.asked.id, result=json.dumps(body))
            # Behind presses, positions and backlogs; what does not go now is old by the next time.
            if uplink.piece(reply, demand.asked.asker, landed):
                demand.under_way += 1


def _parts(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The values in as many tables as it takes to keep each below its size."""
    parts: list[dict[str, Any]] = [{}]
    size = 0
    for name, value in values.items():
        length = len(json.dumps({name: value}))
        if parts[-1] and size + length > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][name] = value
        size += length
    return parts
