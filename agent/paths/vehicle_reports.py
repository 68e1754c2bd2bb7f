"""What is looked at each second beside the vehicle's signals: warnings, response modes, services, sounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.config import Service, VehicleSettings
from agent.config.vehicle import Sound
from agent.domain.cab_sound import CabSound, CabSounds, SoundLimits
from agent.domain.driving import DrivingWatch
from agent.domain.fix import Fix
from agent.domain.places import Places
from agent.domain.record import Alert, AlertCode, Body, Draft, Position, ResponseMode, VehicleWarning, Warned
from agent.domain.response_leg import ResponseLegs
from agent.domain.service_book import ServiceBook, ServiceItem, Since
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.domain.vehicle_watch import Situation, VehicleWatch, WatchLimits
from agent.outbox.outbox import Outbox
from agent.paths.vehicle_events import Around

SAVE_EVERY_NS = 900_000_000_000
"""How much of the counters a power cut may take of a vehicle without instruments; a card wears out."""
ALERTS_AT_ONCE, ALERT_REFILL_NS = 3, 3_600_000_000_000


class VehicleReports:
    """Event loop only; looked at about once a second.

    Args:
        settings: what fleet services are told of; None for nothing.
        services: what is counted for them.
        places: known places.
        time_base: dates the records.
        outbox: takes them.
        around: what the crew does.
        position: where the vehicle is, at a CLOCK_BOOTTIME.
        mode: how it drives.
        keep: has the counters on the disk, soon.
        hurry: asks for positions no older than so many seconds; None ends it.
    """

    def __init__(
        self,
        settings: VehicleSettings | None,
        services: Sequence[Service],
        places: Places,
        *,
        time_base: TimeBase,
        outbox: Outbox,
        around: Callable[[], Around],
        position: Callable[[int], Position | None],
        mode: Callable[[], ResponseMode | None],
        keep: Callable[[Mapping[str, Any]], object],
        hurry: Callable[[float | None], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._places = places
        self._time_base = time_base
        self._outbox = outbox
        self._around = around
        self._position = position
        self._mode = mode
        self._keep = keep
        self._hurry = hurry
        self._hurried = False
        self._watch = None if settings is None else VehicleWatch(_limits(settings))
        self._legs = ResponseLegs()
        self._speed = VehicleWatch(WatchLimits()) if self._watch is None else self._watch
        self._book = ServiceBook(_item(service) for service in services)
        self._saved_ns = 0
        self._ignition_on: bool | None = None
        self._alerts, self._alerts_ns = 0.0, 0
        self.left_out = 0

    def restore(self, given: Mapping[str, Any]) -> None:
        """Take up the counters of the last run. Raises ValueError when they make no sense."""
        self._book.restore(given, self._unix_ms(0))

    def on_fix(self, fix: Fix) -> None:
        """Take a believed fix."""
        if fix.lat_deg is not None and fix.lon_deg is not None:
            self._speed.on_fix(fix.received_boottime_ns, fix.lat_deg, fix.lon_deg, fix.speed_mps)

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Take changed signals."""
        self._speed.on_signals(signals)
        if self._book.items:
            self._book.take(signals)

    def look(self, now_ns: int) -> None:
        """What time brings."""
        around = self._around()
        leg = self._legs.look(
            now_ns, around.status, around.incident, mode=self._mode(), speed_mps=self._speed.speed_mps(now_ns)
        )
        if leg is not None:
            self._stage(now_ns, replace(leg, driver=around.driver))
        if self._watch is not None:
            self._warn(self._watch, now_ns, around)
        if self._book.items:
            self._count(now_ns, around)

    # ------------------------------------------------------------------ services

    def done(self, item: str, now_ns: int) -> None:
        """A service was done. Raises ValueError, in words, for one that is not configured."""
        self._book.done(item, self._unix_ms(now_ns))
        self._save(now_ns)

    def services(self, now_ns: int) -> list[Since]:
        """What passed since each."""
        return self._book.since(self._unix_ms(now_ns))

    def save(self, now_ns: int) -> None:
        """The supply may go away any moment."""
        if self._book.items:
            self._save(now_ns)

    def _count(self, now_ns: int, around: Around) -> None:
        for due in self._book.newly_due(self._unix_ms(now_ns)):
            warned = Warned(VehicleWarning.SERVICE_DUE, open=True, item=due.item)
            self._stage(now_ns, self._dressed(warned, now_ns, around))
            self._save(now_ns)
        if now_ns - self._saved_ns >= SAVE_EVERY_NS:
            self._save(now_ns)

    def _save(self, now_ns: int) -> None:
        self._saved_ns = now_ns
        self._keep(self._book.remembered())

    # ------------------------------------------------------------------ warnings

    def _warn(self, watch: VehicleWatch, now_ns: int, around: Around) -> None:
        for at_ns, warned in watch.look(now_ns, self._situation(now_ns, around)):
            self._stage(at_ns, self._dressed(warned, now_ns, around))
            if warned.warning == VehicleWarning.UNATTENDED and warned.open:
                self._alert(now_ns)
        if watch.unattended != self._hurried:
            self._hurried = watch.unattended
            assert self._settings is not None
            self._hurry(self._settings.hurry_s if watch.unattended else None)

    def _alert(self, now_ns: int) -> None:
        """Dispatch knows at once, a few times an hour: what machines make never crowds out presses."""
        self._alerts = max(0.0, self._alerts - (now_ns - self._alerts_ns) / ALERT_REFILL_NS)
        self._alerts_ns = now_ns
        if self._alerts + 1 > ALERTS_AT_ONCE:
            self.left_out += 1
            return
        self._alerts += 1
        alert = Alert(AlertCode.UNATTENDED_MOVEMENT, "The vehicle moves without ignition, crew or key.")
        self._outbox.put(Draft(self._time_base.stamp(now_ns), alert))

    def _situation(self, now_ns: int, around: Around) -> Situation:
        assert self._settings is not None
        position = self._position(now_ns)
        place = None if position is None else self._places.nearest(position.lat_deg, position.lon_deg)
        at = place[0] if place is not None and place[1] <= 0 else None
        area = None if self._settings.area is None else self._places.by_id(self._settings.area)
        outside_m = None
        if area is not None and position is not None:
            outside_m = area.distance_m(position.lat_deg, position.lon_deg)
        return Situation(
            status=around.status,
            incident=around.incident,
            crew_aboard=around.aboard,
            place=None if at is None else at.id,
            category=None if at is None else at.kind,
            outside_area_m=outside_m,
        )

    def _dressed(self, warned: Warned, now_ns: int, around: Around) -> Warned:
        return replace(
            warned,
            position=self._position(now_ns),
            odometer_m=around.odometer_m,
            status=around.status,
            incident=around.incident,
            driver=around.driver,
        )

    def _unix_ms(self, now_ns: int) -> int | None:
        utc = self._time_base.utc(now_ns)
        return None if utc is None else utc.unix_ms

    def _stage(self, at_ns: int, body: Body) -> None:
        self._outbox.stage(Draft(self._time_base.stamp(at_ns), body))


