"""Which broker the publisher talks to, and what it says of it."""

from __future__ import annotations

import asyncio

from agent.domain.health import HealthReason
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import LinkState
from agent.uplink.link.link import Closed, Opened
from agent.wire.codec import decode_state
from tests.unit.uplink.publisher_rig import (
    TOPICS,
    Rig,
    until,
    virtually,
)


def test_refused_subscription_is_told_but_records_go_on() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.opened = Opened(5, refused_subscriptions=(TOPICS.command("replay"),))
            rig.journal.press()
            await rig.settled()
            assert rig.health.reasons() == (HealthReason.BROKER_REFUSED,)

    virtually(work)


def test_server_moved_is_followed_but_not_in_a_circle() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.refuse = Closed("broker_unreachable", "moved", "other:1884")
            await until(lambda: len(rig.link.openings) == 4)
            rig.link.refuse = None
            await rig.opened(5)
        ends = [(opening.broker.host, opening.broker.port) for _, opening in rig.link.openings]
        assert ends[:5] == [("b0", 1883), ("other", 1884), ("other", 1884), ("other", 1884), ("b0", 1883)]

    virtually(work)


def test_fails_over_and_returns_to_the_preferred_broker() -> None:
    well = False
    probed: list[str] = []

    async def probe(host: str, port: int, timeout_s: float) -> bool:
        probed.append(host)
        return well

    async def work() -> None:
        nonlocal well
        async with Rig(brokers=2, probe=probe, fail_over_after_s=20, return_after_s=100) as rig:
            rig.link.refuse = Closed("broker_unreachable", "no")
            await until(lambda: len(rig.link.openings) == 5)
            assert [one.broker.host for _, one in rig.link.openings] == ["b0", "b1", "b0", "b1", "b0"]
            rig.link.refuse = None
            await rig.opened(len(rig.link.openings) + 1)
            assert rig.health.reasons() == (HealthReason.BROKER_NOT_PREFERRED,)
            await asyncio.sleep(500)
            assert rig.link.openings[-1][1].broker.host == "b1"
            well, since = True, asyncio.get_running_loop().time()
            count = len(rig.link.openings)
            await rig.opened(count + 1)
            assert rig.link.openings[-1][1].broker.host == "b0"
            assert 100 <= rig.link.openings[-1][0] - since < 160
            assert rig.health.reasons() == ()
        assert set(probed) == {"b0"}
        left = [decode_state("link", sent.message.payload) for sent in rig.link.on(TOPICS.state("link"))]
        assert [(state.online, state.planned) for state in left if isinstance(state, LinkState)] == [
            (True, False),
            (False, True),
            (True, False),
        ]

    virtually(work)


def test_broker_that_acknowledges_nothing_is_left() -> None:
    async def work() -> None:
        async with Rig(keepalive_s=10) as rig:
            rig.link.answer = lambda _: None
            rig.journal.press()
            await rig.opened()
            await until(lambda: rig.link.closes == 1, 35.0)
            rig.link.answer = lambda _: 0
            await rig.settled()

    virtually(work)


def test_back_off_slows_a_fleet_that_is_refused() -> None:
    async def work() -> None:
        async with Rig(reconnect_min_s=1, reconnect_max_s=60) as rig:
            rig.link.refuse = Closed("broker_refused", "no", said_no=True)
            await asyncio.sleep(3600)
            assert rig.health.reasons() == (HealthReason.BROKER_REFUSED,)
        assert 60 <= len(rig.link.openings) <= 240

    virtually(work)


def test_certificates_are_judged_only_by_a_trusted_clock() -> None:
    trusted: list[Utc | None] = [
        None,
        Utc(0, UtcSource.LAST_KNOWN, None),
        Utc(1_790_000_000_000, UtcSource.GNSS, 1),
    ]
    for utc, expected in zip(trusted, [(), (), (HealthReason.CERTIFICATE_EXPIRING,)], strict=True):

        async def work(utc: Utc | None = utc, expected: tuple[HealthReason, ...] = expected) -> None:
            async with Rig(utc_now=lambda: utc) as rig:
                rig.link.opened = Opened(5, server_certificate_expires_unix_s=1_790_000_000 + 13 * 86_400)
                await rig.opened()
                await asyncio.sleep(2)
                assert rig.health.reasons() == expected

        virtually(work)
