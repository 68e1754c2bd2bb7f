"""Records that a reader asks for again, against a scripted broker in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.domain.record import Stream
from agent.uplink.link.link import Opened, Received
from agent.uplink.link.refusal import QUOTA_EXCEEDED
from agent.wire.reader_request import (
    JournalRequest,
    RefusalReason,
    ReplayRequest,
    Reply,
    decode_reply,
    encode_map,
)
from tests.unit.uplink.publisher_rig import (
    EVENTS,
    TOPICS,
    TRAIL,
    Rig,
    is_replay,
    read_all,
    replay,
    until,
    virtually,
)


def test_a_replay_that_is_refused_says_nothing_of_how_live_records_fare() -> None:
    async def work() -> None:
        async with Rig(brokers=2, fail_over_after_s=5) as rig:
            rig.link.answer = lambda m: QUOTA_EXCEEDED if is_replay(m) else 0
            rig.journal.positions(5)
            await rig.settled()
            rig.link.tell(replay(Stream.TRAIL, 1, 5))
            await asyncio.sleep(120)
            assert len(rig.link.openings) == 1
            assert rig.health.reasons() == ()

    virtually(work)


def test_replays_of_a_store_that_was_replaced_are_dropped_at_once() -> None:
    async def work() -> None:
        async with Rig(drain_bytes_per_s=200) as rig:
            rig.journal.positions(2000)
            rig.journal.delivered[Stream.TRAIL] = 2000
            await rig.opened()
            rig.link.tell(replay(Stream.TRAIL, 1, 2000))
            await until(lambda: bool(rig.link.on(TRAIL)))
            before = len(rig.link.on(TRAIL))
            rig.journal.journal = 99
            rig.journal.rows[Stream.TRAIL].clear()
            rig.journal.delivered[Stream.TRAIL] = 0
            rig.journal.positions(3)
            await rig.settled()
            after = [sent.batch for sent in rig.link.on(TRAIL)[before:]]
            assert all(not batch.header.replay for batch in after)
            assert [record.seq for batch in after for record in batch.records] == [1, 2, 3]

    virtually(work)


def test_replay_is_sent_flagged_and_moves_nothing() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.journal.positions(30)
            rig.journal.press()
            await rig.settled()
            before = len(rig.link.sent)
            rig.link.tell(replay(Stream.TRAIL, 5, 7))
            rig.link.tell(replay(Stream.EVENTS, 0, 10**15, journal=7))
            await until(lambda: rig.publisher.snapshot().replays_waiting == 0)
            again = [sent for sent in rig.link.sent[before:] if "/journal/" in sent.message.topic]
            assert [(sent.message.topic, sent.seqs) for sent in again] == [(TRAIL, [5, 6, 7]), (EVENTS, [1])]
            assert all(sent.batch.header.replay for sent in again)
            assert rig.journal.delivered == {Stream.EVENTS: 1, Stream.TRAIL: 30}

    virtually(work)


def test_replay_is_taken_up_again_after_a_lost_connection() -> None:
    async def work() -> None:
        async with Rig(batch_records=10, drain_bytes_per_s=10**9) as rig:
            rig.journal.positions(40)
            await rig.settled()
            before = len(rig.link.sent)
            rig.link.answer = lambda _: None
            rig.link.tell(replay(Stream.TRAIL, 1, 40))
            await until(lambda: len(rig.link.sent) == before + 4)
            rig.link.acknowledge(rig.link.sent[before].token)
            rig.link.lose()
            rig.link.answer = lambda _: 0
            await until(lambda: rig.publisher.snapshot().replays_waiting == 0)
            again = [sent.seqs[0] for sent in rig.link.sent[before:] if sent.message.topic == TRAIL]
            assert again == [1, 11, 21, 31, 11, 21, 31]

    virtually(work)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"{", b"null", b"\x80", b"x" * 5000, b'{"stream":"trail","from":9,"to":1}', b"[" * 900],
)
def test_hostile_requests_do_nothing_but_are_answered(payload: bytes) -> None:
    async def work() -> None:
        async with Rig(confirm="dispatch") as rig:
            rig.journal.positions(3)
            await until(lambda: bool(rig.link.on(TRAIL)))
            await asyncio.sleep(1)
            count = len(rig.link.sent)
            rig.link.tell(Received(TOPICS.command("replay"), payload))
            rig.link.tell(Received(TOPICS.receipt, payload))
            rig.link.tell(Received("something/else", payload))
            await asyncio.sleep(1)
            told = [sent.message.topic for sent in rig.link.sent[count:]]
            assert told == [TOPICS.reply("replay")], "what it was is said, once"
            assert not rig.task.done()
            assert rig.journal.delivered[Stream.TRAIL] == 0

    virtually(work)


def test_replay_requests_are_bounded_and_retained_ones_ignored() -> None:
    async def work() -> None:
        async with Rig(drain_bytes_per_s=100) as rig:
            rig.journal.positions(2000)
            rig.link.opened = Opened(5)
            rig.journal.delivered[Stream.TRAIL] = 2000
            await rig.opened()
            await asyncio.sleep(1)
            request = replay(Stream.TRAIL, 1, 2000)
            rig.link.tell(Received(request.topic, request.payload, retain=True))
            assert rig.publisher.snapshot().replays_waiting == 0
            rig.link.tell(request)
            rig.link.tell(request)
            assert rig.publisher.snapshot().replays_waiting == 1
            for n in range(100):
                rig.link.tell(replay(Stream.EVENTS if n % 2 else Stream.TRAIL, 1, 2000 + n))
                rig.link.tell(replay(Stream.TRAIL, n + 1, n + 1, journal=9))
            assert rig.publisher.snapshot().replays_waiting <= 32

    virtually(work)


def test_events_asked_for_again_do_not_wait_behind_the_trail() -> None:
    async def work() -> None:
        async with Rig(drain_bytes_per_s=500) as rig:
            rig.journal.positions(5000)
            rig.journal.press()
            rig.journal.delivered = {Stream.EVENTS: 1, Stream.TRAIL: 5000}
            await rig.opened()
            await asyncio.sleep(1)
            rig.link.tell(replay(Stream.TRAIL, 1, 5000))
            await asyncio.sleep(5)
            rig.link.tell(replay(Stream.EVENTS, 1, 1))
            asked = asyncio.get_running_loop().time()
            await until(lambda: bool(rig.link.on(EVENTS)))
            assert rig.link.on(EVENTS)[0].at - asked < 0.1
            assert rig.publisher.snapshot().replays_waiting == 2
            await until(lambda: rig.publisher.snapshot().replays_waiting == 0)
        assert read_all(rig.link).counts.delivered == 5001

    virtually(work)


def answers(rig: Rig, command: str = "replay") -> list[Reply]:
    return [decode_reply(sent.message.payload) for sent in rig.link.on(TOPICS.reply(command))]


def asked(**fields: Any) -> Received:
    request: dict[str, Any] = {"stream": Stream.TRAIL, "first": 1, "last": 5} | fields
    return Received(TOPICS.command("replay"), encode_map(ReplayRequest(**request)).payload)


def test_request_that_can_not_be_served_is_answered_with_what_there_is() -> None:
    """[MDT-Q-04] [MDT-Q-05] [MDT-Q-06]"""

    async def work() -> None:
        async with Rig() as rig:
            rig.journal.positions(30)
            await rig.settled()
            before = len(rig.link.on(TRAIL))
            rig.link.tell(asked(first=31, last=40, id="a"))
            rig.link.tell(asked(journal=8, id="b"))
            rig.link.tell(Received(TOPICS.command("replay"), b"nonsense"))
            await asyncio.sleep(2)
            told = [(one.id, one.reason, one.journal, one.last) for one in answers(rig)]
            assert told == [
                ("a", RefusalReason.BEYOND_END, 7, 30),
                ("b", RefusalReason.OTHER_JOURNAL, 7, 30),
                (None, RefusalReason.MALFORMED, 7, None),
            ]
            assert {one.outcome for one in answers(rig)} == {"refused"}
            assert len(rig.link.on(TRAIL)) == before

    virtually(work)


def test_request_that_is_served_is_answered_when_it_is_named_or_cut_short() -> None:
    """[MDT-Q-03] [MDT-Q-04]"""

    async def work() -> None:
        async with Rig() as rig:
            rig.journal.positions(30)
            await rig.settled()
            rig.link.tell(asked())
            rig.link.tell(asked(first=6, last=9, id="mine"))
            rig.link.tell(asked(first=25, last=40))
            await until(lambda: rig.publisher.snapshot().replays_waiting == 0)
            told = [(one.id, one.outcome, one.first, one.last) for one in answers(rig)]
            assert told == [("mine", "accepted", 6, 9), (None, "partly", 25, 30)]

    virtually(work)


def test_reader_may_have_a_new_journal_begun_but_not_of_another_store_and_not_often() -> None:
    def request(journal: int) -> Received:
        payload = encode_map(JournalRequest(journal, "two records under number 9")).payload
        return Received(TOPICS.command("new-journal"), payload)

    async def work() -> None:
        async with Rig() as rig:
            rig.journal.press()
            await rig.settled()
            rig.link.tell(request(6))
            rig.link.tell(request(7))
            await until(lambda: rig.journal.journal == 8)
            rig.link.tell(request(8))
            await asyncio.sleep(2)
            assert [(one.outcome, one.reason) for one in answers(rig, "new-journal")] == [
                ("refused", RefusalReason.OTHER_JOURNAL),
                ("accepted", None),
                ("refused", RefusalReason.BUSY),
            ]
            assert len(rig.journal.begun) == 1
            assert "two records under number 9" in rig.journal.begun[0]
            rig.journal.press()
            await rig.settled()
            assert rig.link.on(EVENTS)[-1].batch.header.journal == 8

    virtually(work)
