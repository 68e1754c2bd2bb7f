"""Remarkable driving out of the vehicle's own signals: braking, acceleration, cornering, speed, belts, doors.

The figures that grade an event are limits by configuration; what a vehicle does not tell gives no event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from agent.domain.episode import Episode, Lasted
from agent.domain.record import Driving, DrivingKind, ResponseMode, SignalValue
from agent.domain.vehicle import Signal

SPEED = "Speed"
LIGHTS, SIREN = "Ambulance.EmergencyLights.IsOn", "Ambulance.Siren.IsOn"
GEAR = "Powertrain.Transmission.SelectedGear"
LATERAL = "Acceleration.Lateral"
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
    """

    def __init__(self, limits: DrivingLimits) -> None:
        self._limits = limits
        self._overspeed = dict(limits.overspeed_mps)
        self._values: dict[str, SignalValue | None] = {}
        self._speeds: deque[tuple[int, float]] = deque(maxlen=64)
        self._episodes: dict[tuple[DrivingKind, str], Episode] = {}
        self._begun: dict[tuple[DrivingKind, str], tuple[ResponseMode | None, float]] = {}
        self._spent: dict[DrivingKind, tuple[float, int]] = {}
        self.counts: dict[str, int] = {}

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
            if signal.name == SPEED:
                self._speed(signal.value, at_ns, told)
            elif signal.name == LATERAL:
                self._lateral(signal.value, at_ns, told)
            elif signal.name.endswith((".IsBelted", ".IsOccupied", ".IsOpen")):
                self._cabin(at_ns, told)
        return told

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

    def _lateral(self, value: SignalValue | None, at_ns: int, told: list[tuple[int, Driving]]) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _CAN_NOT_BE_MPS2:
            self._judge(DrivingKind.CORNERING, abs(value), self._limits.cornering_mps2[0], at_ns, told)

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

    def _over(
        self, kind: DrivingKind, where: str, lasted: Lasted | None, told: list[tuple[int, Driving]]
    ) -> None:
        if lasted is None:
            return
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if not self._may_tell(kind, lasted.ended_ns):
            return
        mode, limit = self._begun.get((kind, where), (self.mode, 0.0))
        graver = self._graver(kind)
        is_switch = kind in (DrivingKind.BELT, DrivingKind.DOOR)
        told.append(
            (
                lasted.begun_ns,
                Driving(
                    event=kind,
                    grade=None if graver is None else 2 if lasted.extreme >= graver else 1,
                    value=None if is_switch else round(lasted.extreme, 2),
                    limit=None if is_switch else limit,
                    duration_ms=(lasted.ended_ns - lasted.begun_ns) // 1_000_000,
                    response=mode,
                    seat=where or None,
                ),
            )
        )

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
