"""From named health reasons to health records and the live state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Draft, Health
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import HealthState
from agent.domain.steady_health import AWAY_NOW, HealthRecordBudget, SteadyHealth
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.outbox.backlog import Backlog
from agent.outbox.outbox import Outbox
from agent.paths.state_sink import StateSink
from agent.runtime.log import EventLog
from agent.runtime.plain_text import masked

log = EventLog("health")
_SETTLE_S = 0.2
"""Reasons that change together make one record, and one that comes and goes within it makes none."""


class HealthPath:
    """Writes a record whenever the set of reasons changed, and refreshes `state/health` now and then.

    What flaps is steadied (`SteadyHealth`), and records are bounded by the hour (`HealthRecordBudget`):
    changes that find no budget are told together by the next record that does. The live state is not bounded
    by it.
    """

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
        self._usual_interval_s = self._interval_s = interval_s
        self._steady = SteadyHealth()
        self._budget = HealthRecordBudget()
        self._held: frozenset[HealthReason] = frozenset()
        self._told: frozenset[HealthReason] | None = None
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
            if self._look() or loop.time() >= next_refresh:
                self._refresh()
                next_refresh = loop.time() + self._interval_s
            try:
                async with asyncio.timeout(max(0.0, min(1.0, next_refresh - loop.time()))):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def rest(self, interval_s: float | None) -> None:
        """Refresh the live state this seldom from now on; None for as often as configured."""
        self._interval_s = interval_s or self._usual_interval_s
        self._changed.set()

    def _look(self) -> bool:
        """Write what is new; returns whether what is told to hold changed."""
        before = self._held
        now_ns = self._clock.boottime_ns()
        self._held = self._steady.look(self._board.reasons(), self._board.raises(), now_ns)
        # The first record of a run is written also when all is well: it ends what the run before had told.
        if self._told != self._held and self._budget.take(now_ns):
            self._record(now_ns)
        return self._held != before

    def _record(self, now_ns: int) -> None:
        before = self._told or frozenset()
        raised, cleared = sorted(self._held - before), sorted(before - self._held)
        details, flaps = self._board.details(), self._steady.flaps()
        for reason in raised:
            log.warning("unwell", reason=reason, detail=details.get(reason, ""), flaps=flaps.get(reason, 0))
        for reason in cleared:
            log.info("well_again", reason=reason, flaps=flaps.get(reason, 0))
        self._told = self._held
        body = Health(_tokens(self._held), _tokens(raised), _tokens(cleared))
        self._outbox.stage(Draft(self._time_base.stamp(now_ns), body))

    def _refresh(self) -> None:
        now_ns = self._clock.boottime_ns()
        backlog = self._outbox.backlog()
        details, flaps = self._board.details(), self._steady.flaps()
        told = {reason: _detail(details.get(reason), flaps.get(reason, 0)) for reason in sorted(self._held)}
        self._states.set_state(
            HealthState(
                boottime_ms=now_ns // 1_000_000,
                utc=self._time_base.utc(now_ns),
                reasons=_tokens(self._held),
                details=tuple((str(reason), detail) for reason, detail in told.items()),
                backlog_records=backlog.records,
                backlog_oldest_utc=_oldest_utc(backlog),
            )
        )


def _tokens(reasons: Iterable[HealthReason]) -> tuple[str, ...]:
    return tuple(sorted(str(reason) for reason in reasons))


def _detail(detail: str | None, flaps: int) -> str:
    """What a person is told of a reason: of one that flaps how often, and when it is just not there."""
    parts = [AWAY_NOW if detail is None else detail]
    if flaps:
        parts.append("came and went once" if flaps == 1 else f"came and went {flaps} times")
    return masked("; ".join(part for part in parts if part))


def _oldest_utc(backlog: Backlog) -> Utc | None:
    """UTC of the oldest undelivered record, None when none waits or it has none.

    The store keeps no pedigree in its counters: the UTC is passed on as the weakest there is.
    """
    times = [one.oldest_utc_ms for one in backlog.streams.values() if one.oldest_utc_ms is not None]
    return Utc(min(times), UtcSource.LAST_KNOWN, None) if times else None
