"""What a unit says of itself at each connection, against a scripted broker in virtual time."""

from __future__ import annotations

import asyncio

from agent.domain.health import HealthReason
from agent.domain.state import LinkState
from agent.uplink.link.refusal import PACKET_TOO_LARGE
from agent.wire.codec import decode_state
from tests.unit.uplink.publisher_rig import (
    TOPICS,
    Rig,
    virtually,
)


def test_birth_and_will_share_a_session_number_that_is_new_each_time() -> None:
    async def work() -> None:
        async with Rig(will_delay_s=7) as rig:
            await rig.opened()
            await asyncio.sleep(1)
            rig.link.lose()
            await rig.opened(2)
        sessions = []
        births = rig.link.on(TOPICS.state("link"))
        for (_, opening), birth in zip(rig.link.openings, births, strict=True):
            assert opening.will is not None
            will, alive = (
                decode_state("link", opening.will.payload),
                decode_state("link", birth.message.payload),
            )
            assert isinstance(will, LinkState)
            assert isinstance(alive, LinkState)
            assert (will.online, alive.online) == (False, True)
            assert will.session == alive.session
            assert (alive.journal, alive.boot, alive.mqtt_version) == (7, 3, 5)
            assert opening.will_delay_s == 7
            sessions.append(will.session)
        assert len(set(sessions)) == 2
        # Also the first: this program may have been started again while the broker still holds its session.
        assert [opening.resume for _, opening in rig.link.openings] == [True, True]

    virtually(work)


def test_a_birth_that_is_too_large_is_offered_with_pauses() -> None:
    async def work() -> None:
        async with Rig(encoding="json") as rig:
            rig.link.answer = lambda m: PACKET_TOO_LARGE if m.topic == TOPICS.state("link") else 0
            await rig.opened()
            await asyncio.sleep(60)
            assert len(rig.link.on(TOPICS.state("link"))) < 15
            assert rig.health.reasons() == (HealthReason.BROKER_REFUSED,)
            rig.journal.press()
            await rig.settled()
            begun = asyncio.get_running_loop().time()
            await rig.publisher.drain(15)
            assert asyncio.get_running_loop().time() - begun < 5

    virtually(work)


def test_birth_tells_how_far_each_stream_was_delivered_before() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.journal.positions(5)
            rig.journal.press()
            await rig.settled()
            rig.link.lose()
            await rig.opened(2)
        births = [decode_state("link", sent.message.payload) for sent in rig.link.on(TOPICS.state("link"))]
        assert [(one.events_seq, one.trail_seq) for one in births if isinstance(one, LinkState)] == [
            (0, 0),
            (1, 5),
        ]

    virtually(work)
