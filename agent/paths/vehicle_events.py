"""From vehicle signals to records of what happened: driving, trips, excursions, trouble codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.config import Driving as DrivingSettings
from agent.config import Watch
from agent.domain.driving import DrivingLimits, DrivingWatch
from agent.domain.fix import Fix
from agent.domain.record import Body, Draft, Position, ResponseMode
from agent.domain.reporting import position_of
from agent.domain.store_watch import StoreWatch, WatchedPlace
from agent.domain.time_base import TimeBase
from agent.domain.trip import TripMeter
from agent.domain.trouble_codes import ActiveCodes, Code, Lamps
from agent.domain.vehicle import Signal
from agent.outbox.outbox import Outbox

POSITION_AGE_NS = 15_000_000_000
"""An older fix does not say where something happened."""
ODOMETER = "TraveledDistance"


class VehicleEvents:
    """Takes what the vehicle says, and stages a record for what came of it. Event loop only.

    Args:
        driving: from where on driving is remarkable; None for no driving events.
        watches: places that are watched.
        time_base: gives the records their time.
        outbox: takes the records.
        newest_fix: where the vehicle is, and since when.
    """

    def __init__(
        self,
        driving: DrivingSettings | None,
        watches: Sequence[Watch],
        time_base: TimeBase,
        outbox: Outbox,
        newest_fix: Callable[[], Fix | None],
    ) -> None:
        self._time_base = time_base
        self._outbox = outbox
        self._newest_fix = newest_fix
        self._driving = None if driving is None else DrivingWatch(_limits(driving))
        self._stores = StoreWatch(_place(watch) for watch in watches)
        self._trips = TripMeter()
        self._codes = ActiveCodes()
        self._odometer_m: int | None = None
        self._begin: Position | None = None

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Take changed signals, oldest first."""
        for signal in signals:
            if signal.name == ODOMETER:
                is_number = isinstance(signal.value, int | float) and not isinstance(signal.value, bool)
                self._odometer_m = round(float(signal.value)) if is_number else None  # type: ignore[arg-type]
        for at_ns, excursion in self._stores.take(signals):
            self._stage(at_ns, excursion)
        if self._driving is not None:
            for at_ns, event in self._driving.take(signals):
                # Where it ended: that is when it is known to have been one.
                now_ns = signals[-1].received_boottime_ns
                self._stage(at_ns, replace(event, position=self._position(now_ns)))
        was_driving = self._trips.is_driving
        for at_ns, trip in self._trips.take(signals, {} if self._driving is None else self._driving.counts):
            self._stage(at_ns, replace(trip, begin=self._begin, end=self._position(at_ns)))
        if self._trips.is_driving and not was_driving:
            self._begin = self._position(signals[-1].received_boottime_ns)

    def on_faults(self, controller: int, lamps: Lamps, codes: list[Code], at_ns: int) -> None:
        """Take what a control unit says is wrong now."""
        for record in self._codes.take(controller, lamps, codes, at_ns):
            self._stage(at_ns, replace(record, position=self._position(at_ns), odometer_m=self._odometer_m))

    def look(self, now_ns: int) -> None:
        """Tell of trouble codes that are gone; to be called now and then."""
        for record in self._codes.expire(now_ns):
            self._stage(now_ns, replace(record, position=self._position(now_ns), odometer_m=self._odometer_m))

    def position(self, now_ns: int) -> Position | None:
        """Where the vehicle is now; None when that is not known."""
        return self._position(now_ns)

    def snapshot(self) -> dict[str, object]:
        """For `mdt status`: what is active now."""
        return {"trouble_codes": self._codes.snapshot(), "outside_limits": self._stores.open()}

    def _position(self, at_ns: int) -> Position | None:
        fix = self._newest_fix()
        if fix is None or abs(at_ns - fix.received_boottime_ns) > POSITION_AGE_NS:
            return None
        return position_of(fix)

    def _stage(self, at_ns: int, body: Body) -> None:
        self._outbox.stage(Draft(self._time_base.stamp(at_ns), body))


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
