"""From named health reasons to health records and the live state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.domain.health import HealthBoard
from agent.domain.record import Draft, Health
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import HealthState
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.outbox.backlog import Backlog
from agent.outbox.outbox import Outbox
from agent.paths.state_sink import StateSink
from agent.runtime.log import EventLog

log = EventLog("health")
_SETTLE_S = 0.2
"""Reasons that change together make one record, and one that comes and goes within it makes none."""


class HealthPath:
    """Writes a record whenever the set of reasons changed, and refreshes `state/health` now and then."""

    def __init__(
        self,
        *,
        board: HealthBoard,
        clock: Clock,
        time_base: TimeBase,
        outbox: Outbox,
        states: StateSink,
        interval_s: float,
    ) -> None:
        self._board = board
        self._clock = clock
        self._time_base = time_base
        self._outbox = outbox
        self._states = states
        self._interval_s = interval_s
        self._told: frozenset[str] | None = None
        self._changed = asyncio.Event()
        board.listen(self._changed.set)
        self._changed.set()

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop."""
        loop = asyncio.get_running_loop()
        next_refresh = loop.time()
        while True:
            progress()
            if self._changed.is_set():
                await asyncio.sleep(_SETTLE_S)
                self._changed.clear()
                self._record()
                next_refresh = loop.time()
            if loop.time() >= next_refresh:
                self._refresh()
                next_refresh = loop.time() + self._interval_s
            try:
                async with asyncio.timeout(max(0.0, min(1.0, next_refresh - loop.time()))):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _record(self) -> None:
        now = frozenset(str(reason) for reason in self._board.reasons())
        before = self._told or frozenset()
        raised, cleared = sorted(now - before), sorted(before - now)
        # The first record of a run is written also when all is well: it ends what the run before had told.
        if not raised and not cleared and self._told is not None:
            return
        details = self._board.details()
        for reason in raised:
            log.warning("unwell", reason=reason, detail=details.get(reason, ""))  # type: ignore[call-overload]
        for reason in cleared:
            log.info("well_again", reason=reason)
        self._told = now
        body = Health(tuple(sorted(now)), tuple(raised), tuple(cleared))
        self._outbox.stage(Draft(self._time_base.stamp(self._clock.boottime_ns()), body))

    def _refresh(self) -> None:
        now_ns = self._clock.boottime_ns()
        backlog = self._outbox.backlog()
        details = self._board.details()
        self._states.set_state(
            HealthState(
                boottime_ms=now_ns // 1_000_000,
                utc=self._time_base.utc(now_ns),
                reasons=tuple(str(reason) for reason in self._board.reasons()),
                details=tuple((str(reason), detail) for reason, detail in sorted(details.items())),
                backlog_records=backlog.records,
                backlog_oldest_utc=_oldest_utc(backlog),
            )
        )


def _oldest_utc(backlog: Backlog) -> Utc | None:
    """UTC of the oldest undelivered record, None when none waits or it has none.

    The store keeps no pedigree in its counters: the UTC is passed on as the weakest there is.
    """
    times = [one.oldest_utc_ms for one in backlog.streams.values() if one.oldest_utc_ms is not None]
    return Utc(min(times), UtcSource.LAST_KNOWN, None) if times else None
