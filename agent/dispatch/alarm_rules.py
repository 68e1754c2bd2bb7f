"""What is an alarm: something that a dispatcher must act upon. Everything else is a colour or a word.

Three priorities: high is the crew's emergency alone (made where the press is stored), medium is what
endangers a run, low is what somebody should look at. Few by intention: what needs no response is no alarm.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent.dispatch.fleet import ON_A_RUN, Fleet, Unit
from agent.dispatch.settings import Picture
from agent.wire.topics import Topics

GRAVE_HEALTH = frozenset(
    {"store_full", "store_read_only", "store_io_error", "buttons_lost", "gnss_lost", "identity_conflict"}
)
"""Reasons of a unit's health on which somebody at dispatch can act: have it driven home, or take another."""


def causes(
    fleet: Fleet, calls: Iterable[dict[str, Any]], now_ms: int
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What holds now, by (kind, agency, unit)."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}

    def add(kind: str, priority: str, topics: Topics, text: str) -> None:
        found[kind, topics.agency, topics.unit] = {
            "kind": kind,
            "priority": priority,
            "agency": topics.agency,
            "unit": topics.unit,
            "text": text,
            "raised_ms": now_ms,
        }

    for call in calls:
        waited_s = (now_ms - call["assigned_ms"]) / 1000
        if call["acknowledged_ms"] is None and waited_s > fleet.picture.call_unacknowledged_after_s:
            text = f"Call {call['incident']} is not acknowledged."
            add("call_unacknowledged", "medium", Topics(call["agency"], call["unit"]), text)
    for unit in fleet:
        for kind, priority, text in _of_unit(unit, fleet.picture, now_ms):
            add(kind, priority, unit.topics, text)
    return found


def _of_unit(unit: Unit, picture: Picture, now_ms: int) -> Iterable[tuple[str, str, str]]:
    on_a_run = unit.status in ON_A_RUN
    lost_s = None if unit.online is not False or unit.link_ms is None else (now_ms - unit.link_ms) / 1000
    if on_a_run and lost_s is not None and lost_s > picture.lost_on_run_after_s:
        yield "lost_on_run", "medium", f"No connection while {str(unit.status).replace('_', ' ')}."
    if on_a_run and unit.online and unit.freshness(now_ms, picture) == "stale":
        yield "position_stale", "low", "Connected, but its position is old."
    reasons = unit.states.get("health", {}).get("reasons", [])
    grave = sorted(GRAVE_HEALTH.intersection(reasons))
    if unit.online and grave:
        yield "unit_ill", "low", "The vehicle's computer says: " + ", ".join(grave).replace("_", " ") + "."
