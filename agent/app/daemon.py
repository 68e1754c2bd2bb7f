"""The composition root: builds every part from configuration and platform, runs and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from agent import __version__
from agent.app.crew_parts import CrewParts
from agent.app.device_feeds import device_feed
from agent.app.device_units import DeviceUnits
from agent.app.fleet_parts import FleetParts
from agent.app.patches import Patches
from agent.app.platform import Platform
from agent.app.vehicle_parts import VehicleParts
from agent.config import Config, DiagnosticDevice
from agent.domain.fix import Fix
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.odometer import told
from agent.domain.privacy import Privacy
from agent.domain.readiness import Ready, readiness
from agent.domain.record import ResponseMode, Stream
from agent.domain.reporting import LivePolicy, TrailPolicy
from agent.domain.stamp import Utc
from agent.domain.state import State, UnitState, VehicleState
from agent.domain.telemetry import TelemetryPolicy
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.outbox.outbox import Outbox
from agent.paths.clock_watch import ClockWatch
from agent.paths.computer_watch import ComputerWatch
from agent.paths.fix_path import FixPath, StatusWatch
from agent.paths.gnss_alarm_path import GnssAlarmPath
from agent.paths.health_path import HealthPath
from agent.paths.odometer_path import OdometerPath
from agent.paths.private_place import PrivatePlace
from agent.paths.row_time import RowTime
from agent.paths.run_memory import RunMemory
from agent.paths.signal_path import SignalPath
from agent.paths.state_sink import StateSink
from agent.paths.trip_log import last_trips
from agent.paths.vehicle_events import Around
from agent.runtime.log import EventLog
from agent.runtime.worker import Worker
from agent.supervision import watchdog
from agent.supervision.service_manager import ServiceManager
from agent.supervision.staged_stop import stage
from agent.supervision.status_socket import DaemonRunningError, StatusSocket
from agent.supervision.supervisor import Progress, Supervisor, Unit
from agent.uplink.network_watch import NetworkWatch
from agent.uplink.publisher import Publisher
from agent.wire.orders import Answer
from agent.wire.topics import Topics

if TYPE_CHECKING:
    from agent.app.black_box import BlackBox
    from agent.app.impact_parts import ImpactParts
    from agent.paths.power_path import PowerPath

log = EventLog("daemon")
_CLOSE_S = 1.0
"""What is only closed, with nothing left to send, gets this long; the store twice."""
SOCKET_RETRY_S = 2.0
_CLOSINGS = 7
_END_MARGIN_S = 1.0
"""Beyond the deadlines of the stages. With them it is 19 s, and systemd kills after 20."""


class Daemon:
    """One agent. `run` returns after an orderly stop; create a new one to run again.

    Attributes:
        was_ready: whether systemd was told that it runs.
    """

    def __init__(
        self,
        config: Config,
        platform: Platform,
        *,
        patches: Patches | None = None,
        end_within: Callable[[float], None] | None = None,
    ) -> None:
        """Build every part.

        Args:
            config: what to run.
            platform: makes devices, clocks and threads.
            patches: what in `config` was changed from afar; None where it is in no file.
            end_within: called once when the stop begins, to see to it that this process ends in so many
                seconds; None where the process is not ours to end.
        """
        self._config = config
        self._end_within = end_within
        self._ending = False
        self.again = False
        """Whether it is to be run anew after the stop: somebody asked for a restart."""
        self._platform = platform
        self._stop = asyncio.Event()
        self._manager = ServiceManager()
        self.was_ready = False
        self._clock = platform.clock()
        self._rng = platform.random()
        self.health = HealthBoard()
        self.time_base = TimeBase(config.clock.floor(platform.built_utc_ms()), replay=config.clock.replay)
        self.outbox = Outbox(
            config.store, self._clock, platform.worker("outbox"), self.health, entropy=platform.entropy()
        )
        rows = RowTime(self.time_base, self.outbox)
        topics = Topics(config.unit.agency, config.unit.unit)
        self._signals: SignalPath | None = None
        self._impact = self._impact_parts()
        memory_worker = platform.worker("run-memory")
        self._odometer = OdometerPath(
            self._clock,
            self.time_base,
            self.outbox,
            RunMemory(
                config.store.directory / "odometer.json",
                memory_worker,
                self.health,
                reason=HealthReason.ODOMETER_NOT_KEPT,
                closes_worker=False,
            ),
        )
        self._crew_parts = CrewParts(
            config,
            self._clock,
            self.time_base,
            self.health,
            outbox=self.outbox,
            states=self,
            connected=lambda: self.publisher.connected,
            signals=self._signals_now,
            odometer=self._odometer.reading,
            worker=memory_worker,
            on_crossing=self._on_crossing,
            more_actions={} if self._impact is None else {"keep_recording": self._crew_keeps},
        )
        self._crew = self._crew_parts.presses
        self._fleet_parts = FleetParts(
            config,
            self._clock,
            self.time_base,
            self.health,
            outbox=self.outbox,
            publisher=lambda: self.publisher,
            fixes=lambda: self._fixes,
            signals=lambda: self._place.signals(self._signals_now()),
            status=self._status_told,
            bundle=self._bundle,
            seen=self._seen_by_dispatch,
            patches=patches,
            worker=memory_worker,
            errands=platform.worker("errands"),
            restart=self.restart,
            readiness=lambda: readiness(self.status()),
            service_done=(lambda item, _: self._vehicle.service_done(item)) if config.services else None,
            keep=None if self._impact is None else self._impact.keep,
        )
        self.publisher = Publisher(
            config.uplink,
            topics,
            self.outbox,
            platform.link(),
            self._clock,
            self.health,
            rng=self._rng,
            agent_version=__version__,
            utc_now=self._utc_now,
            # A recording's time is not that of the broker's certificates.
            certificate_utc=(lambda: None) if config.clock.of_the_past else self._utc_now,
            resolve_utc=rows,
            commands=[*self._crew_parts.commands(), *self._fleet_parts.rows()],
        )
        privacy = Privacy(config.privacy.rule())
        place = PrivatePlace(privacy, self.publisher, self.time_base, self._clock)
        self._states: StateSink = place
        self._place = place
        self.outbox.before_store = place.before_store
        self._fixes = FixPath(
            LivePolicy(config.reporting.bounds()),
            TrailPolicy(
                tolerance_m=config.reporting.trail_tolerance_m,
                moving_interval_s=config.reporting.moving_interval_s,
                stationary_interval_s=config.reporting.stationary_interval_s,
                moving_above_mps=config.reporting.moving_above_mps,
            ),
            self.time_base,
            outbox=self.outbox,
            states=self._states,
            health=self.health,
            odometer=self._odometer,
            on_believed=self._on_believed,
            # Played fast, two lines that are a tenth of a second apart are seconds apart on the road.
            wheels_keep_pace=not config.clock.replay,
        )
        self._crew_states = StatusWatch(place, self._fixes, privacy)
        alarm = GnssAlarmPath(self._clock, self.time_base, self.health, self.outbox)
        self._fixes.on_sign = (lambda *_: None) if config.clock.replay else alarm.on_sign
        self._clock_watch = ClockWatch(
            self._clock,
            self.time_base,
            self.health,
            # The time of a recording that is played fast moves all the while.
            outbox=None if config.clock.replay else self.outbox,
            rows=rows,
            # Played fast, drives begin anew far away and at other times.
            on_second=(lambda _: None) if config.clock.replay else alarm.look,
            ntp=config.clock.believes_ntp,
            pass_on=self._pass_on(),
            on_sleep_over=self._on_sleep_over,
        )
        self._computer = ComputerWatch(
            platform.computer(config.store.directory), platform.worker("computer"), self.health
        )
        self._vehicle = self._vehicle_parts(memory_worker)
        self._devices = DeviceUnits(
            config,
            self._clock,
            self.health,
            fixes=self._fixes,
            crew=self._crew,
            make_worker=platform.worker,
            events=self._vehicle.events,
            may_ask=self._may_ask,
            impact=self._impact,
            buzzer=self._crew_parts.buzzer,
        )
        self._health_path = HealthPath(
            board=self.health,
            clock=self._clock,
            time_base=self.time_base,
            outbox=self.outbox,
            states=self.publisher,
            interval_s=config.reporting.health_interval_s,
        )
        self._fixes.heard = self._devices.heard
        if self._devices.gives_signals:
            self._signals = self._signal_path()
        self._power = self._power_path()
        self._black_box: BlackBox | None = None
        if config.recorder is not None:
            from agent.app.black_box import BlackBox

            self._black_box = BlackBox(config, platform, self._clock, self.health)
        self._supervisor = Supervisor(config.supervision, self.health, self._rng)
        self._sources: list[str] = []
        self._flushing: asyncio.Task[None] | None = None

    def _pass_on(self) -> Callable[[float], None] | None:
        """What takes the receiver's time for the system clock; the time of a recording is not passed on."""
        path = self._config.clock.chrony_socket
        if path is None or self._config.clock.of_the_past:
            return None
        return self._platform.time_service(path)

    def _signal_path(self) -> SignalPath:
        return SignalPath(
            TelemetryPolicy(
                interval_s=self._config.reporting.telemetry_interval_s,
                stale_after_s_of=self._devices.stale_after_s(),
                on_change=self._devices.on_change(),
            ),
            self._clock,
            self.time_base,
            outbox=self.outbox,
            states=self._states,
            state_interval_s=self._config.reporting.vehicle_state_interval_s,
            on_ignition=self._on_ignition,
            on_tick=self._vehicle.look,
        )

    def _vehicle_parts(self, memory_worker: Worker) -> VehicleParts:
        parts = VehicleParts(
            self._config,
            self._clock,
            self.time_base,
            self.health,
            outbox=self.outbox,
            places=self._crew_parts.run.places,
            worker=memory_worker,
            newest_fix=lambda: self._fixes.newest,
            around=self._around,
            odometer=self._odometer.reading,
            alerted_ns=lambda: self._crew_parts.run.calls.alerted_ns,
            hurry=lambda max_age_s: self._fixes.hurry("unattended", max_age_s),
        )
        buzzer = self._crew_parts.buzzer
        if buzzer is not None:
            parts.listen(lambda _: buzzer.driving())
        return parts

    def _impact_parts(self) -> ImpactParts | None:
        settings = self._config.impact
        if settings is None:
            return None
        from agent.app.impact_parts import ImpactParts

        def context() -> Mapping[str, Any]:
            return {
                "position": self._vehicle.events.position(self._clock.boottime_ns()),
                "incident": self._crew_parts.run.incident,
            }

        return ImpactParts(
            settings,
            self._config,
            self._platform,
            clock=self._clock,
            time_base=self.time_base,
            health=self.health,
            outbox=self.outbox,
            context=context,
        )

    def _around(self) -> Around:
        """What the crew does, for what the vehicle tells."""
        run, status = self._crew_parts.run, self._crew.snapshot()["status"]
        return Around(
            None if status is None else str(status),
            run.incident,
            run.aboard.roster.driver,
            self._vehicle.events.odometer_m,
            aboard=bool(run.aboard.roster.crew),
        )

    def _may_ask(self, device: DiagnosticDevice) -> bool:
        """Whether the vehicle's control units may be asked now."""
        if not device.without_ignition and self._vehicle.events.ignition_on is not True:
            return False
        responds = self._crew_parts.run.incident is not None or self._vehicle.events.mode in (
            ResponseMode.LIGHTS,
            ResponseMode.LIGHTS_AND_SIREN,
        )
        return device.while_responding or not responds

    def _services(self) -> list[str]:
        return [service.name for service in self._config.services]

    def _service_done(self, name: str) -> list[dict[str, Any]]:
        """A technician says so at the vehicle."""
        self._vehicle.service_done(name)
        return self._vehicle.services()

    def _crew_keeps(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._impact is not None
        self._impact.keep("crew", "the crew asked for it")
        return {"ok": True}

    def _power_path(self) -> PowerPath | None:
        settings, signals = self._config.power, self._signals
        if settings is None:
            return None
        from agent.app.power_parts import power_path

        return power_path(
            settings,
            self._platform,
            self._clock,
            self.health,
            crew=self._crew_parts,
            fixes=self._fixes,
            outbox=self.outbox,
            publisher=self.publisher,
            resting=[self._health_path] if signals is None else [self._health_path, signals],
            signals=dict if signals is None else signals.snapshot,
        )

    def _on_sleep_over(self, slept_ns: int) -> None:
        """The computer slept: what was true before is not known now, and no connection is waited for."""
        self._devices.slept(slept_ns)
        self._crew.sleep_over()
        if self._power is not None:
            self._power.resumed()
        # Where the unit is now the next fix tells; until then nobody knows.
        self._fixes.on_silence(self._clock.boottime_ns())
        self.publisher.network_changed()

    def _on_believed(self, fix: Fix) -> None:
        self._crew_parts.run.on_fix(fix)
        self._vehicle.on_fix(fix)

    def _on_crossing(self) -> None:
        self._fixes.tell_next()

    def _signals_now(self) -> dict[str, Any]:
        return {} if self._signals is None else self._signals.snapshot()

    def _seen_by_dispatch(self, journal: int, seq: int, request: str) -> None:
        answer = Answer(request, journal, seq, accepted=True, reason=None, text=None)
        self._crew.corrections.on_answer(answer)

    async def _bundle(self) -> dict[str, Any]:
        return {
            "status": self._status_told(),
            "outbox": self.outbox_report(),
            "trips": await last_trips(self.outbox),
        }

    def set_state(self, state: State) -> None:
        """Publish what the crew and the run say; a status makes the position follow."""
        self._crew_states.set_state(state)
        if isinstance(state, UnitState):
            self._fleet_parts.on_crew(state.crew)

    def _utc_now(self) -> Utc | None:
        return self.time_base.utc(self._clock.boottime_ns())

    def stop(self) -> None:
        """Begin the orderly stop."""
        self._begin_end()
        self._stop.set()

    def restart(self) -> None:
        """Begin the orderly stop, after which this agent is to be run anew."""
        self.again = True
        self.stop()

    def _begin_end(self) -> None:
        """From now on the end comes within the stages' deadlines, whatever holds them up."""
        limits = self._config.supervision
        if self._end_within is not None and not self._ending:
            self._ending = True
            stages_s = limits.stop_sources_s + limits.stop_outbox_s + limits.stop_uplink_s
            self._end_within(stages_s + _CLOSINGS * _CLOSE_S + _END_MARGIN_S)

    async def run(self) -> None:
        """Run until `stop`, then drain.

        Raises:
            BudgetSpentError: a part failed too often.
            DaemonRunningError: another agent runs with this configuration.
            ConfigError: a vehicle file can not be used.
        """
        socket = StatusSocket(
            self._config.status_socket,
            {
                "status": self.status,
                "outbox": self.outbox_report,
                "times": self._crew_parts.times.snapshot,
                "trips": lambda: last_trips(self.outbox),
                "readiness": self.readiness,
                "sky": self._devices.sky,
                "buttons": self._devices.buttons,
                "services": self._vehicle.services,
                **{f"service done {name}": partial(self._service_done, name) for name in self._services()},
            },
        )
        # First, because it tells whether another agent has the store and the devices.
        asked = await self._is_asked(socket)
        feeding: asyncio.Task[None] | None = None
        try:
            if await self._open_unless_stopped():
                self._start_units()
                if not asked:
                    self._start_source(Unit("status-socket", partial(self._ask_later, socket)))
                self._manager.ready()
                self.was_ready = True
                log.info("ready", agency=self._config.unit.agency, unit=self._config.unit.unit)
                feeding = asyncio.get_running_loop().create_task(
                    watchdog.feed(self._manager, self._supervisor), name="watchdog"
                )
                await self._until_stop()
        finally:
            if not self.again:  # a service manager that was told would end the process that comes next
                self._manager.stopping()
            self._begin_end()
            await self._drain()
            await stage("status_socket", socket.close(), _CLOSE_S)
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            self._manager.close()
            log.info("stopped")

    async def _open_unless_stopped(self) -> bool:
        """Open the paths; False when the stop comes first: nobody has to wait for a slow disk."""
        loop = asyncio.get_running_loop()
        opening = loop.create_task(self._open_paths(), name="open-paths")
        stopping = loop.create_task(self._stop.wait(), name="stop-while-opening")
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if opening.done():
            opening.result()
            return True
        opening.cancel()
        return False

    async def _open_paths(self) -> None:
        """Make what is retained at the broker true for this run, before anything is published."""
        await self.outbox.open()
        self._clock_watch.look()
        now_ns = self._clock.boottime_ns()
        await self._odometer.open()
        await self._fixes.open(now_ns)
        self.publisher.set_state(VehicleState(now_ns // 1_000_000, self.time_base.utc(now_ns), ()))
        await self._crew_parts.open()
        await self._fleet_parts.open()
        await self._vehicle.open()

    def _status_told(self) -> dict[str, Any]:
        """The same for who is not aboard: off duty without the place, where that is configured."""
        status = self.status()
        if not self._place.holds:
            return status
        return {**status, "position": None, "vehicle": dict(self._place.signals(status["vehicle"]))}

    def status(self) -> dict[str, Any]:
        """What the daemon thinks, JSON-able."""
        fix = self._fixes.newest
        now_ns = self._clock.boottime_ns()
        utc = self.time_base.utc(now_ns)
        return {
            "unit": f"{self._config.unit.agency}/{self._config.unit.unit}",
            "crew": self._crew.snapshot(),
            "position": None if fix is None or not fix.has_position else _fix_report(fix, now_ns),
            "link": asdict(self.publisher.snapshot()),
            "backlog": {
                str(stream): self.outbox.last_seq(stream) - self.outbox.confirmed(stream) for stream in Stream
            },
            "health": {str(reason): detail for reason, detail in self.health.details().items()},
            "clock": {
                "boottime_s": now_ns // 1_000_000_000,
                "utc_source": "none" if utc is None else utc.source.name.lower(),
                "utc_unix_ms": None if utc is None else utc.unix_ms,
            },
            "odometer": dict(zip(("metres", "source"), told(self._odometer.now()), strict=True)),
            "vehicle": {} if self._signals is None else self._signals.snapshot(),
            "buses": {name: bus.report() for name, bus in self._devices.buses.items()},
            "pollers": {name: poller.report() for name, poller in self._devices.pollers.items()},
            "vehicle_events": self._vehicle.events.snapshot(),
            "services": self._vehicle.services(),
            "impact": None if self._impact is None else self._impact.recorder.snapshot(),
            "computer": self._computer.snapshot(),
            "power": None if self._power is None else self._power.snapshot(),
            "version": __version__,
            "config": self._fleet_parts.snapshot(),
            "commands": self.publisher.commands_snapshot(),
            "starts": self._fleet_parts.starts,
            "units": self._supervisor.states(),
        }

    def readiness(self) -> dict[str, Any]:
        """Whether the unit is ready for its shift, JSON-able."""
        subjects = readiness(self.status())
        return {
            "unit": f"{self._config.unit.agency}/{self._config.unit.unit}",
            "ready": all(one.ready is not Ready.BAD for one in subjects),
            "subjects": [asdict(one) for one in subjects],
        }

    def outbox_report(self) -> dict[str, Any]:
        """What is stored and not yet delivered, JSON-able."""
        backlog = self.outbox.backlog()
        return {
            "journal": f"{self.outbox.journal:08x}",
            "boot": self.outbox.boot,
            "streams": {
                str(stream): {
                    "last_seq": self.outbox.last_seq(stream),
                    "confirmed_seq": self.outbox.confirmed(stream),
                    "waiting_records": waiting.records,
                    "waiting_bytes": waiting.bytes,
                    "oldest_utc_ms": waiting.oldest_utc_ms,
                }
                for stream, waiting in backlog.streams.items()
            },
            "not_yet_on_disk_records": backlog.unsaved,
            "store_bytes": backlog.stored_bytes,
            "replay_records": backlog.replay_records,
            "replay_bytes": backlog.replay_bytes,
        }

    def _start_units(self) -> None:
        config, start = self._config, self._supervisor.start
        start(Unit("outbox", self.outbox.run))
        start(Unit("uplink", self.publisher.run))
        network = self._platform.network()
        if network is not None:
            watch = NetworkWatch(network, self.health, self.publisher.network_changed)
            self._start_source(Unit("network", watch.run))
        start(Unit("clock", self._clock_watch.run))
        start(Unit("computer", self._computer.run))
        start(Unit("crew", self._crew.run))
        for unit in (*self._crew_parts.units(), *self._fleet_parts.units()):
            self._start_source(unit)
        start(Unit("health", self._health_path.run))
        if self._power is not None:
            self._start_source(Unit("power", self._power.run))
        if config.metrics is not None:
            from agent.supervision.metrics_endpoint import MetricsEndpoint

            endpoint = MetricsEndpoint(config.metrics.port, self.status, tuple(map(str, HealthReason)))
            self._start_source(Unit("metrics", endpoint.run))
        for unit in self._recorder_units():
            start(unit)
        for device in config.devices:
            recorder = None if self._black_box is None else self._black_box.recorder
            feed = device_feed(device, self._platform, self._clock, recorder)
            for unit in self._devices.units(device, feed, self._on_signals):
                self._start_source(unit)
        if self._signals is not None:
            self._start_source(Unit("telemetry", self._signals.run))
        elif self._config.vehicle is not None:
            self._start_source(Unit("vehicle", self._vehicle.run))

    def _recorder_units(self) -> Iterator[Unit]:
        if self._black_box is not None:
            yield Unit("black-box", self._black_box.recorder.run)
        if self._impact is not None:
            yield Unit("impact", self._impact.recorder.run)

    def _start_source(self, unit: Unit) -> None:
        self._sources.append(unit.name)
        self._supervisor.start(unit)

    def _on_signals(self, signals: Sequence[Signal]) -> None:
        self._fixes.on_signals(signals)
        if self._impact is not None:
            self._impact.told(signals)
        # First: what came of them is to be on the disk before an ignition that goes off takes the supply.
        self._vehicle.on_signals(signals)
        if self._signals is not None:
            self._signals.on_signals(signals)
        self._crew_parts.run.on_signals(signals)
        if self._power is not None:
            self._power.on_signals(signals)

    def _on_ignition(self, on: bool) -> None:
        log.info("ignition", on=on)
        if self._black_box is not None:
            self._black_box.recorder.ignition(on=on)
        self._vehicle.on_ignition(on=on)
        if not on:
            # The supply may go away any moment: what is staged goes to the disk now, not with the next group.
            self._flushing = asyncio.get_running_loop().create_task(self.outbox.flush(), name="ignition-off")

    async def _is_asked(self, socket: StatusSocket) -> bool:
        """Open the status socket; False, with a reason on the board, when it can not be made."""
        try:
            await socket.open()
        except OSError as error:
            # Nobody can ask how we are; that must not keep positions from dispatch.
            why = f"{self._config.status_socket}: {error.strerror}"
            log.error("status_socket_failed", why=why)
            self.health.raise_(HealthReason.STATUS_FAILED, why)
            return False
        self.health.clear(HealthReason.STATUS_FAILED)
        return True

    async def _ask_later(self, socket: StatusSocket, progress: Progress) -> None:
        """The loop of a unit that there is only when the socket could not be made at the start."""
        asked = False
        while True:
            progress()
            if not asked:
                with contextlib.suppress(DaemonRunningError):  # the store's lock is the judge of that now
                    asked = await self._is_asked(socket)
            await asyncio.sleep(SOCKET_RETRY_S)

    async def _until_stop(self) -> None:
        loop = asyncio.get_running_loop()
        stopping = loop.create_task(self._stop.wait(), name="until-stop")
        failing = loop.create_task(self._supervisor.failed(), name="until-failure")
        done, pending = await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if failing in done:
            failing.result()

    async def _drain(self) -> None:
        """Stop in stages, each with its deadline: sources, outbox, uplink."""
        limits = self._config.supervision
        await stage("sources", self._stop_sources(limits.stop_sources_s), limits.stop_sources_s)
        await stage("computer", self._computer.close(), _CLOSE_S)
        await stage("outbox_flush", self._flush(), limits.stop_outbox_s)
        await stage("uplink", self._stop_uplink(limits.stop_uplink_s), limits.stop_uplink_s)
        await stage("units", self._supervisor.stop(["crew", "uplink", "outbox"], _CLOSE_S / 2), _CLOSE_S)
        await stage("odometer", self._odometer.close(), _CLOSE_S)
        await stage("fleet", self._fleet_parts.close(), _CLOSE_S)
        await stage("memories", self._close_memories(), _CLOSE_S)
        await stage("outbox_close", self.outbox.close(), 2 * _CLOSE_S)

    async def _stop_sources(self, deadline_s: float) -> None:
        await self._supervisor.stop(
            [*self._sources, "health", "clock", "computer", "black-box", "impact"], deadline_s * 0.75
        )
        if self._impact is not None:
            await self._impact.close()
        if self._black_box is not None:
            await self._black_box.close()

    async def _close_memories(self) -> None:
        await self._vehicle.close()
        await self._crew_parts.close()  # and with it the worker of both

    async def _stop_uplink(self, deadline_s: float) -> None:
        # A little less than the stage's, so that a drain that is cut short can still say so.
        await self.publisher.drain(deadline_s * 0.9)

    async def _flush(self) -> None:
        if self._flushing is not None:
            await self._flushing
        await self.outbox.flush()


def _fix_report(fix: Fix, now_ns: int) -> dict[str, Any]:
    return {
        "lat_deg": fix.lat_deg,
        "lon_deg": fix.lon_deg,
        "speed_mps": fix.speed_mps,
        "course_deg": fix.course_deg,
        "mode": fix.mode.name.lower(),
        "satellites": fix.satellites,
        "age_s": round((now_ns - fix.received_boottime_ns) / 1e9, 1),
    }
