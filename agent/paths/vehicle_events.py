"""From vehicle signals to records of what happened: driving, trips, excursions, trouble codes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.config import Driving as DrivingSettings
from agent.config import Watch
from agent.domain.driving import LIGHTS, SIREN, DrivingLimits, DrivingWatch, grade, response_mode
from agent.domain.fix import Fix
from agent.domain.odometer import OdometerReading, told
from agent.domain.record import (
    Body,
    CodeStage,
    Draft,
    Driving,
    Excursion,
    Position,
    ResponseMode,
    SignalValue,
    TripRecord,
    TroubleCode,
)
from agent.domain.reporting import position_of
from agent.domain.store_watch import StoreWatch, WatchedPlace
from agent.domain.time_base import TimeBase
from agent.domain.trip import ENGINE_MAY_RUN, IGNITION, TripMeter
from agent.domain.trouble_codes import ActiveCodes, Code, Lamps, PolledCodes, PreviousCodes
from agent.domain.vehicle import Signal
from agent.outbox.outbox import Outbox

POSITION_AGE_NS = 15_000_000_000
"""An older fix does not say where something happened."""
MOST_EXCURSIONS = 100
"""The newest beginnings and ends that `mdt status` lists."""
_KEPT = frozenset({LIGHTS, SIREN, IGNITION})


@dataclass(frozen=True, slots=True)
class Around:
    """What the crew does, as far as it is known.

    Attributes:
        status: unit status.
        incident: that the unit is assigned to.
        driver: crew id of who drives.
        odometer_m: the vehicle's.
        aboard: whether anybody is signed on.
    """

    status: str | None = None
    incident: str | None = None
    driver: str | None = None
    odometer_m: int | None = None
    aboard: bool = False


class VehicleEvents:
    """Takes what the vehicle says, and stages a record for what came of it. Event loop only.

    Args:
        driving: from where on driving is remarkable; None for no driving events.
        watches: places that are watched.
        time_base: gives the records their time.
        outbox: takes the records.
        newest_fix: where the vehicle is, and since when.
        around: what the crew does, when something is told.
        odometer: what the odometer says, None while that is not known.
    """

    def __init__(
        self,
        driving: DrivingSettings | None,
        watches: Sequence[Watch],
        time_base: TimeBase,
        outbox: Outbox,
        *,
        newest_fix: Callable[[], Fix | None],
        around: Callable[[], Around] = Around,
        odometer: Callable[[], OdometerReading | None] = lambda: None,
    ) -> None:
        self._odometer = odometer
        self._time_base = time_base
        self._outbox = outbox
        self._newest_fix = newest_fix
        self._driving = None if driving is None else DrivingWatch(_limits(driving))
        self._stores = StoreWatch(_place(watch) for watch in watches)
        self._trips = TripMeter()
        self._codes = ActiveCodes()
        self._polled = PolledCodes()
        self._previous = PreviousCodes()
        self._around = around
        self._values: dict[str, SignalValue | None] = {}
        self._begin: Position | None = None
        self._begin_odometer: OdometerReading | None = None
        self._grave_before: dict[str, int] = {}
        self._excursions: deque[tuple[int, Excursion]] = deque(maxlen=MOST_EXCURSIONS)

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Take changed signals, oldest first."""
        for signal in signals:
            if signal.name in _KEPT:
                self._values[signal.name] = signal.value
        for at_ns, excursion in self._stores.take(signals):
            self._stage(at_ns, excursion)
            self._excursions.append((at_ns, excursion))
        if self._driving is not None:
            for at_ns, event in self._driving.take(signals):
                # Where it ended: that is when it is known to have been one.
                now_ns = signals[-1].received_boottime_ns
                self._tell_driving(at_ns, event, now_ns)
        was_driving = self._trips.is_driving
        for at_ns, trip in self._trips.take(signals, {} if self._driving is None else self._driving.counts):
            measured = self._measured(replace(trip, begin=self._begin, end=self._position(at_ns)))
            self._stage(at_ns, replace(measured, grade=self._graded(measured)))
        if self._trips.is_driving and not was_driving:
            self._begin = self._position(signals[-1].received_boottime_ns)
            self._begin_odometer = self._odometer()
            self._grave_before = {} if self._driving is None else dict(self._driving.grave)

    def on_fix(self, fix: Fix) -> None:
        """Take a believed fix."""
        if self._driving is None or fix.course_deg is None or fix.speed_mps is None:
            return
        at_ns = fix.received_boottime_ns
        for begun_ns, event in self._driving.take_course(fix.course_deg, fix.speed_mps, at_ns):
            self._tell_driving(begun_ns, event, at_ns)

    def _tell_driving(self, at_ns: int, event: Driving, now_ns: int) -> None:
        around = self._around()
        body = replace(event, position=self._position(now_ns), driver=around.driver, incident=around.incident)
        self._stage(at_ns, body)

    def _graded(self, trip: TripRecord) -> float | None:
        if self._driving is None:
            return None
        grave = {kind: count - self._grave_before.get(kind, 0) for kind, count in self._driving.grave.items()}
        return grade(dict(trip.events or ()), grave, trip.distance_m)

    def on_faults(self, controller: int, lamps: Lamps, codes: list[Code], at_ns: int) -> None:
        """Take what a control unit says is wrong now."""
        self._tell_codes(self._codes.take(controller, lamps, codes, at_ns), at_ns)

    def on_previous(self, controller: int, lamps: Lamps, codes: list[Code], at_ns: int) -> None:
        """Take what a control unit says was wrong earlier."""
        self._tell_codes(self._previous.take(controller, lamps, codes, at_ns), at_ns)

    def on_answered(self, controller: int, stage: CodeStage, codes: list[str], at_ns: int) -> None:
        """Take all codes that a control unit answered with when it was asked."""
        self._tell_codes(self._polled.take(controller, stage, codes, at_ns), at_ns)

    def look(self, now_ns: int) -> None:
        """Tell of trouble codes that are gone; to be called about once a second."""
        around = self._around()
        self._trips.note(now_ns, around.status, around.incident, around.driver)
        self._tell_codes(self._codes.expire(now_ns), now_ns)

    def _tell_codes(self, records: Sequence[TroubleCode], at_ns: int) -> None:
        around = self._around() if records else Around()
        odometer_m = told(self._odometer())[0] if records else None
        for record in records:
            body = replace(
                record,
                position=self._position(at_ns),
                odometer_m=odometer_m,
                status=around.status,
                incident=around.incident,
            )
            self._stage(at_ns, body)

    @property
    def driving(self) -> DrivingWatch | None:
        """What watches the driving; None where it is not configured."""
        return self._driving

    @property
    def odometer_m(self) -> int | None:
        """The unit's odometer; None when it is not known."""
        return told(self._odometer())[0]

    @property
    def ignition_on(self) -> bool | None:
        """Whether the ignition is on; None when nothing tells."""
        value = self._values.get(IGNITION)
        return value in ENGINE_MAY_RUN if isinstance(value, str) else None

    @property
    def mode(self) -> ResponseMode | None:
        """How the unit drives; None when the vehicle does not tell of its lights."""
        return response_mode(self._values.get(LIGHTS), self._values.get(SIREN))

    def position(self, now_ns: int) -> Position | None:
        """Where the vehicle is now; None when that is not known."""
        return self._position(now_ns)

    def snapshot(self) -> dict[str, object]:
        """For `mdt status`: what is active now."""
        return {
            "trouble_codes": self._codes.snapshot() + self._polled.snapshot(),
            "outside_limits": self._stores.open(),
            "excursions": [_listed(at_ns, excursion) for at_ns, excursion in self._excursions],
        }

    def _measured(self, trip: TripRecord) -> TripRecord:
        """A trip with the distance by the odometer, where it was known at both ends."""
        begin, end = self._begin_odometer, self._odometer()
        if end is None:
            return trip
        odometer_m, source = told(end)
        distance_m = trip.distance_m if begin is None else round(end.metres - begin.metres)
        return replace(trip, distance_m=distance_m, odometer_m=odometer_m, odometer_source=source)

    def _position(self, at_ns: int) -> Position | None:
        fix = self._newest_fix()
        if fix is None or abs(at_ns - fix.received_boottime_ns) > POSITION_AGE_NS:
            return None
        return position_of(fix)

    def _stage(self, at_ns: int, body: Body) -> None:
        self._outbox.stage(Draft(self._time_base.stamp(at_ns), body))


