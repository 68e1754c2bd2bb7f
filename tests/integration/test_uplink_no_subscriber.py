"""A broker that has nobody for a record (PUBACK 0x10): it stays, is told, and goes once somebody listens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.domain.health import HealthReason
from agent.domain.record import Stream
from hil.broker_process import Broker, BrokerOptions, Mosquitto, find_mosquitto
from tests.integration.durable_session import durable_session
from tests.integration.test_uplink_publisher import Vehicle, dispatching, until

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


def test_record_that_nobody_is_subscribed_to_waits_and_says_so(tmp_path: Path) -> None:
    """[MDT-U-01]"""

    async def work(broker: Broker) -> None:
        async with Vehicle(tmp_path, broker) as vehicle:
            await vehicle.press("on_scene")
            vehicle.drive(50)
            await vehicle.outbox.flush()
            await until(lambda: set(vehicle.publisher.snapshot().no_subscriber) == {"events", "trail"})
            assert HealthReason.NO_SUBSCRIBER in vehicle.health.reasons()
            assert [vehicle.outbox.confirmed(stream) for stream in Stream] == [0, 0]
            assert vehicle.publisher.snapshot().in_flight <= 2, "one message of each stream asks"
            async with dispatching(broker) as dispatch:
                await until(lambda: vehicle.delivered)
                await until(lambda: HealthReason.NO_SUBSCRIBER not in vehicle.health.reasons())
                assert vehicle.publisher.snapshot().no_subscriber == ()
                await until(lambda: len(dispatch.arrivals) == 51)
            await vehicle.press("available")
            await until(lambda: vehicle.publisher.snapshot().no_subscriber == ("events",))
            assert vehicle.outbox.confirmed(Stream.EVENTS) == 1

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))


def test_session_that_the_broker_keeps_for_dispatch_counts_as_a_subscriber(tmp_path: Path) -> None:
    async def work(broker: Broker) -> None:
        async with Vehicle(tmp_path, broker) as vehicle:
            await vehicle.press("on_scene")
            await until(lambda: vehicle.delivered)
            assert HealthReason.NO_SUBSCRIBER not in vehicle.health.reasons()

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        durable_session(broker)
        asyncio.run(work(broker))
