"""Outbox, publisher and link against a real broker that is restarted, cut off and killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.domain.fix import FixMode
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Alert, Body, Draft, Position, StatusChange, Stream
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.domain.state import HealthState, LinkState, StatusState
from agent.hal.clock import SystemUtc
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from agent.uplink.link.paho_link import PahoLink
from agent.uplink.packet_limit import LEAST_BYTES
from agent.uplink.publisher import Publisher
from agent.wire.topics import Topics
from hil.broker_process import Broker, BrokerOptions, EmbeddedBroker, Mosquitto, find_mosquitto
from hil.dispatch import Dispatch
from hil.tcp_proxy import TcpProxy, Weather
from tests.integration.durable_session import durable_session

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
EPOCH_MS = 1_790_000_000_000


class BootClock:
    """The computer's boot time with a wall clock of its own."""

    def __init__(self, boot_id: str = "c" * 32) -> None:
        self.boot_id = boot_id

    def boottime_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def suspended_ns(self) -> int:
        return 0

    def system_utc(self) -> SystemUtc:
        return SystemUtc(EPOCH_MS, True, 10)


class Vehicle:
    """An outbox and an uplink that reach the broker through a proxy."""

    def __init__(self, folder: Path, broker: Broker, *, boot_id: str = "c" * 32, **table: Any) -> None:
        self.broker = broker
        self._clock = BootClock(boot_id)
        self.health = HealthBoard()
        self._folder = folder
        self._table = {"reconnect_min_s": 0.05, "reconnect_max_s": 0.2, "keepalive_s": 2} | table
        self._made = 0
        self._noise = random.Random(4)

    async def __aenter__(self) -> Vehicle:
        clock = self._clock
        self.proxy = TcpProxy(self.broker.host, self.broker.port)
        await self.proxy.start()
        store = config.Store(directory=self._folder / "store", group_commit_s=0.2)
        self.outbox = Outbox(store, clock, ThreadWorker(), self.health)
        await self.outbox.open()
        way = config.Broker(host=self.proxy.host, port=self.proxy.port, allow_plaintext=True)
        settings = config.Uplink(brokers=(way,), **self._table)
        self.publisher = Publisher(
            settings, Topics("bems", "A1"), self.outbox, PahoLink(), clock, self.health, rng=random.Random(2)
        )
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self.outbox.run(lambda: None)),
            loop.create_task(self.publisher.run(lambda: None)),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.publisher.drain(3)
        await self.outbox.close()
        await self.proxy.stop()

    def drive(self, count: int) -> None:
        """Stage positions."""
        for _ in range(count):
            self._made += 1
            noise = self._noise.random()
            body = Position(
                42.3 + noise / 10, -71.0 - noise / 7, 5.0, 10.0, noise * 359.0, FixMode.FIX_3D, 9, 0.9
            )
            self.outbox.stage(Draft(self._stamp(), body))

    def press(self, status: str) -> asyncio.Future[int]:
        """Put a status."""
        return self.put(StatusChange(status, None, status, None))

    def put(self, body: Body) -> asyncio.Future[int]:
        """Put anything."""
        return self.outbox.put(Draft(self._stamp(), body))

    def _stamp(self) -> Stamp:
        return Stamp(self._clock.boottime_ns(), Utc(EPOCH_MS + self._made * 1000, UtcSource.GNSS, 500))

    @property
    def delivered(self) -> bool:
        return all(self.outbox.confirmed(stream) == self.outbox.last_seq(stream) for stream in Stream)


@contextlib.asynccontextmanager
async def dispatching(broker: Broker, **more: Any) -> AsyncIterator[Dispatch]:
    way = config.Broker(host=broker.host, port=broker.port, allow_plaintext=True)
    dispatch = Dispatch(PahoLink(), way, **more)
    await dispatch.start()
    try:
        yield dispatch
    finally:
        await dispatch.stop()


async def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


def complete(vehicle: Vehicle, dispatch: Dispatch) -> Callable[[], bool]:
    """Whether dispatch has every record."""

    def check() -> bool:
        total = sum(vehicle.outbox.last_seq(stream) for stream in Stream)
        return (
            vehicle.delivered and len(dispatch.arrivals) >= total and dispatch.reader.counts.holes_open == 0
        )

    return check


