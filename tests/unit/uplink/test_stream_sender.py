"""Streams over a connection: order, pace, window, sizes and refusals."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from agent.domain.fix import FixMode
from agent.domain.health import HealthReason
from agent.domain.record import Alert, Gap, Kind, Stream, Telemetry
from agent.domain.stamp import UtcSource
from agent.domain.state import HealthState, LocationState, StatusState, VehicleState
from agent.uplink.link.link import Message, Opened
from agent.uplink.link.refusal import NOT_AUTHORISED, PACKET_TOO_LARGE, QUOTA_EXCEEDED
from agent.uplink.packet_limit import LEAST_BYTES
from agent.wire.body import pack_body
from agent.wire.row import Row
from tests.unit.uplink.publisher_rig import (
    EVENTS,
    RTT_S,
    TOPICS,
    TRAIL,
    Rig,
    bulky,
    handed_on,
    read_all,
    silent_limit,
    until,
    virtually,
)


def test_birth_and_states_come_first_then_events_then_trail() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.journal.positions(1200)
            rig.journal.press()
            rig.publisher.set_state(StatusState(1, None, "on_scene"))
            rig.publisher.set_state(HealthState(1, None, ()))
            await rig.settled()
        topics = [sent.message.topic for sent in rig.link.sent]
        assert topics[:4] == [TOPICS.state("link"), TOPICS.state("status"), TOPICS.state("health"), EVENTS]
        assert set(topics[4:]) == {TRAIL}
        assert all(sent.message.retain and sent.message.urgent for sent in rig.link.sent[:3])
        assert [seq for sent in rig.link.on(TRAIL) for seq in sent.seqs] == list(range(1, 1201))
        assert [len(sent.seqs) for sent in rig.link.on(TRAIL)] == [500, 500, 200]

    virtually(work)


def test_backlog_is_flagged_as_history_and_live_records_are_not() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.journal.positions(700)
            rig.journal.press()
            await rig.settled()
            rig.journal.positions(3)
            rig.journal.press()
            await rig.settled()
        assert [sent.batch.header.history for sent in rig.link.on(TRAIL)] == [True, True, False]
        assert [sent.batch.header.history for sent in rig.link.on(EVENTS)] == [True, False]

    virtually(work)


def test_backlog_is_paced_and_a_press_is_not_delayed_by_it() -> None:
    async def work() -> None:
        async with Rig(drain_bytes_per_s=2000) as rig:
            rig.journal.positions(20_000)
            await until(lambda: len(rig.link.on(TRAIL)) > 2)
            begun, bytes_before = (
                rig.link.sent[-1].at,
                sum(s.message.packet_bytes() for s in rig.link.on(TRAIL)),
            )
            waits = []
            for _ in range(20):
                await asyncio.sleep(1.37)
                pressed = asyncio.get_running_loop().time()
                rig.journal.press()
                await until(
                    lambda: rig.journal.delivered[Stream.EVENTS] == rig.journal.last_seq(Stream.EVENTS)
                )
                waits.append(rig.link.on(EVENTS)[-1].at - pressed)
            sent = sum(s.message.packet_bytes() for s in rig.link.on(TRAIL)) - bytes_before
            passed = asyncio.get_running_loop().time() - begun
        assert max(waits) < 0.01
        assert not rig.link.on(EVENTS)[-1].batch.header.history
        largest = max(s.message.packet_bytes() for s in rig.link.on(TRAIL))
        assert abs(sent / passed - 2000) < 2000 * 0.1 + largest / passed

    virtually(work)


def test_receive_maximum_is_kept_and_a_press_has_a_place_of_its_own() -> None:
    async def work() -> None:
        async with Rig(batch_records=10) as rig:
            rig.link.opened = Opened(5, receive_maximum=2)
            rig.link.answer = lambda message: None if message.topic == TRAIL else 0
            rig.journal.positions(100)
            await until(lambda: bool(rig.link.on(TRAIL)))
            await asyncio.sleep(5)
            rig.journal.press()
            await until(lambda: rig.journal.delivered[Stream.EVENTS] == 1, 1.0)
            assert len(rig.link.on(TRAIL)) == 1
            rig.link.answer = lambda _: 0
            rig.link.acknowledge(rig.link.on(TRAIL)[0].token)
            await rig.settled()
        assert rig.link.most_in_flight == 2

    virtually(work)


def test_window_is_filled_and_refilled_on_every_puback() -> None:
    async def work() -> None:
        async with Rig(batch_records=10, window=5, drain_bytes_per_s=10**9) as rig:
            rig.link.answer = lambda message: None if message.topic == TRAIL else 0
            rig.journal.positions(1000)
            await until(lambda: len(rig.link.on(TRAIL)) == 4)
            await asyncio.sleep(1)
            assert len(rig.link.on(TRAIL)) == 4
            rig.link.acknowledge(rig.link.on(TRAIL)[2].token)
            await asyncio.sleep(0.01)
            assert len(rig.link.on(TRAIL)) == 5
            assert rig.journal.delivered[Stream.TRAIL] == 0  # the first is not in yet
            rig.link.acknowledge(rig.link.on(TRAIL)[0].token)
            assert rig.journal.delivered[Stream.TRAIL] == 10
            rig.link.acknowledge(rig.link.on(TRAIL)[1].token)
            assert rig.journal.delivered[Stream.TRAIL] == 30

    virtually(work)


def test_what_was_not_acknowledged_is_sent_again_by_the_next_connection() -> None:
    async def work() -> None:
        async with Rig(batch_records=10, drain_bytes_per_s=10**9) as rig:
            rig.journal.positions(25)
            rig.link.answer = lambda message: None if message.topic == TRAIL else 0
            await until(lambda: len(rig.link.on(TRAIL)) == 3)
            rig.link.acknowledge(rig.link.on(TRAIL)[0].token)
            rig.link.acknowledge(rig.link.on(TRAIL)[2].token)
            rig.link.lose()
            rig.link.answer = lambda _: 0
            await rig.settled()
        assert [sent.seqs[0] for sent in rig.link.on(TRAIL)] == [1, 11, 21, 11, 21]

    virtually(work)


def test_batches_end_where_the_boot_changes_and_utc_is_resolved_for_this_boot() -> None:
    def resolve(row: Row) -> Row:
        return row._replace(utc_ms=1_790_000_000_000 + row.boottime_ms, utc_source=UtcSource.GNSS)

    async def work() -> None:
        async with Rig(resolve_utc=resolve) as rig:
            rig.journal.positions(3, boot=1, utc_ms=None)
            rig.journal.positions(2, boot=2)
            rig.journal.positions(4, utc_ms=None)
            await rig.settled()
        batches = [sent.batch for sent in rig.link.on(TRAIL)]
        assert [(batch.header.boot, len(batch.records)) for batch in batches] == [(1, 3), (2, 2), (3, 4)]
        assert [record.utc_ms for record in batches[0].records] == [None] * 3
        assert [record.utc_ms for record in batches[2].records] == [
            1_790_000_000_000 + record.boottime_ms for record in batches[2].records
        ]

    virtually(work)


def test_batches_are_cut_by_bytes() -> None:
    async def work() -> None:
        async with Rig(batch_bytes=400) as rig:
            for n in range(20):
                rig.journal.add(Alert("x", f"{n:0100d}"), Kind.ALERT)
            await rig.settled()
        assert len(rig.link.on(EVENTS)[0].seqs) == 3
        assert read_all(rig.link).counts.delivered == 20

    virtually(work)


def test_batches_are_split_to_the_brokers_packet_size() -> None:
    async def work() -> None:
        async with Rig(drain_bytes_per_s=10**9) as rig:
            rig.link.opened = Opened(5, receive_maximum=2, maximum_packet_bytes=LEAST_BYTES)
            rig.journal.positions(3000)
            rig.journal.press()
            await rig.settled()
        assert max(sent.message.packet_bytes() for sent in rig.link.sent) <= LEAST_BYTES
        assert read_all(rig.link).counts.delivered == 3001
        assert len(rig.link.on(TRAIL)) < 60

    virtually(work)


@pytest.mark.parametrize("how", ["told in CONNACK", "told by PUBACK", "by hanging up"])
def test_large_records_go_in_order_to_a_broker_that_takes_small_packets(how: str) -> None:
    limit_bytes = LEAST_BYTES
    large = [Telemetry(bulky(400 * n)) for n in range(1, 5)]

    async def work() -> None:
        async with Rig(drain_bytes_per_s=10**9) as rig:
            if how == "told in CONNACK":
                rig.link.opened = Opened(5, maximum_packet_bytes=limit_bytes, receive_maximum=3)
            elif how == "told by PUBACK":
                rig.link.answer = lambda m: PACKET_TOO_LARGE if m.packet_bytes() > limit_bytes else 0
            else:
                rig.link.answer = silent_limit(rig, limit_bytes)
            for body in large:
                rig.journal.positions(100)
                rig.journal.add(body, Kind.TELEMETRY)
            rig.journal.press()
            rig.publisher.set_state(StatusState(1, None, "on_scene"))
            await rig.settled()
            if how == "by hanging up":
                assert len(rig.link.openings) < 10
            assert not any(rig.health.reasons())
            records = [record for record in handed_on(rig.link) if isinstance(record.body, Telemetry)]
            assert [record.body for record in sorted(records, key=lambda one: one.seq)] == large

    virtually(work)


def test_a_network_that_breaks_tells_nothing_about_sizes() -> None:
    async def work() -> None:
        async with Rig(drain_bytes_per_s=10**9) as rig:
            rig.link.answer = lambda m: None if m.topic == TRAIL else 0
            rig.journal.positions(1000)
            for count in range(1, 6):
                await rig.opened(count)
                await until(lambda: bool(rig.link.in_flight))
                await asyncio.sleep(1)
                rig.link.lose()
            rig.link.answer = lambda _: 0
            await rig.settled()
            assert [len(sent.seqs) for sent in rig.link.on(TRAIL)][-2:] == [500, 500]

    virtually(work)


def test_broker_that_takes_no_packet_at_all_is_a_named_reason() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.opened = Opened(5, maximum_packet_bytes=40)
            rig.journal.press()
            await rig.opened()
            await asyncio.sleep(200)
            assert rig.health.reasons() == (HealthReason.BROKER_REFUSED,)
            assert rig.journal.delivered[Stream.EVENTS] == 0
            rig.link.lose()
            rig.link.opened = Opened(5)
            await rig.settled()
            await until(lambda: rig.health.reasons() == ())

    virtually(work)


def test_quota_slows_down_and_loses_nothing() -> None:
    async def work() -> None:
        async with Rig(batch_records=10, drain_bytes_per_s=10**9) as rig:
            rig.link.answer = lambda m: QUOTA_EXCEEDED if m.topic == TRAIL else 0
            rig.journal.positions(100)
            await rig.opened()
            await asyncio.sleep(120)
            offered = len(rig.link.on(TRAIL))
            assert rig.journal.delivered[Stream.TRAIL] == 0
            rig.link.answer = lambda _: 0
            await rig.settled()
        assert offered < 100, "a window each time, at growing intervals"
        assert read_all(rig.link).counts.delivered == 100

    virtually(work)


def test_refused_topic_is_a_named_reason_until_it_is_taken() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.answer = lambda m: NOT_AUTHORISED if m.topic == EVENTS else 0
            rig.journal.press()
            rig.journal.positions(3)
            await until(lambda: HealthReason.BROKER_REFUSED in rig.health.reasons())
            assert "events" in rig.health.details()[HealthReason.BROKER_REFUSED]
            await until(lambda: rig.journal.delivered[Stream.TRAIL] == 3)
            rig.link.answer = lambda _: 0
            await rig.settled()
            assert rig.health.reasons() == ()

    virtually(work)


def test_gap_at_the_end_counts_as_delivered_up_to_its_end() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.journal.positions(5)
            rows = rig.journal.rows[Stream.TRAIL]
            gap = rows[2]._replace(kind=Kind.GAP, body=pack_body(Gap(5, "evicted", (("position", 3),))))
            rows[2:] = [gap]
            rig.journal.last_seq = lambda stream: 5 if stream is Stream.TRAIL else 0  # type: ignore[method-assign]  # a hole at the end
            await until(lambda: rig.journal.delivered[Stream.TRAIL] == 5)

    virtually(work)


def test_one_puback_that_never_comes_does_not_stop_a_stream() -> None:
    swallowed: list[Message] = []

    def answer(message: Message) -> int | None:
        if message.topic == EVENTS and not swallowed:
            swallowed.append(message)
            return None
        return 0

    async def work() -> None:
        async with Rig(keepalive_s=10) as rig:
            rig.link.answer = answer
            rig.journal.press()
            await rig.opened()
            for n in range(120):
                rig.publisher.set_state(LocationState(n * 1000, None, None, FixMode.NONE))
                if n % 10 == 0:
                    rig.journal.press()
                await asyncio.sleep(1)
            assert rig.journal.delivered[Stream.EVENTS] == rig.journal.last_seq(Stream.EVENTS) == 13
            assert len(rig.link.openings) == 2

    virtually(work)


@pytest.mark.parametrize("receive_maximum", [1, 2])
def test_journal_and_states_share_a_broker_that_takes_few_at_a_time(receive_maximum: int) -> None:
    async def work() -> None:
        async with Rig(drain_bytes_per_s=10**9) as rig:
            rig.link.opened = Opened(5, receive_maximum=receive_maximum)

            async def drive() -> None:
                for n in itertools.count():
                    rig.publisher.set_state(LocationState(n, None, None, FixMode.NONE))
                    rig.publisher.set_state(VehicleState(n, None, ()))
                    await asyncio.sleep(RTT_S / 4)

            states = asyncio.create_task(drive())
            await rig.opened()
            await asyncio.sleep(5)
            for _ in range(10):
                pressed = asyncio.get_running_loop().time()
                rig.journal.press()
                rig.journal.positions(600)
                await rig.settled()
                assert rig.link.on(EVENTS)[-1].at - pressed <= RTT_S + 0.01
                assert rig.link.on(TRAIL)[-1].at - pressed <= 8 * RTT_S
                before = len(rig.link.on(TOPICS.state("location")))
                await asyncio.sleep(10 * RTT_S)
                assert len(rig.link.on(TOPICS.state("location"))) >= before + 3
            # A lane that stood in line and then has nothing to send must not keep the others out.
            rig.journal.broken = True
            rig.journal.positions(1)
            before = len(rig.link.on(TOPICS.state("location")))
            await asyncio.sleep(20 * RTT_S)
            assert len(rig.link.on(TOPICS.state("location"))) >= before + 5
            states.cancel()

    virtually(work)


def test_fresh_press_does_not_sit_out_the_wait_of_a_refused_one() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.answer = lambda message: QUOTA_EXCEEDED if message.topic == EVENTS else 0
            rig.journal.press()
            await asyncio.sleep(300)
            await until(lambda: rig.link.on(EVENTS)[-1].at > asyncio.get_running_loop().time() - 2 * RTT_S)
            await asyncio.sleep(2)
            rig.link.answer = lambda _: 0
            rig.journal.press()
            await asyncio.sleep(3 * RTT_S)
            assert rig.journal.delivered[Stream.EVENTS] == 2
            # However many are pressed, a broker that goes on refusing is asked about once a second; what is
            # pressed within the round trip of that goes out as well.
            rig.link.answer = lambda message: QUOTA_EXCEEDED if message.topic == EVENTS else 0
            before = len(rig.link.on(EVENTS))
            for _ in range(50):
                rig.journal.press()
                await asyncio.sleep(2 * RTT_S)
            assert len(rig.link.on(EVENTS)) - before <= 2 * 11

    virtually(work)


def test_broker_that_hangs_up_on_large_packets_gets_smaller_ones() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.opened = Opened(4)
            rig.link.answer = silent_limit(rig, 5000)
            rig.journal.positions(5000)
            await rig.settled()
            assert len(rig.link.openings) < 10

    virtually(work)
