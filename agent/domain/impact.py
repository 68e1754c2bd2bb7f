"""Whether the vehicle hit something, by an accelerometer, a crash signal, or wheels that stop too fast."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from agent.domain.record import SignalValue
from agent.domain.vehicle import Signal

SPEED = "Speed"
LONGITUDINAL, LATERAL = "Acceleration.Longitudinal", "Acceleration.Lateral"
CRASH = "Ambulance.Crash.IsDetected"
_AIRBAG = ".Airbag.IsDeployed"
STEP_WITHIN_NS = 300_000_000
"""A step of the speed is looked for over so long: two to thirty frames of a usual bus."""
_TOGETHER_NS = 100_000_000
"""Both axes of an accelerometer belong together when they are no farther apart."""
_STILL_LESS = 0.75
"""The next speed must show at least this share of a step too: one wrong frame is no impact."""
_CAN_NOT_BE_MPS = 120.0


def tells_of_impacts(name: str) -> bool:
    """Whether a signal of this name is looked at."""
    return name in (SPEED, LONGITUDINAL, LATERAL, CRASH) or name.endswith(_AIRBAG)


@dataclass(frozen=True, slots=True)
class ImpactLimits:
    """From where on it was an impact.

    Attributes:
        acceleration_mps2: of the two horizontal axes together; hard braking is 10.
        speed_step_mps: loss of speed within 0.3 s. Tyres manage 3 on a dry road.
    """

    acceleration_mps2: float = 30.0
    speed_step_mps: float = 4.5


@dataclass(frozen=True, slots=True)
class Impact:
    """An impact.

    Attributes:
        at_ns: CLOCK_BOOTTIME.
        why: what was seen, for a person.
    """

    at_ns: int
    why: str


class ImpactWatch:
    """Takes signals at the rate of the bus, each source in the order of time. Not thread-safe.

    A locked wheel on ice is told as an impact too: a recording too many is better than one too few.
    """

    def __init__(self, limits: ImpactLimits) -> None:
        self._limits = limits
        self._speeds: deque[tuple[int, float]] = deque(maxlen=64)
        self._step_from: float | None = None
        self._axes: dict[str, tuple[int, float]] = {}
        self._switches: dict[str, bool] = {}

    def take(self, signals: Iterable[Signal]) -> Impact | None:
        """The first impact that the signals show, if any."""
        found: Impact | None = None
        for signal in signals:
            if signal.name == SPEED:
                seen = self._speed(signal.value, signal.received_boottime_ns)
            elif signal.name in (LONGITUDINAL, LATERAL):
                seen = self._axis(signal)
            elif tells_of_impacts(signal.name):
                seen = self._switch(signal)
            else:
                continue
            found = found or seen
        return found

    def _switch(self, signal: Signal) -> Impact | None:
        """A crash signal that comes on; one that was on when it was first heard is an old story."""
        if not isinstance(signal.value, bool):
            return None
        before, self._switches[signal.name] = self._switches.get(signal.name), signal.value
        came = signal.value and before is False
        return Impact(signal.received_boottime_ns, f"{signal.name} came on") if came else None

    def _axis(self, signal: Signal) -> Impact | None:
        value = _number(signal.value)
        if value is None:
            self._axes.pop(signal.name, None)
            return None
        at_ns = signal.received_boottime_ns
        self._axes[signal.name] = (at_ns, value)
        together = [axis for then_ns, axis in self._axes.values() if at_ns - then_ns <= _TOGETHER_NS]
        size = math.hypot(*together)
        if size < self._limits.acceleration_mps2:
            return None
        return Impact(at_ns, f"{size:.0f} m/s2 by the accelerometer")

    def _speed(self, value: SignalValue | None, at_ns: int) -> Impact | None:
        number = _number(value)
        if number is None or abs(number) > _CAN_NOT_BE_MPS * 3.6:
            self._speeds.clear()
            self._step_from = None
            return None
        speed = abs(number) / 3.6
        if self._speeds and not 0 <= at_ns - self._speeds[-1][0] <= STEP_WITHIN_NS:
            # Too seldom to tell a stop from a crash, or a bus that was away.
            self._speeds.clear()
            self._step_from = None
        limit = self._limits.speed_step_mps
        if self._step_from is not None:
            before, self._step_from = self._step_from, None
            if before - speed >= limit * _STILL_LESS:
                self._speeds.clear()
                self._speeds.append((at_ns, speed))
                return Impact(at_ns, f"from {before:.0f} to {speed:.0f} m/s within 0.3 s by the wheels")
        while self._speeds and at_ns - self._speeds[0][0] > STEP_WITHIN_NS:
            self._speeds.popleft()
        self._speeds.append((at_ns, speed))
        highest = max(one for _, one in self._speeds)
        if highest - speed >= limit:
            self._step_from = highest
        return None


def _number(value: SignalValue | None) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
