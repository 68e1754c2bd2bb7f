"""A card that was put back or copied, and a twin that is alive: seen before the first record goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.domain.health import HealthReason
from agent.domain.record import Stream
from agent.domain.state import LinkState, StatusState
from agent.uplink.broker.broker_choice import TAKEN_OVER_S
from agent.uplink.identity import CONFLICT_FOR_S, Own, forked
from agent.uplink.link.link import Closed, Received
from agent.uplink.publisher import LOOK_S
from agent.wire.codec import decode_state, encode_state
from tests.unit.uplink.publisher_rig import EVENTS, TOPICS, TRAIL, Rig, until, virtually

OWN = Own(7, 3, {1: "1" * 32, 2: "2" * 32, 3: "b" * 32}, {Stream.EVENTS: 10, Stream.TRAIL: 100})
EARLIER = LinkState(1, None, 99, False, "2" * 32, 2, 7, "", 5, False, 10, 100)
"""What this store's last boot has left behind."""
PRESSED = StatusState(1, None, "on_scene", None, 10, False, None, None, 7)


def kept(*states: LinkState | StatusState, retain: bool = True) -> list[Received]:
    return [
        Received(TOPICS.state(state.name), encode_state(state, "msgpack").payload, retain) for state in states
    ]


def test_what_an_earlier_boot_of_this_store_left_is_no_fork() -> None:
    assert forked(OWN, EARLIER, PRESSED) == ""
    assert forked(OWN, None, None) == ""
    assert forked(OWN, replace(EARLIER, boot=3, boot_id="b" * 32), None) == ""
    assert forked(OWN, replace(EARLIER, events_seq=None, trail_seq=None), replace(PRESSED, seq=None)) == ""


@pytest.mark.parametrize(
    ("link", "status", "words"),
    [
        (replace(EARLIER, boot=4, boot_id="4" * 32), None, "boot 4"),
        (replace(EARLIER, boot=3, boot_id="c" * 32), None, "another computer"),
        (replace(EARLIER, boot=2, boot_id="c" * 32), None, "another computer"),
        (replace(EARLIER, events_seq=11), None, "events 11"),
        (replace(EARLIER, trail_seq=101), None, "trail 101"),
        (None, replace(PRESSED, seq=11), "status 11"),
        (None, replace(PRESSED, emergency_seq=12), "status 12"),
    ],
)
def test_higher_numbers_a_later_boot_or_another_computer_are_a_fork(
    link: LinkState | None, status: StatusState | None, words: str
) -> None:
    assert words in forked(OWN, link, status)


def test_what_another_journal_said_is_no_fork() -> None:
    link = replace(EARLIER, journal=8, boot=40, boot_id="c" * 32, events_seq=999)
    assert forked(OWN, link, replace(PRESSED, journal=8, seq=999)) == ""


def test_store_that_was_put_back_begins_a_new_journal_before_it_sends_a_record() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.kept = kept(replace(EARLIER, boot=9, boot_id="9" * 32), PRESSED)
            rig.journal.refuses_to_begin = 1
            rig.journal.positions(5)
            rig.journal.press()
            await until(lambda: bool(rig.link.on(TOPICS.state("link"))))
            assert rig.journal.begun == [], "that the unit is there is told all the same"
            await rig.settled()
            assert len(rig.journal.begun) == 1
            assert {sent.batch.header.journal for sent in rig.link.on(EVENTS) + rig.link.on(TRAIL)} == {8}
            await until(
                lambda: (
                    getattr(
                        decode_state("link", rig.link.on(TOPICS.state("link"))[-1].message.payload),
                        "journal",
                        0,
                    )
                    == 8
                )
            )

    virtually(work)


