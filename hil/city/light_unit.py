"""A vehicle's agent without its devices, disk, threads and event loop: light enough for a city of them.

It is put together from the agent's own parts, wired as `agent.app.daemon` wires them: the rules of presses,
calls, places, stops, forgotten presses, positions, signals and driving, the time base, and everything that
packs. What stands in for others is in `light_store`: an outbox in memory, and an uplink whose messages arrive
after a fixed time. It makes no records of health and readiness, and no `state/health`.
`tests/integration/test_city.py` holds it to the whole app on the sim rig, record by record and byte by byte.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from agent import __version__
from agent.app.crew_parts import read_places
from agent.app.vehicle_parts import VehicleParts
from agent.config import CanDevice, Config
from agent.domain.crew import ButtonEdge
from agent.domain.fix import Fix
from agent.domain.health import HealthBoard
from agent.domain.privacy import Privacy
from agent.domain.record import Stream
from agent.domain.reporting import LivePolicy, TrailPolicy
from agent.domain.state import State, StatusState, VehicleState
from agent.domain.telemetry import TelemetryPolicy
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.outbox.outbox import Outbox
from agent.paths.clock_watch import ClockWatch
from agent.paths.crew_path import CrewPath
from agent.paths.fix_path import FixPath, StatusWatch
from agent.paths.gnss_alarm_path import GnssAlarmPath
from agent.paths.odometer_path import OdometerPath
from agent.paths.panel_voice import NoVoice
from agent.paths.private_place import PrivatePlace
from agent.paths.row_time import RowTime
from agent.paths.run_memory import RunMemory
from agent.paths.run_path import RunPath
from agent.paths.signal_path import SignalPath
from agent.paths.vehicle_events import Around
from agent.sources.can.vehicle_file import VehicleFile, load_vehicle_file
from agent.uplink.link.link import Message
from agent.uplink.presence import Presence
from agent.wire import orders
from agent.wire.topics import Topics
from hil.city.light_store import NS, LightStore, LightUplink, Sent, sent
from hil.sim.inline_worker import InlineWorker
from hil.sim.manual_clock import ManualClock

BUILT_BEFORE_MS = 100 * 86_400_000

_ORDERS: Mapping[str, Callable[[bytes], Any]] = {
    "assign": orders.decode_assign,
    "update": orders.decode_update,
    "cancel": orders.decode_cancel,
    "message": orders.decode_message,
    "crew": orders.decode_sign_on,
    "answer": orders.decode_answer,
    "amend": orders.decode_amend,
}


@dataclass(slots=True)
class _Boot:
    """The parts of one boot."""

    clock: ManualClock
    time_base: TimeBase
    fixes: FixPath
    crew: CrewPath
    run: RunPath
    signals: SignalPath
    vehicle: VehicleParts
    clock_watch: ClockWatch
    odometer: OdometerPath
    uplink: LightUplink
    edge: Callable[[ButtonEdge], None]
    began_ns: int
    order: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)


class _Memory:
    """What a file beside the store would hold; it outlives the power."""

    def __init__(self) -> None:
        self._picture: dict[str, Any] = {}

    async def read(self) -> Mapping[str, Any]:
        """See RunMemory.read."""
        return self._picture

    def keep(self, picture: Mapping[str, Any]) -> None:
        """See RunMemory.keep."""
        self._picture = json.loads(json.dumps(picture))


class _HintWatch:
    """Passes states on, and notes what the crew's page would suggest."""

    def __init__(self, sink: StatusWatch) -> None:
        self._sink = sink
        self.hint: str | None = None
        self.status: str | None = None
        self.incident: str | None = None

    def set_state(self, state: State) -> None:
        """Pass it on."""
        if isinstance(state, StatusState):
            self.hint, self.status, self.incident = state.hint, state.status, state.incident
        self._sink.set_state(state)