class CabVoice:
    """Sounds in the cab what `DrivingWatch` says was passed just now. Event loop only.

    Args:
        settings: when.
        sink: what sounds it.
        alerted_ns: when the crew was last alerted to a call.
    """

    def __init__(
        self, settings: Sound, sink: Callable[[CabSound], None], alerted_ns: Callable[[], int | None]
    ) -> None:
        self._sounds = CabSounds(
            SoundLimits(
                kinds=frozenset(settings.kinds),
                modes=frozenset(settings.modes),
                quiet_after_call_ns=round(settings.quiet_after_call_s * 1e9),
                apart_ns=round(settings.apart_s * 1e9),
                again_ns=round(settings.again_s * 1e9),
            )
        )
        self._sink = sink
        self._alerted_ns = alerted_ns

    def look(self, driving: DrivingWatch, now_ns: int) -> None:
        """Sound what was passed since the last look, or what lasts."""
        call_ns = self._alerted_ns()
        for kind, grade in driving.passed():
            self._sound(self._sounds.passed(kind, grade, driving.mode, now_ns, call_ns))
        if lasting := driving.lasting():
            self._sound(self._sounds.lasting(lasting, driving.mode, now_ns, call_ns))

    def _sound(self, sound: CabSound | None) -> None:
        if sound is not None:
            self._sink(sound)


def _limits(settings: VehicleSettings) -> WatchLimits:
    return WatchLimits(
        idle_after_ns=round(settings.idle_after_s * 1e9),
        cranking_v=settings.cranking_v,
        without_crew=settings.without_crew,
    )


def _item(service: Service) -> ServiceItem:
    return ServiceItem(
        service.name,
        None if service.every_km is None else service.every_km * 1000,
        service.every_h,
        service.every_days,
    )
