"""Keeps the agent's units running: expected faults wait and retry, unexpected ones spend a budget."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.hal.errors import HardwareError
from agent.runtime.log import EventLog
from agent.runtime.plain_text import told
from agent.runtime.shortage import lacks_descriptors

log = EventLog("supervisor")
_MOST_DOUBLINGS = 16
"""A device may be absent for weeks; a pause that doubles for ever overflows after a thousand attempts."""
Progress = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the agent that runs until it is cancelled.

    Attributes:
        name: for the log and `mdt status`.
        run: the unit's loop; it calls the given function at least once a second while it is well.
    """

    name: str
    run: Callable[[Progress], Awaitable[None]]


class BudgetSpentError(Exception):
    """A unit failed unexpectedly too often; the agent must drain and be started afresh."""


class Supervisor:
    """Runs units as tasks of one loop. Times are the loop's, so that simulated time works too."""

    def __init__(self, settings: config.Supervision, health: HealthBoard, rng: random.Random) -> None:
        self._settings = settings
        self._health = health
        self._rng = rng
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._progress_at: dict[str, float] = {}
        self._states: dict[str, str] = {}
        self._failures: dict[str, deque[float]] = {}
        self._said_running: set[str] = set()
        self._lacking: set[str] = set()
        self._fatal: asyncio.Future[None] | None = None

    def start(self, unit: Unit) -> None:
        """Start a unit. Its end, however it comes, is handled here."""
        loop = asyncio.get_running_loop()
        if unit.name in self._tasks:
            raise ValueError(f"there is a unit {unit.name!r} already")
        if self._fatal is None:
            self._fatal = loop.create_future()
        self._progress_at[unit.name] = loop.time()
        self._failures[unit.name] = deque()
        self._tasks[unit.name] = loop.create_task(self._keep(unit), name=f"unit-{unit.name}")

    async def failed(self) -> None:
        """Wait until a unit's budget is spent. Raises BudgetSpentError, or a unit's ConfigError."""
        if self._fatal is None:
            self._fatal = asyncio.get_running_loop().create_future()
        await self._fatal

    async def stop(self, names: list[str], deadline_s: float) -> None:
        """Cancel units and wait for them; a unit that does not end in time is told in the log."""
        tasks = [self._tasks.pop(name) for name in names if name in self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=deadline_s)
            for task in late:
                log.error("unit_would_not_stop", unit=task.get_name(), deadline_s=deadline_s)
        for name in names:
            self._progress_at.pop(name, None)
            self._states.pop(name, None)
            self._lacking.discard(name)
            self._health.clear(HealthReason.NO_DESCRIPTORS, owner=name)

    def laggards(self) -> list[str]:
        """Units that reported no progress within the time-out; empty when all is well."""
        oldest = asyncio.get_running_loop().time() - self._settings.progress_timeout_s
        return [name for name, at in self._progress_at.items() if at < oldest]

    def states(self) -> dict[str, str]:
        """Each unit's state: "starting", "running", or "waiting: " and why."""
        return dict(self._states)

    async def _keep(self, unit: Unit) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            self._states[unit.name] = "starting"
            started_at = loop.time()
            try:
                await unit.run(lambda: self._progressed(unit))
                raise RuntimeError("the unit ended by itself")  # noqa: TRY301  # handled as any other defect
            except HardwareError as error:
                if self._long_enough(started_at):
                    attempt = 0
                if attempt == 0:
                    log.warning("device_lost", unit=unit.name, device=error.device, why=error.why)
                why = str(error)
            except config.ConfigError as error:
                # Starting again does not mend what is written in a file.
                log.error("unit_can_not_be_configured", unit=unit.name, problems=error.problems)
                self._end_with(error)
                return
            except (Exception, asyncio.CancelledError) as error:  # the supervision boundary
                if _is_ours(error):
                    raise
                why = told(error)
                if not self._may_restart(unit, error):
                    return
            if attempt == 0:
                self._said_running.discard(unit.name)
            await self._wait(unit, attempt, why)
            attempt += 1

    def _progressed(self, unit: Unit) -> None:
        self._progress_at[unit.name] = asyncio.get_running_loop().time()
        self._states[unit.name] = "running"
        if unit.name in self._lacking:
            self._lacking.discard(unit.name)
            self._health.clear(HealthReason.NO_DESCRIPTORS, owner=unit.name)
        if unit.name not in self._said_running:
            # Said once for each loss, not at every attempt to open what is absent.
            self._said_running.add(unit.name)
            log.info("unit_running", unit=unit.name)

    def _lacks_descriptors(self, unit: Unit, why: str) -> None:
        """A state of the computer and no defect of the unit: starting the agent anew would lose more."""
        if unit.name not in self._lacking:
            log.warning("no_descriptors", unit=unit.name, why=why)
        self._lacking.add(unit.name)
        self._health.raise_(HealthReason.NO_DESCRIPTORS, f"{unit.name}: {why}", owner=unit.name)

    def _long_enough(self, started_at: float) -> bool:
        """Whether a unit ran for so long that its next failure is a new story."""
        return asyncio.get_running_loop().time() - started_at > self._settings.backoff_max_s

    def _may_restart(self, unit: Unit, error: BaseException) -> bool:
        if lacks_descriptors(error):
            self._lacks_descriptors(unit, told(error))
            return True
        loop = asyncio.get_running_loop()
        now = loop.time()
        failures = self._failures[unit.name]
        failures.append(now)
        while failures and failures[0] < now - self._settings.restart_window_s:
            failures.popleft()
        log.error("unit_failed", unit=unit.name, error=error, failures=len(failures), exc=error)
        self._health.raise_(HealthReason.UNIT_RESTARTED, f"{unit.name}: {told(error)}", owner=unit.name)
        loop.call_later(self._settings.restart_window_s, self._forgive, unit.name)
        if len(failures) <= self._settings.restart_budget:
            return True
        self._end_with(BudgetSpentError(f"{unit.name} failed {len(failures)} times: {told(error)}"))
        return False

    def _end_with(self, error: Exception) -> None:
        """Let `failed` raise `error`, if nothing else did yet."""
        if self._fatal is not None and not self._fatal.done():
            self._fatal.set_exception(error)

    def _forgive(self, name: str) -> None:
        """A unit that did not fail for the whole window is well again."""
        oldest = asyncio.get_running_loop().time() - self._settings.restart_window_s
        if not any(at > oldest for at in self._failures.get(name, ())):
            self._health.clear(HealthReason.UNIT_RESTARTED, owner=name)

    async def _wait(self, unit: Unit, attempt: int, why: str) -> None:
        # Full jitter between half and the whole, so that units that failed together do not retry together.
        doublings = min(attempt, _MOST_DOUBLINGS)
        ceiling_s = min(self._settings.backoff_min_s * 2**doublings, self._settings.backoff_max_s)
        remaining_s = ceiling_s * self._rng.uniform(0.5, 1)
        self._states[unit.name] = f"waiting: {why}"
        while remaining_s > 0:
            # Waiting for a device is progress: an absent receiver must not starve the watchdog.
            self._progress_at[unit.name] = asyncio.get_running_loop().time()
            step_s = min(remaining_s, 1.0)
            await asyncio.sleep(step_s)
            remaining_s -= step_s


def _is_ours(error: BaseException) -> bool:
    """True when the supervisor itself cancels the unit; one that a unit let escape is a defect of it."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)