def _listed(at_ns: int, excursion: Excursion) -> dict[str, object]:
    """A line of the list of excursions, JSON-able."""
    return {
        "place": excursion.place,
        "what": "began" if excursion.open else "ended",
        "boottime_s": at_ns // 1_000_000_000,
        "extreme": excursion.extreme,
        "duration_s": excursion.duration_s,
    }


def _limits(settings: DrivingSettings) -> DrivingLimits:
    by_mode = {
        ResponseMode.NORMAL: settings.overspeed_mps,
        ResponseMode.LIGHTS: settings.overspeed_lights_mps,
        ResponseMode.LIGHTS_AND_SIREN: settings.overspeed_siren_mps,
    }
    return DrivingLimits(
        braking_mps2=settings.braking_mps2,
        acceleration_mps2=settings.acceleration_mps2,
        cornering_mps2=settings.cornering_mps2,
        reversing_mps=settings.reversing_mps,
        overspeed_mps=tuple((mode, limit) for mode, limit in by_mode.items() if limit is not None),
        motion_mps=settings.motion_mps,
    )


def _place(watch: Watch) -> WatchedPlace:
    return WatchedPlace(
        name=watch.name,
        signal=watch.signal,
        low=watch.low,
        high=watch.high,
        dwell_ns=round(watch.dwell_s * 1e9),
        hysteresis=watch.hysteresis,
    )