def assert_exactly_once(vehicle: Vehicle, dispatch: Dispatch) -> None:
    seen = Counter((arrival.record.stream, arrival.record.seq) for arrival in dispatch.arrivals)
    expected = {(stream, seq) for stream in Stream for seq in range(1, vehicle.outbox.last_seq(stream) + 1)}
    assert set(seen) == expected
    assert set(seen.values()) == {1}
    assert dispatch.refused == []


def test_records_and_states_reach_dispatch(tmp_path: Path) -> None:
    async def work(broker: Broker) -> None:
        async with Vehicle(tmp_path, broker) as vehicle, dispatching(broker) as dispatch:
            await until(lambda: dispatch.connected)
            vehicle.publisher.set_state(StatusState(1, None, "available"))
            vehicle.drive(100)
            await vehicle.press("available")
            await until(complete(vehicle, dispatch))
            assert_exactly_once(vehicle, dispatch)
            await until(lambda: "status" in dispatch.states)
            link = dispatch.states["link"]
            assert isinstance(link, LinkState)
            assert link.online
            assert link.journal == vehicle.outbox.journal
            await vehicle.publisher.drain(3)
            await until(lambda: not dispatch.states["link"].online)  # type: ignore[attr-defined]  # a LinkState
            goodbye = dispatch.states["link"]
            assert isinstance(goodbye, LinkState)
            assert goodbye.planned
            assert goodbye.session == link.session

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))


def test_embedded_broker_serves_where_mosquitto_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("amqtt", exc_type=ImportError)

    async def work(broker: Broker) -> None:
        async with Vehicle(tmp_path, broker, keepalive_s=10) as vehicle, dispatching(broker) as dispatch:
            await until(lambda: dispatch.connected)
            vehicle.drive(50)
            await vehicle.press("available")
            await until(complete(vehicle, dispatch))
            assert_exactly_once(vehicle, dispatch)
            assert vehicle.publisher.snapshot().mqtt_version == 4

    with EmbeddedBroker(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))


async def under_load(vehicle: Vehicle, rounds: int, disturb: Callable[[int], Any], pause_s: float) -> None:
    """Presses and positions without a pause while something is disturbed again and again."""
    done = asyncio.Event()

    async def load() -> None:
        number = 0
        while not done.is_set():
            number += 1
            vehicle.drive(5)
            vehicle.press(f"p{number}")
            await asyncio.sleep(0.01)

    loading = asyncio.get_running_loop().create_task(load())
    try:
        for number in range(rounds):
            await asyncio.sleep(pause_s)
            outcome = disturb(number)
            if outcome is not None:
                await outcome
    finally:
        done.set()
        await loading


async def finish(vehicle: Vehicle, dispatch: Dispatch) -> None:
    """Both are connected again and one more record of each stream comes: that shows a reader its holes."""
    await until(lambda: vehicle.publisher.connected and dispatch.connected)
    vehicle.drive(1)
    await vehicle.press("last")
    await until(complete(vehicle, dispatch), 60.0)
    assert_exactly_once(vehicle, dispatch)


def rounds(quick: int) -> int:
    """A campaign does more: MDT_UPLINK_ROUNDS."""
    return int(os.environ.get("MDT_UPLINK_ROUNDS", quick))


def broker_restarts(tmp_path: Path, count: int) -> None:
    async def work(broker: Mosquitto) -> None:
        async with Vehicle(tmp_path, broker) as vehicle, dispatching(broker) as dispatch:
            await under_load(
                vehicle, count, lambda number: broker.restart() if number % 2 else _killed(broker), 0.15
            )
            await finish(vehicle, dispatch)
            assert vehicle.publisher.snapshot().connections > count / 2

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))


def _killed(broker: Mosquitto) -> None:
    broker.kill()
    broker.start()


