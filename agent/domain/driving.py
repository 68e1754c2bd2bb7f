"""Remarkable driving out of the vehicle's own signals: braking, acceleration, cornering, speed, belts, doors.

The figures that grade an event are limits by configuration; what a vehicle does not tell gives no event.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.domain.episode import Episode, Lasted
from agent.domain.record import Driving, DrivingKind, ResponseMode, SignalValue
from agent.domain.vehicle import Signal

SPEED = "Speed"
LIGHTS, SIREN = "Ambulance.EmergencyLights.IsOn", "Ambulance.Siren.IsOn"
GEAR = "Powertrain.Transmission.SelectedGear"
LATERAL, LONGITUDINAL = "Acceleration.Lateral", "Acceleration.Longitudinal"
YAW = "AngularVelocity.Yaw"
SPOTTER = "Ambulance.Spotter.IsPressed"
_REVERSE = (-9, -1)
_DRIVER = "Cabin.Seat.Row1.DriverSide"
_NS = 1_000_000_000
_LEAST_SPAN_NS, _MOST_SPAN_NS = 350_000_000, 1_500_000_000
"""Acceleration is taken over so long: shorter is the noise of a speed's last digit, longer hides a stop."""
_CAN_NOT_BE_MPS2 = 15.0
"""No ambulance brakes or turns harder on its wheels: a jump of a speed signal, and no event."""
_STALE_NS = 3 * _NS
_LEAVE_NS = 700_000_000
_SEAT_DWELL_NS, _SPEED_DWELL_NS = 5 * _NS, 3 * _NS
_AXIS_DWELL_NS = 300_000_000
"""An accelerometer shakes on a bad road; what lasts so long is the vehicle."""
_SPOTTER_DWELL_NS, _SPOTTER_AGO_NS = 2 * _NS, 60 * _NS
_HEARD_NS = 5 * _NS
"""A better source is asked alone while it was heard in this time."""
_COURSE_FROM_MPS, _COURSE_APART_NS = 4.0, (700_000_000, 1_500_000_000)
"""Below it a course of GNSS turns by itself; between two courses there must be about a second."""
TOLD_AT_ONCE = 20
REFILL_NS = 120 * _NS
"""Events of one kind in a row, and in the long run one in this time: a loose sensor fills no store."""


@dataclass(frozen=True, slots=True)
class DrivingLimits:
    """From where on driving is remarkable; of a pair, the second is the graver grade.

    Attributes:
        braking_mps2: deceleration.
        acceleration_mps2: acceleration.
        cornering_mps2: lateral acceleration.
        reversing_mps: speed in reverse.
        overspeed_mps: speed by response mode; a mode that is left out has no limit.
        motion_mps: above it, belts and doors count.
    """

    braking_mps2: tuple[float, float] = (3.5, 5.0)
    acceleration_mps2: tuple[float, float] = (3.0, 4.0)
    cornering_mps2: tuple[float, float] = (3.5, 5.0)
    reversing_mps: tuple[float, float] = (2.8, 4.2)
    overspeed_mps: tuple[tuple[ResponseMode, float], ...] = ()
    motion_mps: float = 2.0


def response_mode(lights: SignalValue | None, siren: SignalValue | None) -> ResponseMode | None:
    """How a unit drives, by its lights and siren; None when its lights are not known."""
    if lights is None:
        return None
    if not lights:
        return ResponseMode.NORMAL
    return ResponseMode.LIGHTS_AND_SIREN if siren else ResponseMode.LIGHTS