def test_store_that_was_put_back_and_opens_late_begins_a_new_journal_before_it_sends_a_record() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.kept = kept(replace(EARLIER, boot=9, boot_id="9" * 32), PRESSED)
            rig.journal.journal = 0  # the disk was full at the start
            rig.journal.press()
            await until(lambda: bool(rig.link.on(TOPICS.state("link"))))
            await asyncio.sleep(10 * LOOK_S)
            rig.journal.journal = 7
            rig.journal.press()
            await rig.settled()
            assert len(rig.journal.begun) == 1
            assert {sent.batch.header.journal for sent in rig.link.on(EVENTS)} == {8}

    virtually(work)


def test_unit_that_comes_back_as_it_was_is_live_at_once() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with Rig() as rig:
            rig.link.kept = kept(
                replace(EARLIER, online=True, events_seq=0, trail_seq=0), replace(PRESSED, seq=None)
            )
            rig.journal.press()
            await rig.settled()
            assert loop.time() - rig.link.openings[0][0] < LOOK_S
            assert rig.journal.begun == []
            assert rig.health.reasons() == ()

    virtually(work)


def test_broker_that_keeps_nothing_or_refuses_to_show_it_is_not_waited_for_twice() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with Rig() as rig:
            rig.journal.press()
            await rig.settled()
            assert loop.time() - rig.link.openings[0][0] < LOOK_S + 0.5
            rig.link.lose()
            rig.journal.press()
            await rig.settled()
            assert loop.time() - rig.link.openings[1][0] < LOOK_S
        async with Rig() as rig:
            own = (TOPICS.state("link"), TOPICS.state("status"))
            rig.link.opened = replace(rig.link.opened, refused_subscriptions=own)
            rig.journal.press()
            await rig.settled()
            assert loop.time() - rig.link.openings[0][0] < LOOK_S
            assert rig.health.reasons() == ()

    virtually(work)


def test_twin_that_speaks_is_a_reason_until_it_was_quiet_for_long() -> None:
    twin = LinkState(1, None, 1234, True, "e" * 32, 3, 55, "", 5)

    async def work() -> None:
        async with Rig() as rig:
            await rig.opened()
            for received in kept(twin, retain=False):
                rig.link.tell(received)
            await until(lambda: HealthReason.IDENTITY_CONFLICT in rig.health.reasons())
            assert "e" * 32 in rig.health.details()[HealthReason.IDENTITY_CONFLICT]
            assert rig.journal.begun == [], "it has a store of its own"
            await asyncio.sleep(CONFLICT_FOR_S - 10)
            assert HealthReason.IDENTITY_CONFLICT in rig.health.reasons()
            await asyncio.sleep(20)
            assert rig.health.reasons() == ()

    virtually(work)


def test_live_copy_of_this_store_is_a_reason_and_a_new_journal() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.kept = kept(replace(EARLIER, online=True, boot=3, boot_id="e" * 32))
            rig.journal.press()
            await rig.settled()
            assert rig.health.reasons() == (HealthReason.IDENTITY_CONFLICT,)
            assert len(rig.journal.begun) == 1

    virtually(work)


def test_unit_whose_place_is_taken_again_and_again_says_so_and_does_not_fight() -> None:
    taken = Closed("broker_refused", "session taken over (0x8e)", taken_over=True, said_no=True)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with Rig() as rig:
            for number in range(1, 4):
                await rig.opened(number)
                await asyncio.sleep(2)
                assert (HealthReason.IDENTITY_CONFLICT in rig.health.reasons()) == (number > 2)
                lost = loop.time()
                rig.link.tell(taken)
                await rig.opened(number + 1)
                assert TAKEN_OVER_S[0] <= rig.link.openings[-1][0] - lost <= TAKEN_OVER_S[1] + 1

    virtually(work)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"{}", b"[" * 1000])
def test_nonsense_in_the_units_own_topics_is_no_reason_for_anything(payload: bytes) -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.kept = [Received(TOPICS.state(name), payload, True) for name in ("link", "status")]
            rig.journal.press()
            await rig.settled()
            assert rig.journal.begun == []
            assert rig.health.reasons() == ()

    virtually(work)
