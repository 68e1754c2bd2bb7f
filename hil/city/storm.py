"""A mass casualty in a storm: real uplinks, a quarter of the coverage gone, the broker restarted.

Every unit is the real publisher with its link, outbox and store; mosquitto is real, and so is the service
with its own. The network between is a proxy that first swallows everything and tells nobody, as a dead mast
does, and then refuses, as a modem without a cell does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import statistics
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import config
from agent.config import Broker as BrokerSettings
from agent.domain.fix import FixMode
from agent.domain.health import HealthBoard
from agent.domain.record import Draft, Position, StatusChange, Stream
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.domain.state import LinkState, LocationState
from agent.outbox.outbox import Outbox
from agent.uplink.link.link import LinkEvent, Opening, Received
from agent.uplink.link.paho_link import PahoLink
from agent.uplink.publisher import Publisher
from agent.wire.codec import decode_state
from agent.wire.topics import Topics, parse_topic, subscriptions
from firmware_shims.system_clock import SystemClock
from hil.broker_process import Broker, BrokerOptions, open_broker
from hil.city.day import quick_folder
from hil.city.sim_unit import AGENCY
from hil.city.world import unit_name
from hil.dispatch_process import DispatchProcess
from hil.sim.inline_worker import InlineWorker
from hil.tcp_proxy import TcpProxy, Weather

STORM_SHARE = 0.25
BACK_WITHIN_S = 10.0
POSITION_EVERY_S = 2.0
STATUSES = ("acknowledged", "en_route", "on_scene", "at_patient", "transporting", "at_destination")
UP_WITHIN_S = 90.0
LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Course:
    """How long everything takes.

    Attributes:
        swallowed_s: nothing comes through, and nobody is told; by default for longer than a keep-alive and a
            half, so that the connections are dead.
        refused_s: then connections are refused.
        down_s: the broker is away.
    """

    swallowed_s: float = 45.0
    refused_s: float = 15.0
    down_s: float = 6.0


@dataclass(slots=True)
class Storm:
    """What the storm did.

    Attributes:
        units: how many.
        dark: how many of them lost their coverage.
        joined_s: until all were connected at the start.
        back_s: seconds from coverage to the first word at dispatch's broker, of each unit that had lost it.
        after_restart_s: the same from the broker's return, of all units.
        attempts: connections tried in each second since the broker stopped, all units together.
        attempts_at_start: in the busiest second, when all are switched on at once.
        most_messages_s: most messages that the broker gave out to one client within a second.
        broker_cpu: highest share of a core in a quarter of a second, in each part.
        pressed: presses made.
        stored: at dispatch.
        lost: pressed, and not at dispatch.
        doubled: at dispatch more than once.
    """

    units: int
    dark: int
    joined_s: float = 0.0
    back_s: list[float] = field(default_factory=list)
    after_restart_s: list[float] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    attempts_at_start: int = 0
    most_messages_s: int = 0
    broker_cpu: dict[str, float] = field(default_factory=dict)
    pressed: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0

    @property
    def passed(self) -> bool:
        """Whether everybody was back in time and nothing was lost."""
        late = [one for one in (*self.back_s, *self.after_restart_s) if one > BACK_WITHIN_S]
        all_back = len(self.back_s) == self.dark and len(self.after_restart_s) == self.units
        return all_back and not late and not self.lost and not self.doubled

    def told(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "units": self.units,
            "without_coverage": self.dark,
            "joined_s": round(self.joined_s, 2),
            "back_s": _spread(self.back_s),
            "after_restart_s": _spread(self.after_restart_s),
            "connections_in_the_busiest_second": max(self.attempts, default=0),
            "connections_each_second_after_the_broker_stopped": self.attempts,
            "connections_in_the_busiest_second_of_the_start": self.attempts_at_start,
            "messages_in_the_busiest_second": self.most_messages_s,
            "broker_cpu": {part: round(share, 2) for part, share in self.broker_cpu.items()},
            "pressed": self.pressed,
            "stored": self.stored,
            "lost": self.lost,
            "doubled": self.doubled,
            "passed": self.passed,
        }


class _CountedLink(PahoLink):
    """Notes when a connection is tried."""

    def __init__(self, tried: list[float]) -> None:
        super().__init__()
        self._tried = tried

    def open(self, opening: Opening, on_event: Callable[[LinkEvent], None]) -> None:
        """See PahoLink.open."""
        self._tried.append(asyncio.get_running_loop().time())
        super().open(opening, on_event)


class _Unit:
    """One uplink with its store."""

    def __init__(self, index: int, port: int, folder: Path, tried: list[float]) -> None:
        self.name = unit_name(index)
        self.pressed: list[str] = []
        self._index = index
        self._clock = SystemClock()
        health = HealthBoard()
        self._outbox = Outbox(config.Store(directory=folder / self.name), self._clock, InlineWorker(), health)
        broker = BrokerSettings(host="127.0.0.1", port=port, allow_plaintext=True)
        self._publisher = Publisher(
            config.Uplink(brokers=(broker,)),
            Topics(AGENCY, self.name),
            self._outbox,
            _CountedLink(tried),
            self._clock,
            health,
            rng=random.Random(index),
            utc_now=self._utc,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._session = random.Random(index).getrandbits(31)

    @property
    def connected(self) -> bool:
        """Whether a broker has it."""
        return self._publisher.connected

    @property
    def delivered(self) -> bool:
        """Whether all that was pressed was confirmed."""
        return self._outbox.confirmed(Stream.EVENTS) == self._outbox.last_seq(Stream.EVENTS)

    async def start(self) -> None:
        """Open the store and connect."""
        await self._outbox.open()
        create = asyncio.get_running_loop().create_task
        self._tasks = [
            create(self._outbox.run(lambda: None)),
            create(self._publisher.run(lambda: None)),
            create(self._report()),
        ]

    async def stop(self) -> None:
        """End it. Raises what ended one of its parts before."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._publisher.drain(2.0)
        await self._outbox.close()
        for one in ended:
            if isinstance(one, Exception):
                raise one

    def press(self, status: str) -> None:
        """The crew presses."""
        previous = self.pressed[-1] if self.pressed else None
        self.pressed.append(status)
        now_ns = self._clock.boottime_ns()
        body = StatusChange(status, previous, status, len(self.pressed), self._session)
        self._outbox.put(Draft(Stamp(now_ns, self._utc()), body))

    async def _report(self) -> None:
        """Where it is, every other second: on the way to one place, all of them."""
        step = 0
        while True:
            now_ns = self._clock.boottime_ns()
            position = Position(
                42.33 + self._index * 1e-3 + step * 1e-4, -71.07, 9.0, 11.0, 0.0, FixMode.FIX_3D, 11, 0.8
            )
            utc = self._utc()
            self._publisher.set_state(LocationState(now_ns // 1_000_000, utc, position, FixMode.FIX_3D))
            self._outbox.stage(Draft(Stamp(now_ns, utc), position))
            step += 1
            await asyncio.sleep(POSITION_EVERY_S)

    def _utc(self) -> Utc:
        return Utc(self._clock.system_utc().unix_ms, UtcSource.NTP, 50)


class _Watcher:
    """A client of the broker's own that notes when each unit was heard."""

    def __init__(self, port: int) -> None:
        self._broker = BrokerSettings(host="127.0.0.1", port=port, allow_plaintext=True)
        self._link = PahoLink()
        self.heard_s: dict[str, float] = {}
        self.messages: Counter[int] = Counter()

    async def start(self) -> None:
        """Subscribe to everything."""
        opening = Opening(
            broker=self._broker,
            client_id=f"watcher-{random.getrandbits(32):08x}",
            keepalive_s=10,
            connect_timeout_s=10,
            subscriptions=subscriptions(AGENCY),
        )
        self._link.open(opening, self._on_event)

    async def stop(self) -> None:
        """Disconnect."""
        await self._link.close()

    def forget(self) -> None:
        """What was heard before does not count any more."""
        self.heard_s.clear()

    def _on_event(self, event: LinkEvent) -> None:
        if not isinstance(event, Received) or event.retain:
            return
        parsed = parse_topic(event.topic)
        if parsed is None or (parsed.name == "link" and _is_will(event.payload)):
            return
        now_s = asyncio.get_running_loop().time()
        self.messages[int(now_s)] += 1
        self.heard_s.setdefault(parsed.topics.unit, now_s)


def _is_will(payload: bytes) -> bool:
    state = decode_state("link", payload)
    return isinstance(state, LinkState) and not state.online


class _CpuWatch:
    """How busy the broker's process is, looked at every quarter of a second.

    Attributes:
        part: what is going on now.
        most: highest share of a core in each part.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.part = "joining"
        self.most: dict[str, float] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        before: tuple[int, float] | None = None
        while True:
            now = _cpu_s(self._broker)
            if now is not None and before is not None and now[0] == before[0]:
                share = (now[1] - before[1]) / LOOK_S
                self.most[self.part] = max(self.most.get(self.part, 0.0), share)
            before = now
            await asyncio.sleep(LOOK_S)


async def run_storm(
    units: int, say: Callable[[str], None] = lambda _: None, course: Course | None = None
) -> Storm:
    """Let it come. Raises BrokerUnavailableError, BrokerStartError, or RuntimeError when nobody gets in."""
    storm = Storm(units, max(1, round(units * STORM_SHARE)))
    with tempfile.TemporaryDirectory(prefix="storm-", dir=quick_folder()) as name:
        folder = Path(name)
        broker = open_broker(folder, BrokerOptions())
        await asyncio.to_thread(broker.start)
        service = DispatchProcess(folder / "dispatch", f"mqtt://127.0.0.1:{broker.port}")
        try:
            await asyncio.to_thread(service.start)
            pressed = await _weather(storm, broker, folder, course or Course(), say)
            storm.pressed = sum(map(len, pressed.values()))
            await _until(lambda: _stored(service.store) >= storm.pressed, "not every press is stored")
        finally:
            await asyncio.to_thread(service.stop)
            await asyncio.to_thread(broker.stop)
        _count(storm, service.store, pressed)
    return storm


async def _weather(
    storm: Storm, broker: Broker, folder: Path, course: Course, say: Callable[[str], None]
) -> dict[str, list[str]]:
    """The whole course; returns what each unit pressed."""
    loop = asyncio.get_running_loop()
    tried: list[float] = []
    watcher, cpu = _Watcher(broker.port), _CpuWatch(broker)
    async with _proxy(broker.port) as open_land, _proxy(broker.port) as valley:
        crews = [
            _Unit(index, (valley if index < storm.dark else open_land).port, folder, tried)
            for index in range(storm.units)
        ]
        await watcher.start()
        looking = loop.create_task(cpu.run(), name="broker-cpu")
        try:
            began_s = loop.time()
            await asyncio.gather(*(unit.start() for unit in crews))
            await _until(lambda: all(unit.connected for unit in crews), "not all units got in")
            storm.joined_s = loop.time() - began_s
            storm.attempts_at_start = max(Counter(int(at_s - began_s) for at_s in tried).values())
            say(f"{storm.units} units connected after {storm.joined_s:.1f} s")
            cpu.part = "casualty"
            await _casualty(storm, crews, watcher, valley, course)
            say(f"{storm.dark} of them had no coverage; the last was back {max(storm.back_s):.1f} s after it")
            cpu.part = "restart"
            await _restart(storm, crews, watcher, broker, tried, course.down_s)
            say(f"broker restarted; the last was back {max(storm.after_restart_s):.1f} s after it")
            await _until(lambda: all(unit.delivered for unit in crews), "not everything was confirmed")
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await watcher.stop()
            await asyncio.gather(*(unit.stop() for unit in crews))
    storm.broker_cpu, storm.most_messages_s = cpu.most, max(watcher.messages.values(), default=0)
    return {unit.name: unit.pressed for unit in crews}


async def _casualty(
    storm: Storm, crews: Sequence[_Unit], watcher: _Watcher, valley: TcpProxy, course: Course
) -> None:
    """Everybody is sent to one place, and a quarter drives into a valley without a network."""
    loop = asyncio.get_running_loop()
    valley.set_weather(Weather(black_hole=True))
    for status in STATUSES[:3]:
        for unit in crews:
            unit.press(status)
            await asyncio.sleep(0.02)
        await asyncio.sleep(course.swallowed_s / 3)
    await valley.cut()
    await asyncio.sleep(course.refused_s)
    watcher.forget()
    lifted_s = loop.time()
    await valley.lift()
    dark = {unit.name for unit in crews[: storm.dark]}
    await _until(lambda: dark <= watcher.heard_s.keys(), "not all came back out of the valley")
    storm.back_s = sorted(watcher.heard_s[name] - lifted_s for name in dark)


async def _restart(  # noqa: PLR0917  # the parts of the course
    storm: Storm,
    crews: Sequence[_Unit],
    watcher: _Watcher,
    broker: Broker,
    tried: list[float],
    down_s: float,
) -> None:
    """The broker goes in the middle of it, and comes back after some seconds."""
    loop = asyncio.get_running_loop()
    stopped_s = loop.time()
    await asyncio.to_thread(broker.stop)
    for status in STATUSES[3:]:
        for unit in crews:
            unit.press(status)
        await asyncio.sleep(down_s / 3)
    await asyncio.to_thread(broker.start)
    await watcher.stop()
    watcher.forget()
    up_s = loop.time()
    await watcher.start()
    names = {unit.name for unit in crews}
    await _until(lambda: names <= watcher.heard_s.keys(), "not all came back to the broker")
    storm.after_restart_s = sorted(at_s - up_s for at_s in watcher.heard_s.values())
    counted = Counter(int(at_s - stopped_s) for at_s in tried if at_s >= stopped_s)
    storm.attempts = [counted[second] for second in range(max(counted, default=-1) + 1)]


# ------------------------------------------------------------------ looking


def _stored(store: str) -> int:
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM records WHERE kind = 2").fetchone()[0])
    finally:
        connection.close()


def _count(storm: Storm, store: str, pressed: dict[str, list[str]]) -> None:
    """What was pressed against what the service's file has, unit by unit and in order."""
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT units.unit, json_extract(records.body, '$.status') FROM records "
            "JOIN units ON units.unit_id = records.unit_id WHERE kind = 2 ORDER BY records.unit_id, seq"
        ).fetchall()
    finally:
        connection.close()
    storm.stored = len(rows)
    for name, statuses in pressed.items():
        there = [status for unit, status in rows if unit == name]
        if there != statuses:
            storm.lost += len(set(statuses) - set(there))
            storm.doubled += max(0, len(there) - len(set(there)))


def _cpu_s(broker: Broker) -> tuple[int, float] | None:
    """Process id and processor time of the broker; None while it does not run."""
    pid = getattr(broker, "pid", None)
    if pid is None:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return pid, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spread(values: Sequence[float]) -> dict[str, float | int]:
    if not values:
        return {"cases": 0}
    return {
        "cases": len(values),
        "median": round(statistics.median(values), 2),
        "longest": round(max(values), 2),
    }


@contextlib.asynccontextmanager
async def _proxy(port: int) -> AsyncIterator[TcpProxy]:
    proxy = TcpProxy("127.0.0.1", port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


async def _until(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait for a condition. Raises RuntimeError with `otherwise` when it does not come."""
    try:
        async with asyncio.timeout(UP_WITHIN_S):
            while not holds():
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise RuntimeError(f"{otherwise} within {UP_WITHIN_S:g} s") from error
