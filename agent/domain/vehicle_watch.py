"""What fleet services are told of a vehicle: idling and why, weak cranking, and that it moves unattended.

Pure rules, looked at about once a second and fed with signals and fixes in the order of time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.domain.geodesy import distance_m
from agent.domain.record import IdleNeed, SignalValue, VehicleWarning, Warned
from agent.domain.vehicle import Signal

_NS = 1_000_000_000
IGNITION, RUNNING, SPEED = "LowVoltageSystemState", "Powertrain.CombustionEngine.IsRunning", "Speed"
ENGINE_SPEED = "Powertrain.CombustionEngine.Speed"
VOLTAGE = "LowVoltageBattery.CurrentVoltage"
HIGH_IDLE, OUTSIDE = "Ambulance.HighIdle.IsActive", "Exterior.AirTemperature"
COMPARTMENT, KEY = "Ambulance.PatientCompartment.Temperature", "Ambulance.Key.IsPresent"
LOOKED_AT = frozenset({IGNITION, RUNNING, SPEED, ENGINE_SPEED, VOLTAGE, HIGH_IDLE, OUTSIDE, COMPARTMENT, KEY})
RUNS_ABOVE_RPM = 300.0
AT_REST_MPS, MOVES_MPS = 0.3, 2.5
MOVES_FOR_NS = 5 * _NS
"""A receiver at rest wanders; a vehicle that is towed goes on."""
DISPLACED_M = 100.0
FRESH_NS = 10 * _NS
ENGINE_FRESH_NS = 30 * _NS
STANDS_AGAIN_NS = 120 * _NS
"""An unattended movement is over once the vehicle stood so long."""
CRANKING_NS = 10 * _NS
HOT_CELSIUS, COLD_CELSIUS = 28.0, 5.0
COMPARTMENT_HOT_CELSIUS, COMPARTMENT_COLD_CELSIUS = 27.0, 18.0


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """When fleet services are told.

    Attributes:
        idle_after_ns: an engine that runs at rest for so long idles.
        cranking_v: voltage that must not be fallen below while the engine is started.
        without_crew: whether moving without anybody signed on is unattended, too.
    """

    idle_after_ns: int = 300 * _NS
    cranking_v: float = 9.0
    without_crew: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """What else holds at a look.

    Attributes:
        status: unit status.
        incident: that the unit is assigned to.
        crew_aboard: whether anybody is signed on.
        place: id of the known place that the unit is at.
        category: what that is.
        outside_area_m: how far the unit is outside of its area; None without area or position, 0 inside.
    """

    status: str | None = None
    incident: str | None = None
    crew_aboard: bool = False
    place: str | None = None
    category: str | None = None
    outside_area_m: float | None = None


@dataclass(slots=True)
class _Parked:
    lat_deg: float
    lon_deg: float
    farthest_m: float = 0.0


class VehicleWatch:
    """See the module. Not thread-safe.

    Attributes:
        unattended: whether the vehicle moves unattended now, or is outside of its area.
    """

    def __init__(self, limits: WatchLimits) -> None:
        self._limits = limits
        self._values: dict[str, SignalValue | None] = {}
        self._heard_ns: dict[str, int] = {}
        self._idle_ns: int | None = None
        self._idling: Warned | None = None
        self._crank_v: float | None = None
        self._crank_ns = 0
        self._fix: tuple[int, float, float, float | None] | None = None
        self._parked: _Parked | None = None
        self._moves_ns: int | None = None
        self._stands_ns: int | None = None
        self._unattended_ns: int | None = None
        self._outside_ns: int | None = None
        self._left_ns: int | None = None
        self._told: list[tuple[int, Warned]] = []

    @property
    def unattended(self) -> bool:
        """Whether the vehicle moves unattended now, or is outside of its area."""
        return self._unattended_ns is not None or self._left_ns is not None

    def on_signals(self, signals: Iterable[Signal]) -> None:
        """Take changed signals."""
        for signal in signals:
            if signal.name in LOOKED_AT:
                before = self._values.get(signal.name)
                self._values[signal.name] = signal.value
                self._heard_ns[signal.name] = signal.received_boottime_ns
                if signal.name == IGNITION:
                    self._ignition(before, signal)
                elif signal.name == VOLTAGE:
                    self._voltage(signal)

    def on_fix(self, at_ns: int, lat_deg: float, lon_deg: float, speed_mps: float | None) -> None:
        """Take a believed fix."""
        self._fix = (at_ns, lat_deg, lon_deg, speed_mps)

    def look(self, now_ns: int, situation: Situation) -> list[tuple[int, Warned]]:
        """(CLOCK_BOOTTIME, record without place and time of day) of what began or ended."""
        self._idle(now_ns, situation)
        self._cranked(now_ns)
        self._movement(now_ns, situation)
        self._area(now_ns, situation)
        told, self._told = self._told, []
        return told

    # ------------------------------------------------------------------ idling and cranking

    def engine_runs(self, now_ns: int) -> bool | None:
        """By its own word, else by its speed; None when nobody tells, or nobody told lately."""
        running = self._lately(RUNNING, now_ns)
        if isinstance(running, bool):
            return running
        rpm = _number(self._lately(ENGINE_SPEED, now_ns))
        return None if rpm is None else rpm > RUNS_ABOVE_RPM

    def _lately(self, name: str, now_ns: int) -> SignalValue | None:
        """A value that was told within half a minute: a bus that fell asleep says nothing of its engine."""
        return self._values.get(name) if now_ns - self._heard_ns.get(name, 0) <= ENGINE_FRESH_NS else None

    def _idle(self, now_ns: int, situation: Situation) -> None:
        speed = self.speed_mps(now_ns)
        idles = self.engine_runs(now_ns) is True and speed is not None and speed <= AT_REST_MPS
        if not idles:
            if self._idling is not None and self._idle_ns is not None:
                seconds = (now_ns - self._idle_ns) // _NS
                self._told.append((now_ns, _ended(self._idling, seconds, float(seconds))))
            self._idle_ns = self._idling = None
            return
        self._idle_ns = now_ns if self._idle_ns is None else self._idle_ns
        if self._idling is None and now_ns - self._idle_ns >= self._limits.idle_after_ns:
            on_scene = situation.status in ("on_scene", "at_patient")
            self._idling = Warned(
                VehicleWarning.IDLING,
                open=True,
                value=(now_ns - self._idle_ns) / _NS,
                limit=self._limits.idle_after_ns / _NS,
                duration_s=(now_ns - self._idle_ns) // _NS,
                place=situation.place,
                category="scene" if on_scene else situation.category,
                need=self._need(),
            )
            self._told.append((self._idle_ns, self._idling))

    def _need(self) -> IdleNeed | None:
        if self._values.get(HIGH_IDLE) is True:
            return IdleNeed.HIGH_IDLE
        outside, inside = _number(self._values.get(OUTSIDE)), _number(self._values.get(COMPARTMENT))
        if (outside is not None and outside < COLD_CELSIUS) or (
            inside is not None and inside < COMPARTMENT_COLD_CELSIUS
        ):
            return IdleNeed.HEAT
        if (outside is not None and outside > HOT_CELSIUS) or (
            inside is not None and inside > COMPARTMENT_HOT_CELSIUS
        ):
            return IdleNeed.COOLING
        return None

    def _ignition(self, before: SignalValue | None, signal: Signal) -> None:
        if signal.value == "START" and before != "START":
            self._crank_v, self._crank_ns = None, signal.received_boottime_ns

    def _voltage(self, signal: Signal) -> None:
        volts = _number(signal.value)
        starts = self._values.get(IGNITION) == "START"
        if volts is None or not starts or signal.received_boottime_ns - self._crank_ns > CRANKING_NS:
            return
        self._crank_v = volts if self._crank_v is None else min(volts, self._crank_v)

    def _cranked(self, now_ns: int) -> None:
        """Told once the starter is let go, or after a while."""
        if self._crank_v is None:
            return
        if self._values.get(IGNITION) == "START" and now_ns - self._crank_ns <= CRANKING_NS:
            return
        lowest, self._crank_v = self._crank_v, None
        if lowest < self._limits.cranking_v:
            warned = Warned(VehicleWarning.WEAK_CRANKING, value=lowest, limit=self._limits.cranking_v)
            self._told.append((self._crank_ns, warned))

    # ------------------------------------------------------------------ unattended

    def speed_mps(self, now_ns: int) -> float | None:
        """Of the wheels while they tell, else of the receiver; None when neither is fresh."""
        wheels = _number(self._values.get(SPEED))
        if wheels is not None and now_ns - self._heard_ns.get(SPEED, 0) <= FRESH_NS:
            return abs(wheels) / 3.6
        if self._fix is not None and now_ns - self._fix[0] <= FRESH_NS:
            return self._fix[3]
        return None

    def _is_attended(self, situation: Situation) -> bool | None:
        """False when it must not move; None when nobody can tell."""
        ignition, key = self._values.get(IGNITION), self._values.get(KEY)
        if key is False:
            return False
        if isinstance(ignition, str) and ignition in ("LOCK", "OFF"):
            return False
        if self._limits.without_crew and not situation.crew_aboard and situation.incident is None:
            return False
        return True if isinstance(ignition, str) else None

    def _movement(self, now_ns: int, situation: Situation) -> None:
        if self._is_attended(situation) is not False:
            self._parked = None
            if self._unattended_ns is not None:
                self._end_unattended(now_ns)
            self._moves_ns = None
            return
        away_m = self._away_m(now_ns)
        speed = self.speed_mps(now_ns)
        moves = speed is not None and speed >= MOVES_MPS
        self._moves_ns = (self._moves_ns or now_ns) if moves else None
        lasts = self._moves_ns is not None and now_ns - self._moves_ns >= MOVES_FOR_NS
        if self._unattended_ns is None:
            if lasts or away_m >= DISPLACED_M:
                self._unattended_ns = self._moves_ns if lasts and self._moves_ns is not None else now_ns
                self._stands_ns = None
                warned = Warned(VehicleWarning.UNATTENDED, open=True, value=away_m)
                self._told.append((self._unattended_ns, warned))
            return
        self._stands_ns = None if moves else (self._stands_ns or now_ns)
        if self._stands_ns is not None and now_ns - self._stands_ns >= STANDS_AGAIN_NS:
            self._end_unattended(now_ns)
            self._parked = None  # where it stands now is where it was left

    def _away_m(self, now_ns: int) -> float:
        if self._fix is None or now_ns - self._fix[0] > FRESH_NS:
            return 0.0 if self._parked is None else self._parked.farthest_m
        _, lat_deg, lon_deg, _ = self._fix
        if self._parked is None:
            self._parked = _Parked(lat_deg, lon_deg)
        away_m = distance_m(self._parked.lat_deg, self._parked.lon_deg, lat_deg, lon_deg)
        self._parked.farthest_m = max(self._parked.farthest_m, away_m)
        return away_m

    def _end_unattended(self, now_ns: int) -> None:
        assert self._unattended_ns is not None
        begun_ns, self._unattended_ns = self._unattended_ns, None
        farthest = 0.0 if self._parked is None else self._parked.farthest_m
        seconds = (now_ns - begun_ns) // _NS
        warned = Warned(VehicleWarning.UNATTENDED, open=False, value=farthest, duration_s=seconds)
        self._told.append((now_ns, warned))

    def _area(self, now_ns: int, situation: Situation) -> None:
        outside_m = situation.outside_area_m
        if outside_m is None:
            return
        is_out = outside_m > 0 and situation.incident is None
        if not is_out:
            if self._left_ns is not None:
                seconds = (now_ns - self._left_ns) // _NS
                warned = Warned(VehicleWarning.LEFT_AREA, open=False, duration_s=seconds)
                self._told.append((now_ns, warned))
            self._left_ns = self._outside_ns = None
            return
        self._outside_ns = now_ns if self._outside_ns is None else self._outside_ns
        if self._left_ns is None and now_ns - self._outside_ns >= 6 * MOVES_FOR_NS:
            self._left_ns = self._outside_ns
            self._told.append((self._left_ns, Warned(VehicleWarning.LEFT_AREA, open=True, value=outside_m)))


def _ended(begun: Warned, seconds: int, value: float) -> Warned:
    return Warned(
        begun.warning,
        open=False,
        value=value,
        limit=begun.limit,
        duration_s=seconds,
        place=begun.place,
        category=begun.category,
        need=begun.need,
    )


def _number(value: SignalValue | None) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
