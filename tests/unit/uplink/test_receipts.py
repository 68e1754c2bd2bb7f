"""Dispatch's receipts, against a scripted broker in virtual time."""

from __future__ import annotations

import asyncio
import itertools

from agent.domain.record import Stream
from agent.uplink.link.link import Received
from agent.uplink.receipts import PATIENCE_S
from agent.wire.reader_request import Receipt, encode_map
from tests.unit.uplink.publisher_rig import (
    EVENTS,
    TOPICS,
    TRAIL,
    Rig,
    until,
    virtually,
)


def test_only_receipts_move_the_watermark_when_so_configured() -> None:
    def receipt(stream: Stream, seq: int, journal: int | None = 7) -> Received:
        return Received(TOPICS.receipt, encode_map(Receipt(stream, seq, journal)).payload)

    async def work() -> None:
        async with Rig(confirm="dispatch") as rig:
            rig.journal.positions(10)
            await until(lambda: bool(rig.link.on(TRAIL)))
            await asyncio.sleep(1)
            assert rig.link.openings[0][1].subscriptions == (
                "ems/v1/bems/A1/command/+",
                TOPICS.state("link"),
                TOPICS.state("status"),
                TOPICS.receipt,
            )
            assert rig.journal.delivered[Stream.TRAIL] == 0
            rig.link.tell(receipt(Stream.TRAIL, 4, journal=8))
            assert rig.journal.delivered[Stream.TRAIL] == 0
            rig.link.tell(receipt(Stream.TRAIL, 4))
            assert rig.journal.delivered[Stream.TRAIL] == 4
            rig.link.tell(receipt(Stream.TRAIL, 10**12))
            assert rig.journal.delivered[Stream.TRAIL] == 10
            rig.link.tell(receipt(Stream.TRAIL, 2))
            assert rig.journal.delivered[Stream.TRAIL] == 10

    virtually(work)


def test_records_without_a_receipt_are_sent_again_at_growing_intervals() -> None:
    async def work() -> None:
        async with Rig(confirm="dispatch") as rig:
            rig.journal.positions(10)
            await until(lambda: bool(rig.link.on(TRAIL)))
            await asyncio.sleep(PATIENCE_S * 8)
        times = [sent.at for sent in rig.link.on(TRAIL)]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert [round(gap / PATIENCE_S, 1) for gap in gaps] == [1.0, 2.0, 4.0]
        assert all(sent.seqs == list(range(1, 11)) for sent in rig.link.on(TRAIL))

    virtually(work)


def test_receipt_that_is_retained_or_names_no_store_confirms_nothing() -> None:
    """[MDT-Q-07]"""

    async def work() -> None:
        async with Rig(confirm="dispatch") as rig:
            rig.journal.press()
            await until(lambda: bool(rig.link.on(EVENTS)))
            await asyncio.sleep(1)
            given = encode_map(Receipt(Stream.EVENTS, 1, 7)).payload
            rig.link.tell(Received(TOPICS.receipt, given, retain=True))
            rig.link.tell(Received(TOPICS.receipt, encode_map(Receipt(Stream.EVENTS, 1)).payload))
            assert rig.journal.delivered[Stream.EVENTS] == 0
            rig.link.tell(Received(TOPICS.receipt, given))
            assert rig.journal.delivered[Stream.EVENTS] == 1

    virtually(work)


def test_trail_without_receipts_is_sent_again_though_events_have_theirs() -> None:
    async def work() -> None:
        async with Rig(confirm="dispatch") as rig:
            rig.journal.positions(10)
            await rig.opened()
            for _ in range(10):
                seq = rig.journal.press()
                await asyncio.sleep(PATIENCE_S / 4)
                receipt = encode_map(Receipt(Stream.EVENTS, seq, 7))
                rig.link.tell(Received(TOPICS.receipt, receipt.payload))
            assert len(rig.link.on(TRAIL)) == 2
            assert len(rig.link.on(EVENTS)) == 10

    virtually(work)


def test_what_has_no_receipt_is_sent_again_only_once_all_in_flight_has_come_in() -> None:
    async def work() -> None:
        async with Rig(confirm="dispatch", keepalive_s=600) as rig:
            rig.journal.positions(10)
            await until(lambda: len(rig.link.on(TRAIL)) == 1)
            await asyncio.sleep(PATIENCE_S / 2)
            rig.link.answer = lambda message: None if message.topic == TRAIL else 0
            rig.journal.positions(1)
            await asyncio.sleep(PATIENCE_S)
            assert [sent.seqs for sent in rig.link.on(TRAIL)] == [list(range(1, 11)), [11]]
            rig.link.answer = lambda _: 0
            rig.link.acknowledge(rig.link.on(TRAIL)[-1].token)
            await asyncio.sleep(1)
            assert [sent.seqs for sent in rig.link.on(TRAIL)[2:]] == [list(range(1, 12))]

    virtually(work)
