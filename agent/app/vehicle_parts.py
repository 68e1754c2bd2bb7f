"""What is made of the vehicle's signals, wired together: events, reports, counters, sounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from agent.config import Config, VehicleSettings, Watch
from agent.domain.cab_sound import CabSound
from agent.domain.fix import Fix
from agent.domain.health import HealthBoard
from agent.domain.odometer import OdometerReading
from agent.domain.places import Places
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.domain.vehicle_watch import VOLTAGE
from agent.hal.clock import Clock
from agent.outbox.outbox import Outbox
from agent.paths.run_memory import RunMemory
from agent.paths.vehicle_events import Around, VehicleEvents
from agent.paths.vehicle_reports import CabVoice, VehicleReports
from agent.runtime.log import EventLog
from agent.runtime.worker import Worker

log = EventLog("vehicle")
TICK_S = 1.0
FUEL = "Powertrain.FuelSystem.RelativeLevel"
COOLANT = "Powertrain.CombustionEngine.EngineCoolant.Temperature"


class VehicleParts:
    """Everything that is made of the vehicle's signals. Event loop only.

    Args:
        config: the agent's.
        clock: boot time.
        time_base: dates records.
        health: gets what is wrong with the disk.
        outbox: takes records.
        places: known places.
        worker: writes the service counters; not closed here.
        newest_fix: where the vehicle is.
        around: what the crew does.
        odometer: what the odometer says; None while that is not known.
        alerted_ns: when the crew was last alerted to a call.
        hurry: asks for positions no older than so many seconds; None ends it.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        time_base: TimeBase,
        health: HealthBoard,
        *,
        outbox: Outbox,
        places: Places,
        worker: Worker,
        newest_fix: Callable[[], Fix | None],
        around: Callable[[], Around],
        odometer: Callable[[], OdometerReading | None],
        alerted_ns: Callable[[], int | None],
        hurry: Callable[[float | None], None],
    ) -> None:
        self._clock = clock
        self._sinks: list[Callable[[CabSound], None]] = []
        self._memory: RunMemory | None = None
        if config.services:
            file = config.store.directory / "service.json"
            self._memory = RunMemory(file, worker, health, closes_worker=False)
        self.events = VehicleEvents(
            config.driving,
            [*config.watches, *_usual_watches(config.vehicle)],
            time_base,
            outbox,
            newest_fix=newest_fix,
            around=around,
            odometer=odometer,
        )
        self.reports = VehicleReports(
            config.vehicle,
            config.services,
            places,
            time_base=time_base,
            outbox=outbox,
            around=around,
            position=self.events.position,
            mode=lambda: self.events.mode,
            keep=(lambda _: None) if self._memory is None else self._memory.keep,
            hurry=hurry,
        )
        self._voice: CabVoice | None = None
        if config.driving is not None and config.driving.sound.kinds:
            self._voice = CabVoice(config.driving.sound, self._sound, alerted_ns)

    def listen(self, sink: Callable[[CabSound], None]) -> None:
        """`sink` sounds in the cab, from now on."""
        self._sinks.append(sink)

    async def open(self) -> None:
        """Take up the counters of the last run."""
        if self._memory is None:
            return
        given = dict(await self._memory.read())
        try:
            self.reports.restore(given)
        except ValueError as error:
            log.error("service_counters_unreadable", why=error)
            self.reports.restore({})

    async def close(self) -> None:
        """Have the counters on the disk."""
        if self._memory is not None:
            self.reports.save(self._clock.boottime_ns())
            await self._memory.close()

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop."""
        while True:
            progress()
            self.look(self._clock.boottime_ns())
            await asyncio.sleep(TICK_S)

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Take changed signals, oldest first."""
        self.events.on_signals(signals)
        self.reports.on_signals(signals)
        driving = self.events.driving
        if self._voice is not None and driving is not None and signals:
            self._voice.look(driving, signals[-1].received_boottime_ns)

    def on_fix(self, fix: Fix) -> None:
        """Take a believed fix."""
        self.events.on_fix(fix)
        self.reports.on_fix(fix)

    def on_ignition(self, *, on: bool) -> None:
        """The supply may go with it."""
        if not on:
            self.reports.save(self._clock.boottime_ns())

    def look(self, now_ns: int) -> None:
        """What time brings; about once a second."""
        self.events.look(now_ns)
        self.reports.look(now_ns)

    def service_done(self, item: str) -> None:
        """A service was done. Raises ValueError, in words, for one that is not configured."""
        self.reports.done(item, self._clock.boottime_ns())
        log.info("service_done", item=item)

    def services(self) -> list[dict[str, Any]]:
        """What passed since each service, JSON-able."""
        return [
            {
                "item": one.item,
                "km": round(one.distance_m / 1000, 1),
                "engine_h": round(one.engine_h, 1),
                "days": None if one.days is None else round(one.days, 1),
                "due": one.due,
            }
            for one in self.reports.services(self._clock.boottime_ns())
        ]

    def _sound(self, sound: CabSound) -> None:
        for sink in self._sinks:
            sink(sound)


def _usual_watches(settings: VehicleSettings | None) -> list[Watch]:
    """What of every vehicle must keep within limits."""
    if settings is None:
        return []
    volts, fuel, coolant = settings.low_voltage_v, settings.low_fuel_percent, settings.coolant_celsius
    found = []
    if volts is not None:
        found.append(Watch(name="battery", signal=VOLTAGE, low=volts, dwell_s=60, hysteresis=0.3))
    if fuel is not None:
        found.append(Watch(name="fuel", signal=FUEL, low=fuel, dwell_s=120, hysteresis=3))
    if coolant is not None:
        found.append(Watch(name="coolant", signal=COOLANT, high=coolant, dwell_s=10, hysteresis=4))
    return found
