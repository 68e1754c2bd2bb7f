"""An image of the memory card that is put back, and a card in two computers, with a real broker."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from agent.domain.health import HealthReason
from agent.domain.record import Alert, StatusChange, Stream
from hil.broker_process import Broker, BrokerOptions, Mosquitto, find_mosquitto
from tests.integration.test_uplink_publisher import Vehicle, dispatching, until

SHIPPED = {"reconnect_min_s": 1.0, "reconnect_max_s": 60.0}
"""Quicker, and the two would throw each other out before either has said a word."""
pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


def told(arrivals: list[object]) -> list[str]:
    return [one.status for one in arrivals if isinstance(one, StatusChange)]


async def pressed(vehicle: Vehicle, *statuses: str) -> None:
    for status in statuses:
        await vehicle.press(status)
    await until(lambda: vehicle.delivered)


def test_image_of_the_card_that_is_put_back_loses_no_press_and_says_so(tmp_path: Path) -> None:
    async def work(broker: Broker) -> None:
        async with dispatching(broker) as dispatch:
            await until(lambda: dispatch.connected)
            async with Vehicle(tmp_path, broker, boot_id="1" * 32) as vehicle:
                await pressed(vehicle, "a1", "a2")
                before = vehicle.outbox.journal
            shutil.copytree(tmp_path / "store", tmp_path / "image")
            async with Vehicle(tmp_path, broker, boot_id="2" * 32) as vehicle:
                await pressed(vehicle, "b1", "b2", "b3")
            shutil.rmtree(tmp_path / "store")
            shutil.copytree(tmp_path / "image", tmp_path / "store")
            async with Vehicle(tmp_path, broker, boot_id="3" * 32) as vehicle:
                await vehicle.press("c1")
                await until(lambda: vehicle.outbox.journal != before)
                await pressed(vehicle, "c2")
                bodies = [arrival.record.body for arrival in dispatch.arrivals]
                await until(lambda: "c2" in told([arrival.record.body for arrival in dispatch.arrivals]))
            bodies = [arrival.record.body for arrival in dispatch.arrivals]
            assert told(list(bodies)) == ["a1", "a2", "b1", "b2", "b3", "c1", "c2"]
            assert any(isinstance(body, Alert) for body in bodies)

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))


def test_card_that_was_not_touched_keeps_its_journal_over_boots_and_crashes(tmp_path: Path) -> None:
    async def work(broker: Broker) -> None:
        journals = set()
        async with dispatching(broker) as dispatch:
            await until(lambda: dispatch.connected)
            for boot in range(1, 4):
                async with Vehicle(tmp_path, broker, boot_id=str(boot) * 32) as vehicle:
                    await pressed(vehicle, f"p{boot}")
                    journals.add(vehicle.outbox.journal)
                    if boot == 2:
                        await vehicle.proxy.cut()  # no farewell: the broker still says that it is there
        assert len(journals) == 1

    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))


@pytest.mark.timeout(180)
def test_copied_card_is_a_conflict_on_both_sides_and_no_press_is_lost(tmp_path: Path) -> None:
    async def work(broker: Broker) -> None:
        async with dispatching(broker) as dispatch:
            await until(lambda: dispatch.connected)
            async with Vehicle(tmp_path / "one", broker, boot_id="1" * 32) as vehicle:
                await pressed(vehicle, "before")
            shutil.copytree(tmp_path / "one", tmp_path / "two")
            async with (
                Vehicle(tmp_path / "one", broker, boot_id="a" * 32, **SHIPPED) as one,
                Vehicle(tmp_path / "two", broker, boot_id="b" * 32, **SHIPPED) as two,
            ):
                await one.press("of one")
                await two.press("of two")
                for vehicle in (one, two):
                    await until(
                        lambda vehicle=vehicle: HealthReason.IDENTITY_CONFLICT in vehicle.health.reasons(),  # type: ignore[misc]  # bound now
                        60,
                    )
                await until(lambda: one.delivered and two.delivered, 60)
                assert one.outbox.journal != two.outbox.journal
                assert one.outbox.confirmed(Stream.EVENTS) > 0
            bodies = [arrival.record.body for arrival in dispatch.arrivals]
            assert set(told(list(bodies))) >= {"before", "of one", "of two"}

    (tmp_path / "one").mkdir()
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        asyncio.run(work(broker))
