"""Distance, engine hours and days since each service of a vehicle, and what is due. A pure rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.domain.record import SignalValue
from agent.domain.vehicle import Signal

ODOMETER, ENGINE_HOURS, SPEED = (
    "TraveledDistance", "Powertrain.CombustionEngine.EngineHours", "Speed"
)  # fmt: skip
RUNNING, ENGINE_SPEED = "Powertrain.CombustionEngine.IsRunning", "Powertrain.CombustionEngine.Speed"
_RUNS_ABOVE_RPM = 300.0
_NS = 1_000_000_000
_STALE_NS = 10 * _NS
_FARTHEST_M, _LONGEST_H = 2_000_000.0, 2_000.0
"""A jump by more is another instrument, or an error; what is between is not counted."""
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class ServiceItem:
    """A service that comes again; what is None does not matter to it."""

    name: str
    every_m: float | None
    every_h: float | None
    every_days: float | None


@dataclass(frozen=True, slots=True)
class Since:
    """What passed since a service: metres, engine hours, days; None where it is not known.

    Attributes:
        due: by any of the three.
    """

    item: str
    distance_m: float
    engine_h: float
    days: float | None
    due: bool


class ServiceBook:
    """Counts, by the vehicle's own odometer and hours where it tells them, else by speed and engine. Not
    thread-safe; fed in the order of time.
    """

    def __init__(self, items: Iterable[ServiceItem]) -> None:
        self._items = {item.name: item for item in items}
        self._distance_m = 0.0
        self._engine_h = 0.0
        self._odometer_m: float | None = None
        self._hours: float | None = None
        self._at: dict[str, tuple[float, float, int | None]] = {}
        self._values: dict[str, SignalValue | None] = {}
        self._passed_ns: int | None = None
        self._told_due: set[str] = set()

    @property
    def items(self) -> tuple[str, ...]:
        """Names of all services."""
        return tuple(self._items)

    def take(self, signals: Iterable[Signal]) -> None:
        """Take changed signals."""
        for signal in signals:
            if signal.name not in (ODOMETER, ENGINE_HOURS, SPEED, RUNNING, ENGINE_SPEED):
                continue
            self._pass(signal.received_boottime_ns)
            value = signal.value
            if signal.name == ODOMETER and (metres := _number(value)) is not None:
                self._distance_m += _moved(self._odometer_m, metres, _FARTHEST_M)
                self._odometer_m = metres
            elif signal.name == ENGINE_HOURS and (hours := _number(value)) is not None:
                self._engine_h += _moved(self._hours, hours, _LONGEST_H)
                self._hours = hours
            self._values[signal.name] = value

    def done(self, item: str, unix_ms: int | None) -> None:
        """A service was done now. Raises ValueError, in words, for one that is not configured."""
        if item not in self._items:
            known = ", ".join(sorted(self._items)) or "none is configured"
            raise ValueError(f"{item!r:.40} is no service of this vehicle; there are: {known}")
        self._at[item] = (self._distance_m, self._engine_h, unix_ms)
        self._told_due.discard(item)

    def since(self, unix_ms: int | None) -> list[Since]:
        """What passed since each service; one that was never done counts from the first start."""
        found = []
        for item in self._items.values():
            distance_m, engine_h, at_ms = self._at.get(item.name, (0.0, 0.0, None))
            passed_m, passed_h = self._distance_m - distance_m, self._engine_h - engine_h
            days = None if at_ms is None or unix_ms is None else max(0.0, (unix_ms - at_ms) / _DAY_MS)
            due = (
                (item.every_m is not None and passed_m >= item.every_m)
                or (item.every_h is not None and passed_h >= item.every_h)
                or (item.every_days is not None and days is not None and days >= item.every_days)
            )
            found.append(Since(item.name, passed_m, passed_h, days, due))
        return found

    def newly_due(self, unix_ms: int | None) -> list[Since]:
        """Services that became due, each told once until it is done."""
        for name, (distance_m, engine_h, at_ms) in self._at.items():
            if at_ms is None and unix_ms is not None:
                # Nobody knew the time when it was written: days count from when somebody does.
                self._at[name] = (distance_m, engine_h, unix_ms)
        due = [one for one in self.since(unix_ms) if one.due and one.item not in self._told_due]
        self._told_due.update(one.item for one in due)
        return due

    def remembered(self) -> dict[str, Any]:
        """What a restart must know, JSON-able."""
        return {
            "distance_m": round(self._distance_m),
            "engine_h": round(self._engine_h, 3),
            "odometer_m": self._odometer_m,
            "hours": self._hours,
            "done": {name: list(at) for name, at in sorted(self._at.items())},
            "told_due": sorted(self._told_due),
        }

    def restore(self, given: Mapping[str, Any], unix_ms: int | None) -> None:
        """Take up where the last run ended. Raises ValueError when what was remembered makes no sense."""
        try:
            distance_m, engine_h = _amount(given.get("distance_m", 0)), _amount(given.get("engine_h", 0))
            odometer_m, hours = _maybe(given.get("odometer_m")), _maybe(given.get("hours"))
            done = {
                str(name): (_amount(at[0]), _amount(at[1]), None if at[2] is None else int(at[2]))
                for name, at in dict(given.get("done", {})).items()
            }
            told_due = {str(one) for one in given.get("told_due", [])}
        except (TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise ValueError("not what a service book remembers") from error
        self._distance_m, self._engine_h = distance_m, engine_h
        self._odometer_m, self._hours = odometer_m, hours
        self._at = {name: at for name, at in done.items() if name in self._items}
        self._told_due = told_due & set(self._items)
        for name in self._items:
            # A vehicle that gets its first book counts from that day.
            self._at.setdefault(name, (self._distance_m, self._engine_h, unix_ms))

    def _pass(self, at_ns: int) -> None:
        """Count the time since the last signal, where no instrument does."""
        before_ns, self._passed_ns = self._passed_ns, at_ns
        if before_ns is None or not 0 < at_ns - before_ns <= _STALE_NS:
            return
        seconds = (at_ns - before_ns) / _NS
        speed = _number(self._values.get(SPEED))
        if self._odometer_m is None and speed is not None:
            self._distance_m += abs(speed) / 3.6 * seconds
        if self._hours is None and self._runs():
            self._engine_h += seconds / 3600

    def _runs(self) -> bool:
        rpm = _number(self._values.get(ENGINE_SPEED))
        return self._values.get(RUNNING) is True or (rpm is not None and rpm > _RUNS_ABOVE_RPM)


def _moved(before: float | None, now: float, most: float) -> float:
    return now - before if before is not None and 0 <= now - before <= most else 0.0


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _maybe(value: Any) -> float | None:
    return None if value is None else _amount(value)


def _amount(value: Any) -> float:
    number = _number(value)
    if number is None or number < 0:
        raise ValueError("not an amount")
    return number
