"""Retained states: newest wins, nothing queues, what is refused is told and offered again."""

from __future__ import annotations

import asyncio

from agent.domain.fix import FixMode
from agent.domain.health import HealthReason
from agent.domain.state import STATE_TYPES, HealthState, LocationState, StatusState, VehicleState
from agent.uplink.link.link import Opened
from agent.uplink.link.refusal import NOT_AUTHORISED
from agent.uplink.packet_limit import LEAST_BYTES
from agent.uplink.state_sender import ORDER
from agent.wire.codec import decode_state
from tests.unit.uplink.publisher_rig import (
    TOPICS,
    Rig,
    bulky,
    silent_limit,
    until,
    virtually,
)


def test_a_state_too_large_for_a_silent_broker_keeps_nothing_else_from_it() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.answer = silent_limit(rig, 5000)
            rig.publisher.set_state(VehicleState(1, None, bulky(18000)))
            rig.journal.press()
            await rig.settled()
            await until(lambda: rig.health.reasons() == (HealthReason.PACKET_TOO_LARGE,))
            assert len(rig.link.openings) < 10
            rig.journal.press()
            await rig.settled()

    virtually(work)


def test_states_that_are_too_large_or_refused_are_named_reasons_and_offered_with_pauses() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.opened = Opened(5, maximum_packet_bytes=LEAST_BYTES)
            rig.link.answer = lambda m: NOT_AUTHORISED if m.topic == TOPICS.state("location") else 0
            rig.publisher.set_state(VehicleState(1, None, bulky(12000)))
            rig.publisher.set_state(LocationState(1, None, None, FixMode.NONE))
            reasons = (HealthReason.BROKER_REFUSED, HealthReason.PACKET_TOO_LARGE)
            await until(lambda: rig.health.reasons() == reasons)
            assert "vehicle" in rig.health.details()[HealthReason.PACKET_TOO_LARGE]
            assert "location" in rig.health.details()[HealthReason.BROKER_REFUSED]
            for second in range(100):
                rig.publisher.set_state(LocationState(second * 1000, None, None, FixMode.NONE))
                await asyncio.sleep(1)
            assert len(rig.link.on(TOPICS.state("location"))) < 25
            rig.link.answer = lambda _: 0
            rig.publisher.set_state(VehicleState(1, None, (("X", 1),)))
            await until(lambda: rig.health.reasons() == ())

    virtually(work)


def test_a_state_that_was_kept_back_goes_once_the_broker_seems_to_take_it() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.answer = lambda m: None if m.topic == TOPICS.state("vehicle") else 0
            vehicle = VehicleState(1, None, bulky(12000))
            rig.publisher.set_state(vehicle)
            openings = 1
            while HealthReason.PACKET_TOO_LARGE not in rig.health.reasons():
                await rig.opened(openings)
                await asyncio.sleep(2)
                rig.link.hang_up(openings)
                openings += 1
            offered = len(rig.link.on(TOPICS.state("vehicle")))
            rig.link.answer = lambda _: 0
            for _ in range(600):
                rig.journal.positions(1)
                await rig.settled()
            await until(lambda: HealthReason.PACKET_TOO_LARGE not in rig.health.reasons())
            assert len(rig.link.on(TOPICS.state("vehicle"))) > offered

    virtually(work)


def test_newest_state_wins_and_none_queues() -> None:
    async def work() -> None:
        async with Rig(position_expiry_s=600) as rig:
            rig.publisher.set_state(LocationState(0, None, None, FixMode.NONE))
            await rig.opened()
            await asyncio.sleep(1)
            rig.link.answer = lambda _: None
            for n in range(1, 50):
                rig.publisher.set_state(LocationState(n, None, None, FixMode.NONE))
            sent = rig.link.on(TOPICS.state("location"))
            assert len(sent) == 2
            rig.link.acknowledge(sent[-1].token)
            newest = decode_state("location", rig.link.on(TOPICS.state("location"))[-1].message.payload)
            assert newest.boottime_ms == 49
            assert {s.message.expiry_s for s in rig.link.on(TOPICS.state("location"))} == {600}
            assert {s.message.expiry_s for s in rig.link.on(TOPICS.state("link"))} == {None}

    virtually(work)