def network_cuts(tmp_path: Path, count: int) -> None:
    async def work(broker: Mosquitto) -> None:
        async with Vehicle(tmp_path, broker) as vehicle, dispatching(broker) as dispatch:

            async def cut(number: int) -> None:
                kind = number % 4
                if kind == 0:
                    await vehicle.proxy.cut()
                elif kind == 1:
                    await vehicle.proxy.drop_connections(reset=False)
                elif kind == 2:
                    vehicle.proxy.set_weather(Weather(delay_s=0.05, jitter_s=0.1))
                else:
                    vehicle.proxy.set_weather(Weather(bytes_per_s=50_000))
                await asyncio.sleep(0.1)
                await vehicle.proxy.lift()

            await under_load(vehicle, count, cut, 0.1)
            await finish(vehicle, dispatch)

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))


def test_broker_restarts_under_load_lose_nothing(tmp_path: Path) -> None:
    broker_restarts(tmp_path, rounds(6))


def test_network_cuts_under_load_lose_nothing(tmp_path: Path) -> None:
    network_cuts(tmp_path, rounds(8))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hundred_broker_restarts_under_load_lose_nothing(tmp_path: Path) -> None:
    broker_restarts(tmp_path, rounds(100))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hundred_network_cuts_under_load_lose_nothing(tmp_path: Path) -> None:
    network_cuts(tmp_path, rounds(100))


def test_half_open_network_is_left_and_nothing_is_lost(tmp_path: Path) -> None:
    async def work(broker: Broker) -> None:
        async with Vehicle(tmp_path, broker, keepalive_s=1) as vehicle, dispatching(broker) as dispatch:
            await until(lambda: vehicle.publisher.connected and dispatch.connected)
            vehicle.proxy.set_weather(Weather(black_hole=True))
            vehicle.drive(20)
            await vehicle.press("on_scene")
            await until(lambda: not vehicle.publisher.connected, 1.5)
            assert HealthReason.BROKER_UNREACHABLE in vehicle.health.reasons()
            await vehicle.proxy.lift()
            await until(complete(vehicle, dispatch))
            assert_exactly_once(vehicle, dispatch)
            assert vehicle.health.reasons() == ()

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_broker_with_small_packets_and_two_in_flight_gets_everything(tmp_path: Path, encoding: str) -> None:
    async def work(broker: Broker) -> None:
        table: dict[str, Any] = {"encoding": encoding, "drain_bytes_per_s": 10**9}
        async with Vehicle(tmp_path, broker, **table) as vehicle, dispatching(broker) as dispatch:
            await until(lambda: dispatch.connected)
            vehicle.drive(4000)
            for number in range(5):
                await vehicle.press(f"p{number}")
            await until(complete(vehicle, dispatch))
            assert_exactly_once(vehicle, dispatch)
            assert all(isinstance(a.record.body, Position | StatusChange) for a in dispatch.arrivals)

    with Mosquitto(
        tmp_path / "broker", BrokerOptions(receive_maximum=2, max_packet_bytes=LEAST_BYTES)
    ) as broker:
        asyncio.run(work(broker))


@pytest.mark.parametrize("told", [True, False], ids=["the broker says so", "the broker hangs up"])
def test_packets_are_no_larger_than_the_broker_takes(tmp_path: Path, told: bool) -> None:
    large = Alert("large", random.Random(1).randbytes(250).hex())

    async def work(broker: Mosquitto) -> None:
        async with Vehicle(tmp_path, broker) as vehicle, dispatching(broker) as dispatch:
            await until(lambda: dispatch.connected and vehicle.publisher.connected)
            await vehicle.press("before")
            await vehicle.put(large)
            vehicle.drive(1000)
            await vehicle.press("after")
            await until(complete(vehicle, dispatch))
            assert_exactly_once(vehicle, dispatch)
            await until(lambda: vehicle.health.reasons() == ())

    # With the older setting mosquitto 2.0 tells nobody, and ends the connection.
    silent = BrokerOptions(extra_lines=("message_size_limit 4200",))
    with Mosquitto(tmp_path / "broker", BrokerOptions(max_packet_bytes=5000) if told else silent) as broker:
        asyncio.run(work(broker))


