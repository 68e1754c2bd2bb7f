"""Parking and the end of the power, wired together. Imported only where `[power]` is configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from agent.app.crew_parts import CrewParts
from agent.app.platform import Platform
from agent.config.power import Power
from agent.domain.health import HealthBoard
from agent.domain.power import Hold
from agent.hal.clock import Clock
from agent.outbox.outbox import Outbox
from agent.paths.fix_path import ON_INCIDENT, WHEEL_SPEED, FixPath
from agent.paths.power_path import PowerPath
from agent.uplink.publisher import Publisher

MOVES_ABOVE_MPS = 1.5
MOVES_ABOVE_KMH = 3.0
"""Slower is what a receiver makes of a unit that stands, and a wheel of one that rolls to a halt."""
FRESH_NS = 5_000_000_000


class Resting(Protocol):
    """What tells less while the unit parks."""

    def rest(self, interval_s: float | None) -> None:
        """Tell this seldom; None for as often as configured."""
        ...


def power_path(
    settings: Power,
    platform: Platform,
    clock: Clock,
    health: HealthBoard,
    *,
    crew: CrewParts,
    fixes: FixPath,
    outbox: Outbox,
    publisher: Publisher,
    resting: list[Resting],
    signals: Callable[[], Mapping[str, Any]],
) -> PowerPath:
    """The path of the ignition, with what it must know and do."""

    def moving() -> bool:
        fix, wheels_kmh = fixes.newest, signals().get(WHEEL_SPEED)
        if isinstance(wheels_kmh, int | float) and not isinstance(wheels_kmh, bool):
            return wheels_kmh > MOVES_ABOVE_KMH
        if fix is None or clock.boottime_ns() - fix.received_boottime_ns > FRESH_NS:
            return False
        return fix.has_position and fix.speed_mps is not None and fix.speed_mps > MOVES_ABOVE_MPS

    def holds() -> frozenset[Hold]:
        presses = crew.presses.snapshot()
        found = {
            Hold.RUN: crew.run.incident is not None or presses["status"] in ON_INCIDENT,
            Hold.EMERGENCY: bool(presses["emergency"]),
            # A store that could not be opened may hold a run that nobody here knows of.
            Hold.NOT_STORED: bool(presses["presses_not_stored"]) or not outbox.boot,
        }
        return frozenset(hold for hold, so in found.items() if so)

    def on_parked(parked: bool) -> None:
        publisher.set_parked(parked)
        for one in (fixes, *resting):
            one.rest(settings.parked_report_s if parked else None)

    publisher.set_parked(False)
    return PowerPath(
        settings,
        clock,
        health,
        signals=signals,
        moving=moving,
        holds=holds,
        flush=outbox.flush,
        on_parked=on_parked,
        switch=platform.power_switch(settings.request_file),
    )
