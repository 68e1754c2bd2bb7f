"""Temperatures, pressures and voltages that must keep within limits: excursions from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.domain.record import Excursion
from agent.domain.vehicle import Signal


@dataclass(frozen=True, slots=True)
class WatchedPlace:
    """What is watched.

    Attributes:
        name: of the place, such as "drug_fridge".
        signal: VSS path below `Vehicle.`.
        low: lower limit in the signal's unit; None for none.
        high: upper limit; None for none.
        dwell_ns: an excursion begins when it lasted so long, and ends likewise.
        hysteresis: so far inside the value must be for an end.
    """

    name: str
    signal: str
    low: float | None
    high: float | None
    dwell_ns: int
    hysteresis: float


class StoreWatch:
    """Watches places. Fed in the order of time; not thread-safe.

    A value that is no longer known ends nothing and begins nothing: an open door of a fridge whose sensor
    fell silent is no cold fridge.
    """

    def __init__(self, places: Iterable[WatchedPlace]) -> None:
        self._places: dict[str, list[_Place]] = {}
        for place in places:
            self._places.setdefault(place.signal, []).append(_Place(place))

    def take(self, signals: Iterable[Signal]) -> list[tuple[int, Excursion]]:
        """Take signals; (CLOCK_BOOTTIME, record) of what began or ended."""
        told: list[tuple[int, Excursion]] = []
        for signal in signals:
            value = signal.value
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            for place in self._places.get(signal.name, ()):
                found = place.take(float(value), signal.received_boottime_ns)
                if found is not None:
                    told.append(found)
        return told

    def open(self) -> list[str]:
        """Names of the places that are outside now, sorted."""
        return sorted(
            place.rule.name for places in self._places.values() for place in places if place.is_open
        )


class _Place:
    def __init__(self, rule: WatchedPlace) -> None:
        self.rule = rule
        self.is_open = False
        self._since_ns: int | None = None
        self._begun_ns = 0
        self._extreme = 0.0

    def take(self, value: float, at_ns: int) -> tuple[int, Excursion] | None:
        outside, inside = self._outside(value, 0), not self._outside(value, self.rule.hysteresis)
        if self.is_open:
            if outside:
                self._extreme = self._farther(value)
            return self._ends(at_ns) if self._lasts(inside, at_ns) else None
        if outside:
            self._extreme = value if self._since_ns is None else self._farther(value)
        if not self._lasts(outside, at_ns):
            return None
        assert self._since_ns is not None
        self.is_open, self._begun_ns, self._since_ns = True, self._since_ns, None
        return self._begun_ns, self._record(at_ns, is_open=True)

    def _ends(self, at_ns: int) -> tuple[int, Excursion]:
        ended_ns = at_ns if self._since_ns is None else self._since_ns
        self.is_open, self._since_ns = False, None
        return at_ns, self._record(ended_ns, is_open=False)

    def _lasts(self, holds: bool, at_ns: int) -> bool:
        if not holds:
            self._since_ns = None
            return False
        if self._since_ns is None:
            self._since_ns = at_ns
        return at_ns - self._since_ns >= self.rule.dwell_ns

    def _outside(self, value: float, margin: float) -> bool:
        low, high = self.rule.low, self.rule.high
        return (low is not None and value < low + margin) or (high is not None and value > high - margin)

    def _farther(self, value: float) -> float:
        return value if self._distance(value) > self._distance(self._extreme) else self._extreme

    def _distance(self, value: float) -> float:
        low, high = self.rule.low, self.rule.high
        below = low - value if low is not None else float("-inf")
        above = value - high if high is not None else float("-inf")
        return max(below, above)

    def _record(self, until_ns: int, *, is_open: bool) -> Excursion:
        rule = self.rule
        return Excursion(
            signal=rule.signal,
            place=rule.name,
            open=is_open,
            extreme=self._extreme,
            low=rule.low,
            high=rule.high,
            duration_s=max(0, (until_ns - self._begun_ns) // 1_000_000_000),
        )