def test_broken_network_says_nothing_of_sizes_and_every_state_goes_on(tmp_path: Path) -> None:
    """A connection that is reset while large packets are under way, again and again, by the network."""

    async def work(broker: Mosquitto) -> None:
        async with Vehicle(tmp_path, broker) as vehicle, dispatching(broker) as dispatch:
            for round_number in range(8):
                await until(lambda: vehicle.publisher.connected)
                vehicle.drive(500)
                await vehicle.press(f"p{round_number}")
                details = tuple((f"reason {n}", "x" * 60) for n in range(15))
                vehicle.publisher.set_state(HealthState(round_number, None, (), details))
                await vehicle.proxy.drop_connections()
            await until(complete(vehicle, dispatch))
            await until(lambda: vehicle.health.reasons() == ())
            newest = dispatch.states["health"]
            assert isinstance(newest, HealthState)
            assert newest.boottime_ms == 7

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))


def test_broker_that_forgot_what_it_acknowledged_is_healed_by_replay(tmp_path: Path) -> None:
    """Dispatch is away and the broker is killed before it saved: what it acknowledged is gone."""

    async def work(broker: Mosquitto) -> None:
        async with Vehicle(tmp_path, broker) as vehicle, dispatching(broker) as dispatch:
            await until(lambda: dispatch.connected)
            vehicle.drive(50)
            await vehicle.press("available")
            await until(complete(vehicle, dispatch))
            await asyncio.to_thread(durable_session, broker)
            await dispatch.stop()
            vehicle.drive(70)
            await vehicle.press("en_route")
            await vehicle.outbox.flush()
            await until(lambda: vehicle.delivered)
            broker.kill()
            broker.start()
            await dispatch.start()
            await until(lambda: dispatch.connected and vehicle.publisher.connected)
            vehicle.drive(10)
            await vehicle.press("on_scene")
            await until(complete(vehicle, dispatch))
            assert_exactly_once(vehicle, dispatch)
            assert dispatch.reader.counts.filled >= 71

    options = BrokerOptions(persistence=False)
    with Mosquitto(tmp_path / "broker", options) as broker:
        asyncio.run(work(broker))


def test_receipts_of_dispatch_are_what_confirms(tmp_path: Path) -> None:
    async def work(broker: Broker) -> None:
        await asyncio.to_thread(durable_session, broker)
        async with Vehicle(tmp_path, broker, confirm="dispatch") as vehicle:
            vehicle.drive(30)
            await vehicle.press("available")
            await until(lambda: dict(vehicle.publisher.snapshot().landed) == {"events": 1, "trail": 30})
            assert vehicle.outbox.confirmed(Stream.TRAIL) == vehicle.outbox.confirmed(Stream.EVENTS) == 0
            async with dispatching(broker, receipts=True) as dispatch:
                await until(lambda: dispatch.connected)
                vehicle.drive(5)
                await vehicle.press("en_route")
                await until(complete(vehicle, dispatch))
                assert_exactly_once(vehicle, dispatch)

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))


def test_press_reaches_the_broker_at_once_while_a_backlog_drains(tmp_path: Path) -> None:
    async def work(broker: Broker) -> None:
        async with Vehicle(tmp_path, broker) as vehicle, dispatching(broker) as dispatch:
            await vehicle.proxy.cut()
            for _ in range(30):
                vehicle.drive(1000)
                await vehicle.outbox.flush()
            await vehicle.proxy.lift()
            await until(lambda: vehicle.publisher.connected and dispatch.connected)
            loop = asyncio.get_running_loop()
            waits = []
            for number in range(15):
                pressed = loop.time()
                seq = await vehicle.press(f"p{number}")
                await until(lambda seq=seq: vehicle.outbox.confirmed(Stream.EVENTS) >= seq)  # type: ignore[misc]  # now
                waits.append(loop.time() - pressed)
                await asyncio.sleep(0.05)
            assert not vehicle.delivered, "the backlog was gone before the presses were measured"
            assert sorted(waits)[len(waits) // 2] < 0.1
            await until(complete(vehicle, dispatch), 40.0)
            assert_exactly_once(vehicle, dispatch)
            late = [arrival.record for arrival in dispatch.arrivals if arrival.record.stream is Stream.TRAIL]
            assert all(record.history for record in late)

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))
