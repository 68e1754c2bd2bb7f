"""The publisher as a unit: its loop, its end, and what goes wrong in it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.health import HealthReason
from agent.domain.record import Stream
from agent.domain.state import LinkState, StatusState
from agent.uplink.broker.connector import NETWORK_SPREAD_S, PRESS_EVERY_S
from agent.uplink.link.link import Acknowledged, Closed, LinkEvent, Message, Opened, Received
from agent.uplink.link.refusal import NOT_AUTHORISED, PACKET_TOO_LARGE, QUOTA_EXCEEDED
from agent.uplink.publisher import OFFLINE_ACK_S
from agent.wire.codec import decode_state
from tests.unit.uplink.publisher_rig import (
    EVENTS,
    TOPICS,
    TRAIL,
    Rig,
    read_all,
    until,
    virtually,
)


def test_store_that_can_not_be_read_is_waited_for() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.journal.broken = True
            rig.journal.positions(3)
            await rig.opened()
            await asyncio.sleep(30)
            assert not rig.link.on(TRAIL)
            rig.journal.broken = False
            await rig.settled()

    virtually(work)


def test_store_that_was_replaced_is_a_new_journal() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.journal.positions(30)
            await rig.settled()
            rig.journal.journal = 99
            rig.journal.rows = {stream: [] for stream in Stream}
            rig.journal.delivered = dict.fromkeys(Stream, 0)
            rig.journal.positions(2)
            await until(lambda: rig.journal.delivered[Stream.TRAIL] == 2)
            await asyncio.sleep(2)
            assert rig.link.on(TRAIL)[-1].batch.header.journal == 99
            birth = decode_state("link", rig.link.on(TOPICS.state("link"))[-1].message.payload)
            assert isinstance(birth, LinkState)
            assert birth.journal == 99

    virtually(work)


def test_drain_sends_what_is_due_and_says_goodbye() -> None:
    async def work() -> None:
        async with Rig() as rig:
            await rig.opened()
            await asyncio.sleep(1)
            rig.task.cancel()
            await asyncio.wait([rig.task])
            rig.journal.press("out_of_service")
            rig.journal.positions(4)
            await rig.publisher.drain(5)
            assert rig.journal.delivered == {Stream.EVENTS: 1, Stream.TRAIL: 4}
            last = rig.link.sent[-1]
            goodbye = decode_state("link", last.message.payload)
            assert isinstance(goodbye, LinkState)
            assert (goodbye.online, goodbye.planned) == (False, True)
            assert rig.link.closes == 1
            assert not rig.publisher.connected

    virtually(work)


def test_drain_keeps_its_deadline_with_a_dead_broker_and_leaves_a_backlog_for_later() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with Rig(drain_bytes_per_s=100) as rig:
            rig.journal.positions(5000)
            await rig.opened()
            await asyncio.sleep(3)
            begun = loop.time()
            await rig.publisher.drain(5)
            assert loop.time() - begun < 2 * OFFLINE_ACK_S
            assert rig.journal.delivered[Stream.TRAIL] < 5000
        async with Rig() as rig:
            await rig.opened()
            rig.link.answer = lambda _: None
            rig.journal.press()
            begun = loop.time()
            await rig.publisher.drain(5)
            assert loop.time() - begun <= 5.0

    virtually(work)


def test_progress_is_told_at_least_once_a_second_whatever_happens() -> None:
    async def work() -> None:
        async with Rig(reconnect_max_s=60) as rig:
            rig.link.refuse = Closed("broker_unreachable", "no")
            await asyncio.sleep(300)
            rig.link.refuse = None
            await rig.opened(len(rig.link.openings) + 1)
            await asyncio.sleep(60)
        assert max(later - earlier for earlier, later in itertools.pairwise(rig.progressed)) <= 1.001

    virtually(work)


def test_error_of_a_lane_reaches_the_supervisor() -> None:
    async def work() -> None:
        async with Rig(resolve_utc=lambda row: row.nonsense) as rig:
            rig.journal.positions(1, utc_ms=None)
            await asyncio.wait([rig.task], timeout=60)
            with pytest.raises(AttributeError):
                rig.task.result()

    virtually(work)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 6), st.integers(1, 40))
def test_nothing_is_lost_or_reordered_whatever_the_broker_does(
    seed: int, receive_maximum: int, batch_records: int
) -> None:
    """Refusals, lost acknowledgements and lost connections at random; then the broker is well again."""
    chance = random.Random(seed)
    well = False

    def answer(_: Message) -> int | None:
        if well:
            return 0
        return chance.choice([0, 0, 0, 0, None, QUOTA_EXCEEDED, PACKET_TOO_LARGE, NOT_AUTHORISED])

    async def work() -> None:
        nonlocal well
        async with Rig(batch_records=batch_records, drain_bytes_per_s=10**9, keepalive_s=5) as rig:
            rig.link.answer = answer
            rig.link.opened = Opened(5, receive_maximum=receive_maximum)
            for _ in range(30):
                rig.journal.positions(chance.randrange(30))
                if chance.random() < 0.5:
                    rig.journal.press()
                await asyncio.sleep(chance.random() * 20)
                if chance.random() < 0.3:
                    rig.link.lose()
                elif chance.random() < 0.2:
                    rig.link.hang_up(len(rig.link.openings))
            well, openings = True, len(rig.link.openings)
            rig.link.lose()
            await rig.opened(openings + 1)
            await rig.settled()
            assert rig.link.most_in_flight <= receive_maximum
        reader = read_all(rig.link)
        assert reader.counts.accounted == sum(rig.journal.last_seq(stream) for stream in Stream)
        assert reader.counts.holes_open == 0

    virtually(work)


def test_store_that_opens_after_the_connection_is_not_sent_again() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.journal.positions(3000)
            rig.journal.press()
            rows, rig.journal.rows = rig.journal.rows, {stream: [] for stream in Stream}
            rig.journal.journal = 0
            await rig.opened()
            await asyncio.sleep(5)
            rig.journal.journal, rig.journal.rows = 7, rows
            rig.journal.delivered = {Stream.EVENTS: 1, Stream.TRAIL: 2990}
            await rig.settled()
            await asyncio.sleep(30)
        assert [sent.seqs for sent in rig.link.on(TRAIL)] == [list(range(2991, 3001))]
        assert not rig.link.on(EVENTS)

    virtually(work)


def test_puback_of_a_store_that_is_gone_confirms_nothing_of_the_new_one() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.answer = lambda message: None if message.topic == EVENTS else 0
            for _ in range(50):
                rig.journal.press()
            await until(lambda: bool(rig.link.on(EVENTS)))
            rig.journal.journal = 99
            rig.journal.rows = {stream: [] for stream in Stream}
            rig.link.answer = lambda _: 0
            rig.link.acknowledge(rig.link.on(EVENTS)[0].token)
            assert rig.publisher.snapshot().landed == (("events", 0), ("trail", 0))
            assert rig.journal.delivered[Stream.EVENTS] == 0
            rig.journal.press()
            await rig.settled()
            assert rig.link.on(EVENTS)[-1].batch.header.journal == 99

    virtually(work)


class Broken:
    """Makes one call of a method raise, and lets the others through."""

    def __init__(self, target: object, method: str, error: Exception) -> None:
        self.original = getattr(target, method)
        self.error: Exception | None = error
        setattr(target, method, self)

    def __call__(self, *args: Any, **more: Any) -> Any:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.original(*args, **more)


async def failed(rig: Rig) -> None:
    """Wait for the run to end by what was broken, and start it again as the supervisor does."""
    await asyncio.wait([rig.task], timeout=60)
    with pytest.raises(ZeroDivisionError):
        rig.task.result()
    rig.task = asyncio.create_task(rig.publisher.run(lambda: None))


def test_no_descriptor_left_while_opening_is_a_named_reason_and_tried_again() -> None:
    async def work() -> None:
        async with Rig() as rig:
            await rig.opened()
            Broken(rig.link, "open", OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            rig.link.lose()
            await until(lambda: "Too many open files" in rig.publisher.snapshot().last_failure)
            assert HealthReason.BROKER_UNREACHABLE in rig.health.reasons()
            await rig.opened(2)
            rig.journal.press()
            await rig.settled()
            assert rig.health.reasons() == ()
            assert not rig.task.done()

    virtually(work)


@pytest.mark.parametrize("method", ["open", "publish", "close"])
def test_whatever_the_link_raises_reaches_the_supervisor_and_the_next_run_is_well(method: str) -> None:
    async def work() -> None:
        async with Rig(keepalive_s=5) as rig:
            if method == "close":
                rig.link.answer = lambda m: None if m.topic == EVENTS else 0  # a stall, which closes
                rig.journal.press()
                await rig.opened()
            elif method == "publish":
                await rig.opened()
                await asyncio.sleep(1)
            Broken(rig.link, method, ZeroDivisionError("defect"))
            if method == "publish":
                rig.publisher.set_state(StatusState(1, None, "on_scene"))
            await failed(rig)
            rig.link.answer = lambda _: 0
            rig.journal.press()
            await rig.settled()
            rig.task.cancel()
            await asyncio.wait([rig.task])
            await rig.publisher.drain(5)
            assert not rig.publisher.connected

    virtually(work)


@pytest.mark.parametrize("event", [Acknowledged(1), Received(TOPICS.command("replay"), b"{}"), Opened(5)])
def test_whatever_goes_wrong_with_an_event_of_the_link_reaches_the_supervisor(event: LinkEvent) -> None:
    targets = {
        Acknowledged: ("agent.uplink.window.Window.landed"),
        Received: ("agent.uplink.commands.CommandTable.take"),
        Opened: ("agent.uplink.presence.Presence.birth"),
    }

    async def work() -> None:
        async with Rig() as rig:
            await rig.opened()
            await asyncio.sleep(1)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(targets[type(event)], lambda *_, **__: 1 // 0)
                rig.link.tell(event)
                await failed(rig)
            rig.journal.press()
            await rig.settled()

    virtually(work)


def test_link_that_tells_twice_that_it_is_open_leaves_nothing_behind() -> None:
    async def work() -> None:
        async with Rig() as rig:
            await rig.opened()
            rig.link.tell(rig.link.opened)
            rig.journal.press()
            await rig.settled()

    virtually(work)


def test_commit_that_is_told_to_a_broken_uplink_does_not_hurt_the_outbox() -> None:
    async def work() -> None:
        async with Rig() as rig:
            await rig.opened()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("agent.uplink.sender.StreamSender.appended", lambda *_: 1 // 0)
                rig.journal.press()
                await failed(rig)
            await rig.settled()

    virtually(work)


def test_press_without_a_connection_is_tried_at_once_but_not_with_every_bounce() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with Rig(reconnect_min_s=60) as rig:
            rig.link.refuse = Closed("broker_unreachable", "no")
            await asyncio.sleep(1200)
            for _ in range(5):
                await asyncio.sleep(20)
                pressed, before = loop.time(), len(rig.link.openings)
                rig.journal.press()
                await until(lambda before=before: len(rig.link.openings) > before)  # type: ignore[misc]  # bound now
                assert rig.link.openings[before][0] - pressed <= PRESS_EVERY_S
            before = len(rig.link.openings)
            for n in range(1000):
                rig.publisher.set_state(StatusState(n, None, "on_scene"))
                await asyncio.sleep(0.01)
            assert len(rig.link.openings) - before <= 20

    virtually(work)


def test_change_of_the_network_is_tried_at_once_and_told_to_a_standing_connection() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with Rig(reconnect_min_s=60) as rig:
            rig.link.refuse = Closed("broker_unreachable", "no")
            await asyncio.sleep(1200)
            rig.link.refuse = None
            rig.publisher.network_changed()
            changed, before = loop.time(), len(rig.link.openings)
            await until(lambda: len(rig.link.openings) > before)
            assert rig.link.openings[-1][0] - changed <= NETWORK_SPREAD_S
            await rig.opened()
            rig.publisher.network_changed()
            assert rig.link.network_changes == 2

    virtually(work)


def test_after_a_short_absence_the_unit_is_back_within_the_stated_time() -> None:
    """With the shipped defaults, over many absences of the length of a tunnel."""

    def back_after(seed: int, *, press: bool) -> float:
        took: list[float] = []

        async def work() -> None:
            loop = asyncio.get_running_loop()
            async with Rig(shipped=True) as rig:
                rig.rng.seed(seed)
                await rig.opened()
                await asyncio.sleep(60)
                rig.link.refuse = Closed("broker_unreachable", "no network")
                rig.link.lose()
                await asyncio.sleep(31 + seed % 7)
                if press:
                    rig.journal.press()
                await asyncio.sleep(1 + seed % 3)
                rig.link.refuse = None
                covered = loop.time()
                await until(lambda: rig.publisher.connected)
                took.append(loop.time() - covered)

        virtually(work)
        return took[0]

    without = sorted(back_after(seed, press=False) for seed in range(60))
    with_press = sorted(back_after(seed, press=True) for seed in range(60))
    assert without[56] <= 5.5
    assert with_press[56] <= 2.0