class DrivingWatch:
    """Takes signals in the order of time, gives events when they are over. Not thread-safe.

    Attributes:
        counts: events so far by kind, told or not.
        grave: those of the graver grade among them.
    """

    def __init__(self, limits: DrivingLimits) -> None:
        self._limits = limits
        self._overspeed = dict(limits.overspeed_mps)
        self._values: dict[str, SignalValue | None] = {}
        self._speeds: deque[tuple[int, float]] = deque(maxlen=64)
        self._episodes: dict[tuple[DrivingKind, str], Episode] = {}
        self._begun: dict[tuple[DrivingKind, str], tuple[ResponseMode | None, float]] = {}
        self._spent: dict[DrivingKind, tuple[float, int]] = {}
        self._heard_ns: dict[str, int] = {}
        self._course: tuple[int, float] | None = None
        self._passed: list[tuple[DrivingKind, int]] = []
        self._sounded: dict[tuple[DrivingKind, str], int] = {}
        self.counts: dict[str, int] = {}
        self.grave: dict[str, int] = {}

    @property
    def mode(self) -> ResponseMode | None:
        """How the unit drives; None when the vehicle does not tell of its lights."""
        return response_mode(self._values.get(LIGHTS), self._values.get(SIREN))

    def take(self, signals: Iterable[Signal]) -> list[tuple[int, Driving]]:
        """Take signals; (CLOCK_BOOTTIME of its beginning, event) of each event that is over."""
        told: list[tuple[int, Driving]] = []
        for signal in signals:
            self._values[signal.name] = signal.value
            at_ns = signal.received_boottime_ns
            is_heard = signal.value is True if signal.name == SPOTTER else signal.value is not None
            if is_heard and signal.name in (SPEED, LATERAL, LONGITUDINAL, YAW, SPOTTER):
                self._heard_ns[signal.name] = at_ns
            if signal.name == SPEED:
                self._speed(signal.value, at_ns, told)
            elif signal.name == LATERAL:
                self._lateral(signal.value, at_ns, told, dwell_ns=_AXIS_DWELL_NS)
            elif signal.name == YAW:
                self._yaw(signal.value, at_ns, told)
            elif signal.name == LONGITUDINAL:
                self._longitudinal(signal.value, at_ns, told)
            elif signal.name.endswith((".IsBelted", ".IsOccupied", ".IsOpen")):
                self._cabin(at_ns, told)
        return told

    def take_course(self, course_deg: float, speed_mps: float, at_ns: int) -> list[tuple[int, Driving]]:
        """Take a course over ground: cornering, of a vehicle that has no sensor for it."""
        told: list[tuple[int, Driving]] = []
        before, self._course = self._course, (at_ns, course_deg)
        if before is None or speed_mps < _COURSE_FROM_MPS or self._is_heard(LATERAL, at_ns):
            return told
        passed_ns = at_ns - before[0]
        if self._is_heard(YAW, at_ns) or not _COURSE_APART_NS[0] <= passed_ns <= _COURSE_APART_NS[1]:
            return told
        turned_rad = math.radians((course_deg - before[1] + 180) % 360 - 180)
        self._lateral(speed_mps * turned_rad / (passed_ns / _NS), at_ns, told, dwell_ns=_NS)
        return told

    def passed(self) -> list[tuple[DrivingKind, int]]:
        """(kind, grade) of the limits that were passed since this was asked last, for a sound at once."""
        passed, self._passed = self._passed, []
        return passed

    def lasting(self) -> dict[DrivingKind, int]:
        """Kind to grade of what lasts now."""
        return {
            kind: max(self._grade(kind, episode.extreme), 1)
            for (kind, _), episode in self._episodes.items()
            if episode.is_open
        }

    def end(self, at_ns: int) -> list[tuple[int, Driving]]:
        """End whatever lasts, as when the ignition goes off."""
        told: list[tuple[int, Driving]] = []
        for (kind, where), episode in list(self._episodes.items()):
            self._over(kind, where, episode.close(at_ns), told)
        self._speeds.clear()
        return told

    def speed_mps(self) -> float | None:
        """The newest speed; None when it is not known."""
        return self._speeds[-1][1] if self._speeds else None

    def _speed(self, value: SignalValue | None, at_ns: int, told: list[tuple[int, Driving]]) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            told += self.end(at_ns)
            return
        speed = abs(float(value)) / 3.6
        if self._speeds and at_ns - self._speeds[-1][0] > _STALE_NS:
            told += self.end(self._speeds[-1][0])
        self._speeds.append((at_ns, speed))
        acceleration = self._acceleration(at_ns, speed)
        if acceleration is not None:
            limits = self._limits
            self._judge(DrivingKind.BRAKING, -acceleration, limits.braking_mps2[0], at_ns, told)
            self._judge(DrivingKind.ACCELERATION, acceleration, limits.acceleration_mps2[0], at_ns, told)
        gear = self._values.get(GEAR)
        in_reverse = isinstance(gear, int) and _REVERSE[0] <= gear <= _REVERSE[1]
        self._judge(
            DrivingKind.REVERSING, speed if in_reverse else 0.0, self._limits.reversing_mps[0], at_ns, told
        )
        spotted = at_ns - self._heard_ns.get(SPOTTER, -_SPOTTER_AGO_NS) < _SPOTTER_AGO_NS
        if self._values.get(SPOTTER) is not None:
            alone = in_reverse and not spotted
            self._judge(
                DrivingKind.SPOTTER, speed if alone else 0.0, 0.3, at_ns, told, dwell_ns=_SPOTTER_DWELL_NS
            )
        mode = self.mode
        limit = None if mode is None else self._overspeed.get(mode)
        if limit is not None or (DrivingKind.OVERSPEED, "") in self._episodes:
            allowed = float("inf") if limit is None else limit
            self._judge(DrivingKind.OVERSPEED, speed, allowed, at_ns, told, dwell_ns=_SPEED_DWELL_NS)
        self._cabin(at_ns, told)

    def _acceleration(self, at_ns: int, speed: float) -> float | None:
        """Over the span of the newest speeds, in m/s2; None when it can not be told."""
        for then_ns, then in reversed(self._speeds):
            span_ns = at_ns - then_ns
            if span_ns > _MOST_SPAN_NS:
                break
            if span_ns >= _LEAST_SPAN_NS:
                found = (speed - then) / span_ns * _NS
                return found if abs(found) <= _CAN_NOT_BE_MPS2 else None
        return None

    def _lateral(
        self, value: SignalValue | None, at_ns: int, told: list[tuple[int, Driving]], *, dwell_ns: int
    ) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _CAN_NOT_BE_MPS2:
            limit = self._limits.cornering_mps2[0]
            self._judge(DrivingKind.CORNERING, abs(value), limit, at_ns, told, dwell_ns=dwell_ns)

    def _yaw(self, value: SignalValue | None, at_ns: int, told: list[tuple[int, Driving]]) -> None:
        """Lateral acceleration out of speed and rate of turn, where no sensor tells it."""
        speed = self.speed_mps()
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and speed is not None and not self._is_heard(LATERAL, at_ns):
            lateral = speed * math.radians(float(value))  # type: ignore[arg-type]  # looked at above
            self._lateral(lateral, at_ns, told, dwell_ns=_AXIS_DWELL_NS)

    def _longitudinal(self, value: SignalValue | None, at_ns: int, told: list[tuple[int, Driving]]) -> None:
        """Braking and acceleration of a vehicle whose wheels do not tell."""
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _CAN_NOT_BE_MPS2:
            return
        if self._is_heard(SPEED, at_ns):
            return
        limits = self._limits
        braking, faster = limits.braking_mps2[0], limits.acceleration_mps2[0]
        self._judge(DrivingKind.BRAKING, -value, braking, at_ns, told, dwell_ns=_AXIS_DWELL_NS)
        self._judge(DrivingKind.ACCELERATION, value, faster, at_ns, told, dwell_ns=_AXIS_DWELL_NS)

    def _is_heard(self, name: str, at_ns: int) -> bool:
        heard_ns = self._heard_ns.get(name)
        return heard_ns is not None and at_ns - heard_ns <= _HEARD_NS

    def _cabin(self, at_ns: int, told: list[tuple[int, Driving]]) -> None:
        """Belts and doors, while the vehicle moves."""
        moving = (self.speed_mps() or 0) > self._limits.motion_mps
        for name, value in self._values.items():
            seat, _, what = name.rpartition(".")
            if what == "IsBelted":
                is_taken = seat == _DRIVER or self._values.get(f"{seat}.IsOccupied") is True
                wrong = moving and value is False and is_taken
                self._judge(
                    DrivingKind.BELT, float(wrong), 0.5, at_ns, told, where=seat, dwell_ns=_SEAT_DWELL_NS
                )
            elif (what == "IsOpen" and "Door" in seat) or name == "Body.Trunk.Rear.IsOpen":
                wrong = moving and value is True
                self._judge(
                    DrivingKind.DOOR, float(wrong), 0.5, at_ns, told, where=seat, dwell_ns=_SEAT_DWELL_NS
                )

    def _judge(
        self,
        kind: DrivingKind,
        value: float,
        limit: float,
        at_ns: int,
        told: list[tuple[int, Driving]],
        *,
        where: str = "",
        dwell_ns: int = 0,
    ) -> None:
        key = (kind, where)
        episode = self._episodes.get(key)
        if episode is None:
            if value <= limit:
                return
            episode = self._episodes[key] = Episode(dwell_ns, _LEAVE_NS)
        if value > limit and not episode.is_open:
            self._begun[key] = (self.mode, limit)
        self._over(kind, where, episode.take(value - limit, value, at_ns), told)
        if episode.is_open:
            grade = max(self._grade(kind, episode.extreme), 1)
            if grade > self._sounded.get(key, 0):
                self._sounded[key] = grade
                self._passed.append((kind, grade))
                del self._passed[:-TOLD_AT_ONCE]
        else:
            self._sounded.pop(key, None)

    def _over(
        self, kind: DrivingKind, where: str, lasted: Lasted | None, told: list[tuple[int, Driving]]
    ) -> None:
        if lasted is None:
            return
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self._grade(kind, lasted.extreme) > 1:
            self.grave[kind] = self.grave.get(kind, 0) + 1
        if not self._may_tell(kind, lasted.ended_ns):
            return
        mode, limit = self._begun.get((kind, where), (self.mode, 0.0))
        is_switch = kind in (DrivingKind.BELT, DrivingKind.DOOR)
        told.append(
            (
                lasted.begun_ns,
                Driving(
                    event=kind,
                    grade=self._grade(kind, lasted.extreme) or None,
                    value=None if is_switch else round(lasted.extreme, 2),
                    limit=None if is_switch else limit,
                    duration_ms=(lasted.ended_ns - lasted.begun_ns) // 1_000_000,
                    response=mode,
                    seat=where or None,
                ),
            )
        )

    def _grade(self, kind: DrivingKind, extreme: float) -> int:
        """1, or 2 for the graver; 0 of a kind that has no grades."""
        graver = self._graver(kind)
        return 0 if graver is None else 2 if extreme >= graver else 1

    def _graver(self, kind: DrivingKind) -> float | None:
        limits = self._limits
        pairs = {
            DrivingKind.BRAKING: limits.braking_mps2,
            DrivingKind.ACCELERATION: limits.acceleration_mps2,
            DrivingKind.CORNERING: limits.cornering_mps2,
            DrivingKind.REVERSING: limits.reversing_mps,
        }
        return pairs[kind][1] if kind in pairs else None

    def _may_tell(self, kind: DrivingKind, at_ns: int) -> bool:
        spent, before_ns = self._spent.get(kind, (0.0, at_ns))
        spent = max(0.0, spent - max(0, at_ns - before_ns) / REFILL_NS)
        may = spent + 1 <= TOLD_AT_ONCE
        self._spent[kind] = (spent + may, max(at_ns, before_ns))
        return may


WEIGHT, GRAVE_WEIGHT = 1.0, 3.0
HALF_AT_PER_100_KM = 10.0
LEAST_GRADED_M = 1000.0


def grade(counts: Mapping[str, int], grave: Mapping[str, int], distance_m: float | None) -> float | None:
    """How it was driven: 10 without events, 5 with ten weighted events in 100 km, towards 0 with more.

    An event weighs 1, of the graver grade 3. None for less than a kilometre, of which nothing can be said.
    """
    if distance_m is None or distance_m < LEAST_GRADED_M:
        return None
    weighted = sum(counts.values()) * WEIGHT + sum(grave.values()) * (GRAVE_WEIGHT - WEIGHT)
    per_100_km = weighted / distance_m * 100_000
    return round(10 / (1 + per_100_km / HALF_AT_PER_100_KM), 1)
