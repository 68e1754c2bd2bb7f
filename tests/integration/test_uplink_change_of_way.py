"""From one interface to another, from one address to another, and out of a hole: with the shipped defaults.

The vehicle and its broker live in network namespaces with two ways between them; the kernel's netlink, its
routes and its TCP are the real ones.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.domain.health import HealthBoard
from agent.domain.record import Draft, StatusChange, Stream
from agent.domain.stamp import Stamp
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from agent.uplink.link.link import LinkEvent, Opening
from agent.uplink.link.paho_link import PahoLink
from agent.uplink.network_watch import NetworkWatch
from agent.uplink.publisher import Publisher
from agent.wire.topics import Topics
from firmware_shims.netlink import NetlinkFeed
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.dispatch import Dispatch
from hil.namespaces import BROKER_HOST, Namespace, NamespacesUnavailableError, TwoWays
from tests.integration.test_uplink_publisher import BootClock

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
WITHIN_S = 40.0


@pytest.fixture
def ways() -> Iterator[TwoWays]:
    try:
        both = TwoWays()
    except NamespacesUnavailableError as error:
        pytest.skip(str(error))
    with both:
        yield both


class MosquittoElsewhere(Mosquitto):
    """A broker in a namespace."""

    def __init__(self, directory: Path, namespace: Namespace) -> None:
        super().__init__(directory, BrokerOptions())
        self._namespace = namespace
        self.host = BROKER_HOST
        self._port = 1883

    def _command(self) -> list[str]:
        return ["ip", "netns", "exec", self._namespace.name, *super()._command()]


class LinkElsewhere(PahoLink):
    """A link whose connections are made in a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__()
        self._namespace = namespace

    def open(self, opening: Opening, on_event: Callable[[LinkEvent], None]) -> None:
        with self._namespace.entered():
            super().open(opening, on_event)


class Vehicle:
    """Outbox, uplink and the watch over the network, as the daemon wires them."""

    def __init__(self, outbox: Outbox, health: HealthBoard) -> None:
        way = config.Broker(host=BROKER_HOST, port=1883, allow_plaintext=True)
        self.outbox = outbox
        self.publisher = Publisher(
            config.Uplink(brokers=(way,)),
            Topics("bems", "A1"),
            outbox,
            PahoLink(),
            BootClock(),
            health,
            rng=random.Random(3),
        )
        self.watch = NetworkWatch(NetlinkFeed(), health, self.publisher.network_changed)

    async def press(self, status: str) -> None:
        body = StatusChange(status, None, status, None)
        await self.outbox.put(Draft(Stamp(BootClock().boottime_ns()), body))


def in_vehicle(
    ways: TwoWays, folder: Path, work: Callable[[Vehicle, Dispatch], Coroutine[Any, Any, None]]
) -> None:
    """Run `work` on a loop whose thread lives in the vehicle's namespace."""
    failure: list[BaseException] = []

    async def main() -> None:
        health = HealthBoard()
        outbox = Outbox(config.Store(directory=folder / "store"), BootClock(), ThreadWorker(), health)
        await outbox.open()
        vehicle = Vehicle(outbox, health)
        there = config.Broker(host=BROKER_HOST, port=1883, allow_plaintext=True)
        dispatch = Dispatch(LinkElsewhere(ways.broker), there)
        await dispatch.start()
        runs = [outbox.run, vehicle.publisher.run, vehicle.watch.run]
        tasks = [asyncio.create_task(run(lambda: None)) for run in runs]
        try:
            await until(lambda: dispatch.connected and vehicle.publisher.connected)
            await work(vehicle, dispatch)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await vehicle.publisher.drain(3)
            await dispatch.stop()
            await outbox.close()

    def run() -> None:
        try:
            with ways.vehicle.entered():
                asyncio.run(main())
        except BaseException as error:  # noqa: BLE001  # handed to the test
            failure.append(error)

    broker = MosquittoElsewhere(folder / "broker", ways.broker)
    with ways.broker.entered():
        broker.start()
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        broker.stop()
    if failure:
        raise failure[0]