class LightUnit:
    """One unit with one store; off at first. Used on an event loop that nobody waits for.

    Args:
        configuration: the vehicle's; devices decide what its bus tells, and nothing else.
        unix_ms: UTC at the beginning of the simulation.
        seed: of back-offs and identities.
        now_ns: nanoseconds of the simulation.

    Attributes:
        store: what is on the disk; it outlives the power.
        lost_staged: records that power cuts took before they were on the disk.
    """

    def __init__(self, configuration: Config, *, unix_ms: int, seed: str, now_ns: Callable[[], int]) -> None:
        self.configuration = configuration
        self.topics = Topics(configuration.unit.agency, configuration.unit.unit)
        self.lost_staged = 0
        self.sent_again = 0
        self._unix_ms = unix_ms
        self._seed = seed
        self._present_ns = now_ns
        self._at_ns: int | None = None
        """The moment of what happens by itself, while it is made up for."""
        self._rng = random.Random(f"{seed}/uplink")
        self.store = LightStore(random.Random(f"{seed}/journal").getrandbits(32))
        self._remembered: dict[str, Any] = {}
        self._odometer_memory = _Memory()
        self._boot: _Boot | None = None
        self._boots = 0
        self._commit_at_ns = 0
        self._covered = False
        self._left: list[Sent] = []
        self._will: tuple[int, Message] | None = None
        self._page: _HintWatch | None = None
        self._vehicles: list[VehicleFile] = [
            load_vehicle_file(device.vehicle)
            for device in configuration.devices
            if isinstance(device, CanDevice)
        ]

    # ------------------------------------------------------------------ power

    @property
    def is_on(self) -> bool:
        """Whether the computer runs."""
        return self._boot is not None

    @property
    def hint(self) -> str | None:
        """What the crew's page suggests; None when nothing, or when it is dark."""
        return None if self._page is None or self._boot is None else self._page.hint

    @property
    def status(self) -> str | None:
        """The status that the crew's page shows."""
        return None if self._page is None or self._boot is None else self._page.status

    @property
    def incident(self) -> str | None:
        """The incident that the crew's page shows."""
        return None if self._page is None or self._boot is None else self._page.incident

    @property
    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME of the present boot."""
        assert self._boot is not None
        return self._boot.clock.boottime_ns()

    def _now_ns(self) -> int:
        return self._present_ns() if self._at_ns is None else self._at_ns

    async def power_on(self, boot_id: str | None = None) -> None:
        """Start: a wall clock that went on from where the power left it, and everything anew."""
        self._boots += 1
        if boot_id is None:
            boot_id = hashlib.sha256(f"{self._seed}/{self._boots}".encode()).hexdigest()[:32]
        clock = ManualClock(self._now_ns, boot_id=boot_id, unix_ms=self._unix_ms)
        self.store.boot += 1
        self._boot = boot = self._composed(clock)
        self._commit_at_ns = self._now_ns() + round(self.configuration.store.group_commit_s * NS)
        boot.uplink.now_ns = self._now_ns()
        boot.clock_watch.look()
        await boot.odometer.open()
        await boot.fixes.open(clock.boottime_ns())
        boot.uplink.set_state(
            VehicleState(clock.boottime_ns() // 1_000_000, boot.time_base.utc(clock.boottime_ns()), ())
        )
        boot.run.open(self._remembered)
        await boot.crew.open()
        boot.uplink.cover(covered=self._covered, now_ns=self._now_ns(), at_once=True)

    def power_off(self, *, orderly: bool) -> None:
        """Stop in good order, or lose the power."""
        boot = self._boot
        assert boot is not None
        self._settle()
        boot.uplink.now_ns = self._now_ns()
        if orderly:
            boot.signals.close()
            self.store.flush()
        else:
            self.lost_staged += self.store.cut()
        boot.uplink.power_off(orderly=orderly)
        # Without a battery the wall clock goes on from where it was when the power went.
        self._unix_ms += boot.clock.boottime_ns() // 1_000_000
        self._will = boot.uplink.will()
        self._left += boot.uplink.out
        self.sent_again += boot.uplink.sent_again
        self._boot = None

    def _composed(self, clock: ManualClock) -> _Boot:
        config, store = self.configuration, self.store
        outbox = cast("Outbox", store)
        health = HealthBoard()
        time_base = TimeBase(config.clock.floor(self._unix_ms - BUILT_BEFORE_MS), replay=config.clock.replay)
        rows = RowTime(time_base, outbox)
        presence = Presence(
            store,  # type: ignore[arg-type]  # a store in memory
            clock,
            self._rng,
            agent_version=__version__,
            utc_now=lambda: time_base.utc(clock.boottime_ns()),
        )
        uplink = LightUplink(config.uplink, self.topics, store, presence=presence, rows=rows, rng=self._rng)
        reporting = config.reporting
        signals: SignalPath
        odometer = OdometerPath(clock, time_base, outbox, cast("RunMemory", self._odometer_memory))
        run = RunPath(
            config.crew,
            config.unit.unit,
            read_places(config.places.file, health),
            clock,
            time_base,
            records=store,
            states=(page := _LateSink()),
            signals=lambda: signals.snapshot(),  # noqa: PLW0108  # made below
            odometer=odometer.reading,
            newest_seq=lambda: store.last_seq(Stream.EVENTS),
            keep=self._keep,
            on_crossing=lambda: fixes.tell_next(),  # noqa: PLW0108  # made below
        )
        privacy = Privacy(config.privacy.rule())
        place = PrivatePlace(privacy, uplink, time_base, clock)
        store.before_store = place.before_store
        fixes = FixPath(
            LivePolicy(reporting.bounds()),
            TrailPolicy(
                tolerance_m=reporting.trail_tolerance_m,
                moving_interval_s=reporting.moving_interval_s,
                stationary_interval_s=reporting.stationary_interval_s,
                moving_above_mps=reporting.moving_above_mps,
            ),
            time_base,
            outbox=outbox,
            states=place,
            health=health,
            odometer=odometer,
            on_believed=lambda fix: _believed(run, vehicle, fix),
            wheels_keep_pace=not config.clock.replay,
        )
        self._page = page.sink = _HintWatch(StatusWatch(place, fixes, privacy))
        alarm = GnssAlarmPath(clock, time_base, health, outbox)
        fixes.on_sign = alarm.on_sign
        crew = CrewPath(
            config.buttons.keys,
            clock,
            time_base,
            outbox,
            page,
            context=run,
            undo_s=config.crew.undo_s,
            receipts=config.uplink.confirm == "dispatch",
            silent=config.crew.emergency_silent,
        )
        run.listen(crew.publish)
        vehicle = VehicleParts(
            config,
            clock,
            time_base,
            health,
            outbox=outbox,
            places=run.places,
            worker=InlineWorker(),
            newest_fix=lambda: fixes.newest,
            around=lambda: _around(crew, run),
            odometer=odometer.reading,
            alerted_ns=lambda: run.calls.alerted_ns,
            hurry=lambda max_age_s: fixes.hurry("unattended", max_age_s),
        )
        signals = SignalPath(
            TelemetryPolicy(
                interval_s=reporting.telemetry_interval_s,
                stale_after_s_of={
                    name: age_s for one in self._vehicles for name, age_s in one.stale_after_s()
                },
                on_change={name: told for one in self._vehicles for name, told in one.on_change()},
            ),
            clock,
            time_base,
            outbox=outbox,
            states=place,
            state_interval_s=reporting.vehicle_state_interval_s,
            on_ignition=self._on_ignition,
            on_tick=vehicle.look,
        )
        return _Boot(
            clock,
            time_base,
            fixes,
            crew,
            run,
            signals,
            vehicle,
            ClockWatch(
                clock,
                time_base,
                health,
                outbox=outbox,
                rows=rows,
                on_second=alarm.look,
                ntp=config.clock.believes_ntp,
            ),
            odometer,
            uplink,
            crew.attach(NoVoice()),
            self._now_ns(),
            {
                "silence": fixes.on_silence,
                "assign": run.calls.on_assign,
                "update": run.calls.on_update,
                "cancel": run.calls.on_cancel,
                "message": run.calls.on_message,
                "crew": run.aboard.on_sign_on,
                "answer": crew.corrections.on_answer,
                "amend": crew.corrections.on_amend,
            },
        )

    def _keep(self, picture: Mapping[str, Any]) -> None:
        self._remembered = json.loads(json.dumps(picture))

    def _on_ignition(self, on: bool) -> None:
        assert self._boot is not None
        self._boot.vehicle.on_ignition(on=on)
        if not on:
            self.store.flush()

    # ------------------------------------------------------------------ what happens

    def cover(self, *, covered: bool) -> None:
        """Radio coverage comes or goes."""
        self._covered = covered
        if self._boot is not None:
            self._settle()
            self._boot.uplink.cover(covered=covered, now_ns=self._now_ns())

    def edge(self, edge: ButtonEdge) -> None:
        """A button of the crew went down or up."""
        assert self._boot is not None
        self._settle()
        self._boot.edge(edge)

    def fix(self, fix: Fix) -> None:
        """The receiver's epoch."""
        assert self._boot is not None
        self._settle()
        self._boot.fixes.on_fix(fix)
        self._send_new()

    def signals(self, signals: Sequence[Signal]) -> None:
        """Signals of the bus."""
        boot = self._boot
        assert boot is not None
        self._settle()
        boot.fixes.on_signals(signals)
        boot.vehicle.on_signals(signals)
        boot.signals.on_signals(signals)
        boot.run.on_signals(signals)
        self._send_new()

    def command(self, name: str, payload: bytes) -> bool:
        """Dispatch tells something; False when nobody hears it. Raises CodecError."""
        boot = self._boot
        if boot is None or not boot.uplink.connected or not self._covered:
            return False
        self._settle()
        if name in _ORDERS:
            boot.order[name](_ORDERS[name](payload))
            self._send_new()
        return True

    def given(self, name: str, order: Any) -> None:
        """An order that was read already, or the receiver's silence."""
        assert self._boot is not None
        self._settle()
        self._boot.order[name](order)
        self._send_new()

    def touch(self, action: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The crew does something on its page."""
        assert self._boot is not None
        self._settle()
        done = self._boot.run.actions()[action](given)
        self._send_new()
        return done

    def tick(self) -> None:
        """What a second brings, in the order in which the daemon starts its parts."""
        boot = self._boot
        if boot is None:
            self._publish_will()
            return
        self._settle()
        now_ns = self._now_ns()
        boot.clock_watch.tick()
        boot.crew.tick()
        boot.run.tick()
        boot.signals.tick()
        if now_ns >= self._commit_at_ns:
            self._commit_at_ns = now_ns + round(self.configuration.store.group_commit_s * NS)
            self.store.flush()
        self._send_new()

    def taken(self) -> list[Sent]:
        """What the broker got since the last call."""
        left, self._left = self._left, []
        if self._boot is not None:
            left += self._boot.uplink.out
            self._boot.uplink.out = []
        return left

    def settle(self) -> None:
        """Let the disk take what was put; to be called once the present event was dealt with."""
        if self.store.commit_due:
            self.store.flush()
        self._send_new()

    def _settle(self) -> None:
        """Make up for what happened by itself since the last event, each at its own moment."""
        assert self._boot is not None
        uplink, now_ns = self._boot.uplink, self._present_ns()
        self.settle()
        while (due_ns := uplink.due_ns()) is not None and due_ns <= now_ns:
            self._at_ns = due_ns
            uplink.tend(due_ns)
            self.settle()
        self._at_ns = None
        uplink.now_ns = now_ns

    def _send_new(self) -> None:
        if self.store.appended and self._boot is not None:
            self._boot.uplink.send()

    def _publish_will(self) -> None:
        """The broker speaks for a unit without power."""
        if self._will is not None and self._now_ns() >= self._will[0]:
            at_ns, message = self._will
            self._will = None
            self._left.append(sent(at_ns, message))


def _believed(run: RunPath, vehicle: VehicleParts, fix: Fix) -> None:
    run.on_fix(fix)
    vehicle.on_fix(fix)


def _around(crew: CrewPath, run: RunPath) -> Around:
    """What the crew does, for what the vehicle tells; as the daemon has it."""
    status = crew.snapshot()["status"]
    roster = run.aboard.roster
    token = None if status is None else str(status)
    return Around(token, run.incident, roster.driver, aboard=bool(roster.crew))


class _LateSink:
    """Stands where a sink is needed before it is made."""

    sink: _HintWatch

    def set_state(self, state: State) -> None:
        """Pass it on."""
        self.sink.set_state(state)
