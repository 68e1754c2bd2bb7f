"""Retained states: newest wins, nothing queues, what is refused is told and offered again."""

from __future__ import annotations

import asyncio

import pytest

from agent.domain.fix import FixMode
from agent.domain.health import HealthReason
from agent.domain.record import Position
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import (
    STATE_TYPES,
    DestinationState,
    HealthState,
    LinkState,
    LocationState,
    StatusState,
    UnitState,
    VehicleState,
)
from agent.uplink.link.link import Message
from agent.uplink.link.refusal import NOT_AUTHORISED
from agent.uplink.packet_limit import LEAST_BYTES
from agent.uplink.state_sender import ORDER
from agent.wire.codec import Encoding, decode_state, encode_state
from agent.wire.topics import Topics
from tests.unit.uplink.publisher_rig import (
    TOPICS,
    Rig,
    bulky,
    silent_limit,
    until,
    virtually,
)


def test_states_that_are_refused_are_a_named_reason_and_offered_with_pauses() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.answer = lambda m: NOT_AUTHORISED if m.topic == TOPICS.state("location") else 0
            rig.publisher.set_state(LocationState(1, None, None, FixMode.NONE))
            await until(lambda: rig.health.reasons() == (HealthReason.BROKER_REFUSED,))
            assert "location" in rig.health.details()[HealthReason.BROKER_REFUSED]
            for second in range(100):
                rig.publisher.set_state(LocationState(second * 1000, None, None, FixMode.NONE))
                await asyncio.sleep(1)
            assert len(rig.link.on(TOPICS.state("location"))) < 25
            rig.link.answer = lambda _: 0
            await until(lambda: rig.health.reasons() == ())

    virtually(work)


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_a_picture_of_the_vehicle_beyond_a_packet_goes_in_parts_that_any_broker_takes(encoding: str) -> None:
    """[MDT-S-04]"""

    async def work() -> None:
        async with Rig(encoding=encoding) as rig:
            rig.link.answer = silent_limit(rig, LEAST_BYTES)
            signals = tuple(sorted(bulky(18000)))
            rig.publisher.set_state(VehicleState(1, None, signals, complete=True))
            rig.journal.press()
            await rig.opened()
            await rig.settled()
            await until(lambda: len(merged(rig)) == len(signals))
            rig.publisher.set_state(VehicleState(2, None, (("X3", "newer"), ("Y", 1)), complete=False))
            await until(lambda: "Y" in merged(rig))
            assert len(rig.link.openings) == 1
            assert merged(rig) == dict(signals) | {"X3": "newer", "Y": 1}
            sent = pictures(rig)
            assert [retain for retain, _ in sent] == [True] + [False] * (len(sent) - 1)
            assert {state.complete for _, state in sent} == {False}
            packets = [one.message.packet_bytes() for one in rig.link.on(TOPICS.state("vehicle"))]
            assert max(packets) <= LEAST_BYTES
            assert len(packets) < 4 * sum(packets) // LEAST_BYTES

    virtually(work)


def test_parts_that_wait_give_way_to_what_is_newer() -> None:
    async def work() -> None:
        async with Rig() as rig:
            await rig.opened()
            await asyncio.sleep(1)
            rig.link.answer = lambda _: None
            rig.publisher.set_state(VehicleState(1, None, tuple(sorted(bulky(9000))), complete=True))
            rig.publisher.set_state(VehicleState(2, None, (("X89", "newer"),), complete=False))
            rig.link.answer = lambda _: 0
            rig.link.acknowledge(rig.link.on(TOPICS.state("vehicle"))[-1].token)
            await until(lambda: len(merged(rig)) == 90)
            assert merged(rig)["X89"] == "newer"

    virtually(work)


def merged(rig: Rig) -> dict[str, object]:
    """What a reader knows of the vehicle that heard everything."""
    states = [state for _, state in pictures(rig)]
    picture = states[0] if states else VehicleState(0, None, ())
    for state in states[1:]:
        picture = state.over(picture)
    return dict(picture.signals)


LONG = "x" * 10_000


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_every_other_state_fits_into_a_packet_whatever_it_says(encoding: Encoding) -> None:
    utc = Utc(1_900_000_000_000, UtcSource.GNSS, 65_535)
    place = Position(-89.1234567, -179.1234567, 123456.7, 399.9, 359.99, FixMode.FIX_3D, 99, 99.99)
    reasons = tuple(sorted(map(str, HealthReason)))
    largest = (
        LinkState(
            1 << 52, utc, 1 << 31, True, LONG, 1 << 31, 1 << 31, LONG, 5, True, 1 << 52, 1 << 52, True, LONG
        ),
        StatusState(
            1 << 52,
            utc,
            LONG,
            utc,
            1 << 52,
            True,
            utc,
            1 << 52,
            1 << 31,
            LONG,
            LONG,
            True,
            True,
            True,
            True,
            LONG,
            LONG,
        ),
        LocationState(1 << 52, utc, place, FixMode.FIX_3D, place, utc, True),
        HealthState(1 << 52, utc, reasons, tuple((reason, LONG) for reason in reasons), 1 << 52, utc),
        UnitState(1 << 52, utc, LONG, LONG, (LONG,) * 99, (LONG,) * 99, LONG, LONG, utc),
        DestinationState(1 << 52, utc, LONG, utc, 1 << 52, LONG, LONG),
    )
    assert {state.name for state in largest} == set(STATE_TYPES) - {"vehicle"}
    for state in largest:
        encoded = encode_state(state, encoding)
        topic = Topics("a" * 64, "u" * 64).state(state.name)
        message = Message(
            topic, encoded.payload, retain=True, content_type=encoded.content_type, expiry_s=600
        )
        assert message.packet_bytes() <= LEAST_BYTES, state.name


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