async def until(condition: Callable[[], bool], within_s: float = WITHIN_S) -> float:
    """Wait; returns how long it took, in seconds."""
    begun = asyncio.get_running_loop().time()
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time() - begun


def told(dispatch: Dispatch) -> list[str]:
    bodies = [arrival.record.body for arrival in dispatch.arrivals if arrival.record.stream is Stream.EVENTS]
    return [body.status for body in bodies if isinstance(body, StatusChange)]


@pytest.mark.timeout(180)
def test_change_of_interface_or_address_costs_seconds_and_no_record(ways: TwoWays, tmp_path: Path) -> None:
    def another_address() -> None:
        ways.goes("wwan0")
        ways.comes("wwan0", metric=600, host=3)

    changes: dict[str, Callable[[], None]] = {
        "Wi-Fi comes and is preferred": lambda: ways.comes("wlan0", metric=100),
        "Wi-Fi goes": lambda: ways.goes("wlan0"),
        "the address changes": another_address,
    }
    took_s: dict[str, float] = {}

    async def work(vehicle: Vehicle, dispatch: Dispatch) -> None:
        for number, (name, change) in enumerate(changes.items()):
            await vehicle.press(f"before {number}")
            await until(lambda number=number: f"before {number}" in told(dispatch))  # type: ignore[misc]  # bound now
            connections = vehicle.publisher.snapshot().connections
            change()
            took_s[name] = await until(
                lambda connections=connections: vehicle.publisher.snapshot().connections > connections  # type: ignore[misc]
            )
            await vehicle.press(f"after {number}")
            await until(lambda number=number: f"after {number}" in told(dispatch))  # type: ignore[misc]  # bound now
        assert told(dispatch) == [f"{when} {n}" for n in range(len(changes)) for when in ("before", "after")]

    in_vehicle(ways, tmp_path, work)
    print({name: round(seconds, 2) for name, seconds in took_s.items()})


@pytest.mark.timeout(180)
def test_hole_that_nobody_tells_of_is_noticed_by_what_does_not_get_through(
    ways: TwoWays, tmp_path: Path
) -> None:
    async def work(vehicle: Vehicle, dispatch: Dispatch) -> None:
        await asyncio.to_thread(ways.swallow, "wwan0", on=True)
        await vehicle.press("in the hole")
        noticed_s = await until(lambda: not vehicle.publisher.connected)
        await asyncio.to_thread(ways.swallow, "wwan0", on=False)
        back_s = await until(lambda: vehicle.publisher.connected)
        await until(lambda: told(dispatch) == ["in the hole"])
        print({"noticed": round(noticed_s, 2), "back": round(back_s, 2)})

    in_vehicle(ways, tmp_path, work)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_after_many_tunnels_the_unit_is_back_in_seconds_with_a_press_sooner(
    ways: TwoWays, tmp_path: Path
) -> None:
    """At the settings as shipped, and nobody tells of the hole. Goals: 2 s with a press, 5 s without, at p95.

    Twice as much is let pass here: it is run on machines that do other things as well.
    """
    dice = random.Random(5)
    took_s: dict[bool, list[float]] = {True: [], False: []}

    async def work(vehicle: Vehicle, dispatch: Dispatch) -> None:
        for number in range(24):
            await asyncio.to_thread(ways.swallow, "wwan0", on=True)
            await asyncio.sleep(dice.uniform(12, 45))
            await asyncio.to_thread(ways.swallow, "wwan0", on=False)
            pressed, name, begun = bool(number % 2), f"tunnel {number}", asyncio.get_running_loop().time()
            if pressed:
                await vehicle.press(name)
                await until(lambda name=name: name in told(dispatch))  # type: ignore[misc]  # bound now
            else:
                await until(lambda: vehicle.publisher.connected)
            took_s[pressed].append(asyncio.get_running_loop().time() - begun)
            await until(lambda: vehicle.publisher.connected)

    in_vehicle(ways, tmp_path, work)
    p95_s = {pressed: sorted(waits)[int(0.95 * len(waits))] for pressed, waits in took_s.items()}
    print({pressed: [round(one, 2) for one in sorted(waits)] for pressed, waits in took_s.items()})
    assert p95_s[True] < 4
    assert p95_s[False] < 10