def test_states_are_not_buffered_over_an_outage() -> None:
    async def work() -> None:
        async with Rig() as rig:
            await rig.opened()
            rig.link.lose()
            for n in range(50):
                rig.publisher.set_state(StatusState(n, None, "available"))
            await rig.opened(2)
            await asyncio.sleep(1)
            assert len(rig.link.on(TOPICS.state("status"))) == 1

    virtually(work)


def test_state_that_can_not_be_encoded_is_nobody_elses_trouble() -> None:
    async def work() -> None:
        async with Rig() as rig:
            await rig.opened()
            rig.publisher.set_state(StatusState(1 << 70, None, "on_scene"))
            rig.publisher.set_state(HealthState(1, None, ()))
            await asyncio.sleep(1)
            assert not rig.link.on(TOPICS.state("status"))
            assert len(rig.link.on(TOPICS.state("health"))) == 1
            rig.publisher.set_state(StatusState(2, None, "on_scene"))
            assert len(rig.link.on(TOPICS.state("status"))) == 1
            rig.task.cancel()
            await asyncio.wait([rig.task])
            rig.publisher.set_state(StatusState(1 << 70, None, "on_scene"))
            await rig.publisher.drain(5)
            assert rig.link.closes == 1

    virtually(work)


def pictures(rig: Rig, begin: int = 0) -> list[tuple[bool, VehicleState]]:
    """Whether it is retained, and what it says, of each state of the vehicle that was sent."""
    sent = [one.message for one in rig.link.on(TOPICS.state("vehicle"))][begin:]
    states = [(one.retain, decode_state("vehicle", one.payload)) for one in sent]
    return [(retain, state) for retain, state in states if isinstance(state, VehicleState)]


def test_changes_of_the_vehicle_go_alone_and_a_new_connection_begins_with_the_whole_picture() -> None:
    """[MDT-S-04]"""

    async def work() -> None:
        async with Rig() as rig:
            rig.publisher.set_state(VehicleState(1, None, (("Gear", 1), ("Speed", 3)), complete=True))
            await rig.opened()
            await until(lambda: len(pictures(rig)) == 1)
            rig.publisher.set_state(VehicleState(2, None, (("Speed", 4),), complete=False))
            await until(lambda: len(pictures(rig)) == 2)
            assert pictures(rig) == [
                (True, VehicleState(1, None, (("Gear", 1), ("Speed", 3)), complete=True)),
                (False, VehicleState(2, None, (("Speed", 4),), complete=False)),
            ]
            rig.link.lose()
            rig.publisher.set_state(VehicleState(3, None, (("Siren", None),), complete=False))
            await rig.opened(2)
            await until(lambda: len(pictures(rig)) == 3)
            whole = (("Gear", 1), ("Siren", None), ("Speed", 4))
            assert pictures(rig, 2) == [(True, VehicleState(3, None, whole, complete=True))]

    virtually(work)


def test_changes_that_wait_are_merged_and_none_is_lost() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.publisher.set_state(VehicleState(1, None, (("Speed", 0),), complete=True))
            await rig.opened()
            await until(lambda: len(pictures(rig)) == 1)
            await asyncio.sleep(1)
            rig.link.answer = lambda _: None
            for number in range(1, 6):
                changed = VehicleState(1, None, ((f"X{number % 3}", number),), complete=False)
                rig.publisher.set_state(changed)
            assert len(pictures(rig)) == 2
            rig.link.acknowledge(rig.link.on(TOPICS.state("vehicle"))[-1].token)
            changes = (("X0", 3), ("X1", 4), ("X2", 5))
            assert pictures(rig, 2) == [(False, VehicleState(1, None, changes, complete=False))]

    virtually(work)


def test_changes_that_are_refused_are_followed_by_the_whole_picture() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.publisher.set_state(VehicleState(1, None, (("Speed", 0),), complete=True))
            await rig.opened()
            await until(lambda: len(pictures(rig)) == 1)
            rig.link.answer = lambda _: NOT_AUTHORISED
            rig.publisher.set_state(VehicleState(1, None, (("Gear", 2),), complete=False))
            await until(lambda: HealthReason.BROKER_REFUSED in rig.health.reasons())
            rig.link.answer = lambda _: 0
            await until(lambda: len(pictures(rig)) >= 3)
            assert pictures(rig, 2)[-1] == (
                True,
                VehicleState(1, None, (("Gear", 2), ("Speed", 0)), complete=True),
            )

    virtually(work)


def test_every_state_has_its_place_in_the_order() -> None:
    assert set(ORDER) == set(STATE_TYPES)
