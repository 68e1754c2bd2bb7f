"""Whether a unit is ready for its shift: a line a subject, from what the agent knows. A pure rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from agent.domain.health import HealthReason

OLDEST_FIX_S: Final = 10.0
_LEAST: Final = (
    ("fuel", "Powertrain.FuelSystem.RelativeLevel", 25.0, "%"),
    ("battery", "LowVoltageBattery.CurrentVoltage", 11.8, "V"),
    ("oxygen", "Ambulance.Oxygen.Pressure", 3_500.0, "kPa"),
)
"""What there must be at least; of oxygen a quarter of a full cylinder."""
_TIME_SOURCES: Final = ("gnss", "ntp")


class Ready(StrEnum):
    """How a subject stands. What is not known is unknown, and never good."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Subject:
    """One line.

    Attributes:
        name: a token, such as `position`.
        ready: how it stands.
        text: one plain sentence.
    """

    name: str
    ready: Ready
    text: str


def readiness(status: Mapping[str, Any]) -> list[Subject]:
    """The lines, from what the daemon thinks of itself (`Daemon.status`)."""
    return [
        *_uplink(status),
        *_position(status),
        *_crew(status),
        *_health(status),
        *_vehicle(status.get("vehicle", {})),
        *_stores(status.get("vehicle_events", {})),
    ]


def _uplink(status: Mapping[str, Any]) -> Iterator[Subject]:
    link = status["link"]
    if link["connected"]:
        yield Subject("dispatch", Ready.GOOD, "Dispatch can be reached.")
    else:
        why = link["last_failure"] or "not yet tried"
        yield Subject("dispatch", Ready.BAD, f"Dispatch can not be reached: {why}.")
    waiting = sum(status["backlog"].values())
    if waiting and not link["connected"]:
        yield Subject("backlog", Ready.BAD, f"{waiting} records wait to be sent.")
    source = status["clock"]["utc_source"]
    if source in _TIME_SOURCES:
        yield Subject("time", Ready.GOOD, f"The time is known, from {source.upper()}.")
    else:
        yield Subject("time", Ready.BAD, "The time is not known.")


def _position(status: Mapping[str, Any]) -> Iterator[Subject]:
    position = status["position"]
    if position is None:
        yield Subject("position", Ready.BAD, "There is no position: let the antenna see the sky.")
    elif position["age_s"] > OLDEST_FIX_S:
        yield Subject("position", Ready.BAD, f"The position is {position['age_s']:.0f} s old.")
    else:
        yield Subject("position", Ready.GOOD, "There is a position.")


def _crew(status: Mapping[str, Any]) -> Iterator[Subject]:
    shown = status["crew"].get("status")
    if shown:
        yield Subject("status", Ready.GOOD, f"The unit is {str(shown).replace('_', ' ')}.")
    else:
        yield Subject("status", Ready.UNKNOWN, "No status was set yet.")


def _health(status: Mapping[str, Any]) -> Iterator[Subject]:
    for reason, detail in sorted(status["health"].items()):
        known = next((one for one in HealthReason if one == reason), None)
        sentence = f"{reason}." if known is None else known.sentence
        yield Subject(str(reason), Ready.BAD, f"{sentence} ({detail})" if detail else sentence)
    if not status["health"]:
        yield Subject("equipment", Ready.GOOD, "All equipment is well.")


def _vehicle(signals: Mapping[str, Any]) -> Iterator[Subject]:
    for name, signal, least, unit in _LEAST:
        if signal not in signals:
            continue  # the vehicle has no such signal
        value = signals[signal]
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield Subject(name, Ready.UNKNOWN, f"The {name} is not known now.")
        elif value >= least:
            yield Subject(name, Ready.GOOD, f"The {name} is at {value:.4g} {unit}.")
        else:
            yield Subject(name, Ready.BAD, f"The {name} is at {value:.4g} {unit}, less than {least:g}.")


def _stores(events: Mapping[str, Any]) -> Iterator[Subject]:
    for place in sorted(events.get("outside_limits", ())):
        yield Subject("stores", Ready.BAD, f"{place} is outside its limits.")
    for code in events.get("trouble_codes", ()):
        yield Subject("trouble_code", Ready.BAD, f"The vehicle tells a fault: {code}.")
