"""Trips, from ignition on to ignition off: distance, time, idling, fuel, speed, lights. A pure rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeGuard

from agent.domain.record import SignalValue, TripRecord
from agent.domain.vehicle import Signal

IGNITION = "LowVoltageSystemState"
ENGINE_MAY_RUN = ("ON", "START")
"""Values of that signal with which the engine may run."""
FUEL_USED, FUEL_LEVEL = "Ambulance.Chassis.FuelUsed", "Powertrain.FuelSystem.AbsoluteLevel"
MOST_NOTED = 8
_NS = 1_000_000_000
_STALE_NS = 10 * _NS
"""Two speeds farther apart say nothing about the way between."""
_AT_REST_MPS = 0.3


class TripMeter:
    """Takes signals in the order of time; gives the trip when the ignition goes off. Not thread-safe.

    The distance is the odometer's where there is one, else the speed's over time. Time goes by the stamps of
    the signals. What a vehicle does not tell stays None.
    """

    def __init__(self) -> None:
        self._values: dict[str, SignalValue | None] = {}
        self._begun_ns: int | None = None
        self._first_odometer_m: float | None = None
        self._metres = 0.0
        self._has_speed = False
        self._top_mps = 0.0
        self._speed_at: tuple[int, float] | None = None
        self._seconds: dict[str, float] = {}
        self._known: set[str] = set()
        self._at_ns = 0
        self._events_before: dict[str, int] = {}
        self._drivers: dict[str, None] = {}
        self._incidents: dict[str, None] = {}
        self._statuses: dict[str, float] = {}
        self._noted_ns: int | None = None
        self._fuel: tuple[float | None, float | None] = (None, None)

    @property
    def is_driving(self) -> bool:
        """True from ignition on to ignition off."""
        return self._begun_ns is not None

    def take(self, signals: Iterable[Signal], events: Mapping[str, int]) -> list[tuple[int, TripRecord]]:
        """Take signals; (CLOCK_BOOTTIME, record) of a trip that ended.

        Args:
            signals: oldest first.
            events: driving events so far by kind, as counted since this object was made.
        """
        ended: list[tuple[int, TripRecord]] = []
        for signal in signals:
            at_ns, value = signal.received_boottime_ns, signal.value
            if self._begun_ns is not None:
                self._pass(at_ns)
            self._at_ns = max(self._at_ns, at_ns)
            if signal.name == IGNITION and isinstance(value, str):
                if value in ENGINE_MAY_RUN and self._begun_ns is None:
                    self._begin(at_ns, events)
                elif value not in ENGINE_MAY_RUN and self._begun_ns is not None:
                    ended.append((at_ns, self._end(at_ns, events)))
            elif signal.name == "Speed":
                self._speed(value, at_ns)
            elif signal.name in (FUEL_USED, FUEL_LEVEL) and self._begun_ns is not None:
                self._first_fuel(signal.name, value)
            elif signal.name == "TraveledDistance" and _is_number(value) and self._first_odometer_m is None:
                self._first_odometer_m = float(value)
            self._values[signal.name] = value
        return ended

    def note(self, now_ns: int, status: str | None, incident: str | None, driver: str | None) -> None:
        """What the crew does, about once a second; counted for the trip that lasts."""
        before_ns, self._noted_ns = self._noted_ns, now_ns
        if self._begun_ns is None:
            return
        if driver is not None and len(self._drivers) < MOST_NOTED:
            self._drivers[driver] = None
        if incident is not None and len(self._incidents) < MOST_NOTED:
            self._incidents[incident] = None
        if status is not None and before_ns is not None and 0 < now_ns - before_ns <= _STALE_NS:
            self._statuses[status] = self._statuses.get(status, 0.0) + (now_ns - before_ns) / _NS

    def _begin(self, at_ns: int, events: Mapping[str, int]) -> None:
        self._begun_ns = self._at_ns = at_ns
        odometer = self._values.get("TraveledDistance")
        self._first_odometer_m = float(odometer) if _is_number(odometer) else None
        self._metres, self._top_mps, self._has_speed, self._speed_at = 0.0, 0.0, False, None
        self._seconds, self._known = {}, set()
        self._events_before = dict(events)
        self._drivers, self._incidents, self._statuses, self._noted_ns = {}, {}, {}, None
        self._fuel = self._fuel_now()

    def _first_fuel(self, name: str, value: SignalValue | None) -> None:
        """What is told first after the ignition came on is what there was."""
        used, tank = self._fuel
        if name == FUEL_USED and used is None and _is_number(value):
            self._fuel = float(value), tank
        elif name == FUEL_LEVEL and tank is None and _is_number(value):
            self._fuel = used, float(value)

    def _fuel_now(self) -> tuple[float | None, float | None]:
        """(fuel used since ever, fuel in the tank) in litres; None for what is not told."""
        used, tank = self._values.get(FUEL_USED), self._values.get(FUEL_LEVEL)
        return float(used) if _is_number(used) else None, float(tank) if _is_number(tank) else None

    def _fuel_l(self) -> float | None:
        (used, tank), (used_before, tank_before) = self._fuel_now(), self._fuel
        if used is not None and used_before is not None and used >= used_before:
            return round(used - used_before, 2)
        if tank is not None and tank_before is not None and tank <= tank_before:
            return round(tank_before - tank, 2)
        return None  # not told, or filled up meanwhile

    def _pass(self, at_ns: int) -> None:
        """Count the time since the last signal for what held meanwhile."""
        passed_s = (at_ns - self._at_ns) / _NS
        if not 0 < passed_s <= _STALE_NS / _NS:
            return
        running = self._values.get("Powertrain.CombustionEngine.IsRunning")
        speed = self._values.get("Speed")
        for name, holds in (
            ("lights", self._values.get("Ambulance.EmergencyLights.IsOn")),
            ("siren", self._values.get("Ambulance.Siren.IsOn")),
            ("idle", _idles(running, speed)),
        ):
            if holds is not None:
                self._known.add(name)
                self._seconds[name] = self._seconds.get(name, 0.0) + (passed_s if holds is True else 0.0)

    def _speed(self, value: SignalValue | None, at_ns: int) -> None:
        if not _is_number(value):
            self._speed_at = None
            return
        speed = abs(float(value)) / 3.6
        if self._begun_ns is not None:
            self._has_speed = True
            self._top_mps = max(self._top_mps, speed)
            if self._speed_at is not None and 0 < at_ns - self._speed_at[0] <= _STALE_NS:
                self._metres += (speed + self._speed_at[1]) / 2 * (at_ns - self._speed_at[0]) / _NS
        self._speed_at = (at_ns, speed)

    def _end(self, at_ns: int, events: Mapping[str, int]) -> TripRecord:
        assert self._begun_ns is not None
        begun_ns, self._begun_ns = self._begun_ns, None
        odometer = self._values.get("TraveledDistance")
        last = float(odometer) if _is_number(odometer) else None
        distance: float | None = self._metres if self._has_speed else None
        if last is not None and self._first_odometer_m is not None and last >= self._first_odometer_m:
            distance = last - self._first_odometer_m
        happened = tuple(
            sorted((kind, count - self._events_before.get(kind, 0)) for kind, count in events.items())
        )
        return TripRecord(
            from_boottime_ms=begun_ns // 1_000_000,
            duration_s=(at_ns - begun_ns) // _NS,
            distance_m=None if distance is None else round(distance),
            odometer_m=None if last is None else round(last),
            idle_s=self._whole("idle"),
            top_speed_mps=round(self._top_mps, 2) if self._has_speed else None,
            lights_s=self._whole("lights"),
            siren_s=self._whole("siren"),
            fuel_l=self._fuel_l(),
            driver=next(iter(self._drivers)) if len(self._drivers) == 1 else None,
            drivers=tuple(self._drivers) or None,
            incidents=tuple(self._incidents) or None,
            statuses=tuple((status, round(seconds)) for status, seconds in sorted(self._statuses.items()))
            or None,
            events=tuple((kind, count) for kind, count in happened if count) or None,
        )

    def _whole(self, name: str) -> int | None:
        return round(self._seconds.get(name, 0.0)) if name in self._known else None


def _idles(running: SignalValue | None, speed: SignalValue | None) -> bool | None:
    if running is None or not _is_number(speed):
        return None
    return running is True and speed / 3.6 < _AT_REST_MPS


def _is_number(value: SignalValue | None) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
