"""The sources between the feeds of the configured devices and the paths that take what they give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.app.device_feeds import unit_name
from agent.config import ButtonDevice, CanDevice, Config, Device, DiagnosticDevice, GnssDevice, SampleDevice
from agent.domain.fix import Fix
from agent.domain.health import HealthBoard
from agent.domain.receiver_choice import ReceiverChoice
from agent.domain.record import CodeStage
from agent.domain.vehicle import Signal
from agent.hal.clock import Clock
from agent.hal.errors import DeviceNotFoundError
from agent.hal.feed import Feed
from agent.paths.crew_path import CrewPath
from agent.paths.fix_path import FixPath
from agent.paths.vehicle_events import VehicleEvents
from agent.runtime.log import EventLog
from agent.runtime.shortage import lacks_descriptors
from agent.runtime.worker import Worker
from agent.supervision.supervisor import Progress, Unit

if TYPE_CHECKING:
    from agent.app.impact_parts import ImpactParts
    from agent.paths.buzzer_path import BuzzerPath
    from agent.sources.can.can_decoder import CanDecoder
    from agent.sources.can.vehicle_bus import FrameTap, VehicleBus
    from agent.sources.can.vehicle_file import VehicleFile
    from agent.sources.crew_panel import CrewPanel
    from agent.sources.diagnostics.obd_poller import ObdPoller
    from agent.sources.gnss.gnss_source import GnssSource

log = EventLog("devices")
OnSignals = Callable[[Sequence[Signal]], None]


class DeviceUnits:
    """Makes the units of devices. What a vehicle does not have is not imported.

    Args:
        config: which devices there are, and what they share.
        clock: the boot's.
        health: gets what the sources say of their devices.
        fixes: takes what receivers give.
        crew: takes what buttons give.
        make_worker: where blocking work of a name is done.
        events: takes what control units say is wrong with them.
        may_ask: whether control units may be asked now, by a device's settings.
        impact: gets what may tell of an impact, at the rate of its source; None where none is recorded.
        buzzer: what the buzzers of panels sound by; None where nothing sounds.

    Attributes:
        receivers: the GNSS receivers by the name of their device, once their units were made.
        buses: the vehicle buses by the name of their device, once their units were made.
        pollers: what asks control units, likewise.
        panels: the crew's buttons by the name of their device, once their units were made.

    Raises:
        ConfigError: a vehicle file can not be used.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        health: HealthBoard,
        *,
        fixes: FixPath,
        crew: CrewPath,
        make_worker: Callable[[str], Worker],
        events: VehicleEvents,
        may_ask: Callable[[DiagnosticDevice], bool],
        impact: ImpactParts | None = None,
        buzzer: BuzzerPath | None = None,
    ) -> None:
        self._buzzer = buzzer
        self.panels: dict[str, CrewPanel] = {}
        self._config = config
        self._clock = clock
        self._health = health
        self._fixes = fixes
        self._crew = crew
        self._make_worker = make_worker
        self._events = events
        self._may_ask = may_ask
        self._impact = impact
        self.receivers: dict[str, GnssSource] = {}
        self.buses: dict[str, VehicleBus] = {}
        self.pollers: dict[str, ObdPoller] = {}
        self._choice = ReceiverChoice(
            [device.name for device in config.devices if isinstance(device, GnssDevice)]
        )
        self._vehicles: dict[str, VehicleFile] = {}
        for device in config.devices:
            if isinstance(device, CanDevice | DiagnosticDevice):
                from agent.sources.can.vehicle_file import load_vehicle_file

                self._vehicles[device.name] = load_vehicle_file(device.vehicle)

    @property
    def gives_signals(self) -> bool:
        """Whether there is a device that gives vehicle signals."""
        return any(
            isinstance(device, CanDevice | DiagnosticDevice | SampleDevice) for device in self._config.devices
        )

    def sky(self) -> dict[str, Any]:
        """What the receivers hear, JSON-able."""
        now_ns = self._clock.boottime_ns()
        return {
            "current": self._choice.current,
            "receivers": {name: receiver.snapshot(now_ns) for name, receiver in self.receivers.items()},
        }

    def slept(self, for_ns: int) -> None:
        """The computer slept for so long."""
        for panel in self.panels.values():
            panel.slept(for_ns)

    def buttons(self) -> dict[str, Any]:
        """What was pressed lately, by device; JSON-able."""
        return {name: panel.snapshot() for name, panel in self.panels.items()}

    def heard(self) -> tuple[int, int] | None:
        """Satellites that the receiver in use hears, and hears well; None when it does not tell."""
        receiver = self.receivers.get(self._choice.current or "")
        return None if receiver is None else receiver.heard(self._clock.boottime_ns())

    def stale_after_s(self) -> dict[str, float]:
        """The ages at which single signals are no longer known, by name."""
        ages: dict[str, float] = {}
        for vehicle in self._vehicles.values():
            ages.update(vehicle.stale_after_s())
        for device in self._config.devices:
            if isinstance(device, SampleDevice):
                ages.update(dict.fromkeys(device.signals(), device.stale_after_s))
        return ages

    def on_change(self) -> dict[str, bool]:
        """Whether each change makes a record, of the signals whose vehicle file tells; by name."""
        return {name: told for vehicle in self._vehicles.values() for name, told in vehicle.on_change()}

    def units(self, device: Device, feed: Feed[Any], on_signals: OnSignals) -> Iterator[Unit]:
        """The units that read `feed`, the device's.

        Args:
            device: its settings.
            feed: what it gives, not yet opened.
            on_signals: takes the signals of buses and sensors.

        A unit of a bus ends with ConfigError when the DBC of its vehicle file can not be used.
        """
        match device:
            case GnssDevice():
                yield self._receiver(device, feed)
            case CanDevice():
                yield self._bus(device, feed, on_signals)
            case ButtonDevice():
                yield from self._panel(device, feed)
            case SampleDevice():
                yield self._sensor(device, feed, on_signals)
            case DiagnosticDevice():
                yield self._poller(device, feed, on_signals)

    def _receiver(self, device: GnssDevice, feed: Any) -> Unit:
        if self._impact is not None:
            feed = self._impact.recorder.nmea(feed, device.name)
        from agent.sources.gnss.gnss_source import Decoder, GnssSource
        from agent.sources.gnss.receiver_decoder import ReceiverDecoder

        make_decoder: Callable[[], Decoder] = ReceiverDecoder
        if device.speaks_gpsd:
            from agent.sources.gnss.gpsd_json import GpsdDecoder

            make_decoder = GpsdDecoder
        source = GnssSource(
            feed, self._health, silent_after_s=device.silent_after_s, make_decoder=make_decoder
        )

        self.receivers[device.name] = source

        def on_fix(fix: Fix) -> None:
            before = self._choice.current
            used = self._choice.offer(device.name, fix)
            if before is not None and self._choice.current != before:
                self._fixes.on_switch(
                    before, self._choice.current, self._choice.reason, fix.received_boottime_ns
                )
            if used:
                self._fixes.on_fix(fix)

        def on_silence() -> None:
            if self._choice.is_silent(device.name):
                self._fixes.on_silence(self._clock.boottime_ns())

        async def run(progress: Progress) -> None:
            await source.run(on_fix, progress, on_silence)

        return Unit(unit_name(device), run)

    def _bus(self, device: CanDevice, feed: Any, on_signals: OnSignals) -> Unit:
        from agent.sources.can.vehicle_bus import VehicleBus

        bus = VehicleBus(
            feed,
            self._decoder_of(device),
            self._health,
            silent_after_s=device.silent_after_s,
            taps=self._taps(device, on_signals),
        )
        self.buses[device.name] = bus
        return Unit(unit_name(device), partial(bus.run, on_signals))

    def _decoder_of(self, device: CanDevice | DiagnosticDevice) -> Callable[[], Awaitable[CanDecoder]]:
        from agent.sources.can.decoder_cache import DecoderCache

        decoders = DecoderCache(
            self._config.store.directory / "decoders", lambda why: log.warning("decoder_cache", why=why)
        )

        async def decoder() -> CanDecoder:
            worker = self._make_worker(f"decoder-{device.name}")
            try:
                return await decoders.decoder_by(worker, self._vehicles[device.name], device.vehicle)
            except OSError as error:
                if lacks_descriptors(error):
                    raise
                # A card that can not be read takes the signals of this bus, and nothing else of the agent.
                why = f"its DBC can not be read: {error.strerror}"
                raise DeviceNotFoundError(str(device.vehicle), why) from error

        return decoder

    def _taps(self, device: CanDevice, on_signals: OnSignals) -> list[FrameTap]:
        taps: list[FrameTap] = []
        if self._vehicles[device.name].protocol == "j1939":
            from agent.sources.diagnostics.j1939_diagnostics import ActiveFaults, FaultTap

            def on_faults(said: ActiveFaults) -> None:
                take = self._events.on_previous if said.previous else self._events.on_faults
                take(said.controller, said.lamps, said.codes, said.at_ns)

            taps.append(FaultTap(on_faults, self._on_vin(on_signals)))
        if self._impact is not None:
            taps.append(self._impact.tap(device.name, lambda: self.buses[device.name].decoder))
        return taps

    def _poller(self, device: DiagnosticDevice, line: Any, on_signals: OnSignals) -> Unit:
        from agent.sources.diagnostics.obd_poller import ObdPoller

        def on_codes(controller: int, pending: bool, codes: list[str], at_ns: int) -> None:
            stage = CodeStage.PENDING if pending else CodeStage.CONFIRMED
            self._events.on_answered(controller, stage, codes, at_ns)

        poller = ObdPoller(
            line,
            device,
            self._decoder_of(device),
            may_ask=lambda: self._may_ask(device),
            on_codes=on_codes,
            on_vin=self._on_vin(on_signals),
            clock=self._clock,
            health=self._health,
        )
        self.pollers[device.name] = poller
        return Unit(unit_name(device), partial(poller.run, on_signals))

    def _on_vin(self, on_signals: OnSignals) -> Callable[[str, int], None] | None:
        """What takes the vehicle's number, as the configuration lets it be told; None when it is withheld."""
        unit = self._config.unit
        if unit.vin == "withheld":
            return None
        from agent.sources.diagnostics.obd_answers import hashed_vin

        def on_vin(vin: str, at_ns: int) -> None:
            told = vin if unit.vin == "told" else hashed_vin(vin, unit.agency)
            on_signals([Signal("VehicleIdentification.VIN", told, at_ns)])

        return on_vin

    def _panel(self, device: ButtonDevice, feed: Any) -> Iterator[Unit]:
        from agent.paths.panel_voice import PanelVoice
        from agent.sources.crew_panel import CrewPanel

        panel = CrewPanel(feed, self._clock, self._health, stuck_after_s=self._config.buttons.stuck_after_s)
        self.panels[device.name] = panel
        voice = PanelVoice(panel)
        if self._buzzer is not None:
            self._buzzer.attach(voice)
        yield Unit(unit_name(device), partial(panel.run, self._crew.attach(voice)))
        yield Unit(f"{unit_name(device)}-lamps", voice.run)

    def _sensor(self, device: SampleDevice, feed: Any, on_signals: OnSignals) -> Unit:
        from agent.sources.sensor import SensorSource

        source = SensorSource(feed, self._health, silent_after_s=device.silent_after_s)

        def on_samples(signals: Sequence[Signal]) -> None:
            if self._impact is not None:
                self._impact.on_signals(signals)
            on_signals(signals)

        return Unit(unit_name(device), partial(source.run, on_samples))
