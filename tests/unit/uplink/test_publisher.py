"""The publisher against a scripted broker, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import config
from agent.domain.fix import FixMode
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Alert, Body, Gap, Kind, Position, StatusChange, Stream
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import HealthState, LinkState, LocationState, StatusState, VehicleState
from agent.outbox.fault import StoreFaultError
from agent.reader.journal_reader import JournalReader
from agent.uplink.link.link import Acknowledged, Closed, LinkEvent, Message, Opened, Opening, Received
from agent.uplink.link.refusal import NOT_AUTHORISED, PACKET_TOO_LARGE, QUOTA_EXCEEDED
from agent.uplink.publisher import OFFLINE_ACK_S, Publisher
from agent.uplink.receipts import PATIENCE_S
from agent.wire.body import pack_body
from agent.wire.codec import Batch, decode_batch, decode_state
from agent.wire.reader_request import Receipt, ReplayRequest, encode_receipt, encode_replay_request
from agent.wire.row import Row
from agent.wire.topics import Topics
from hil.sim.manual_clock import ManualClock
from hil.sim.virtual_loop import VirtualLoop

TOPICS = Topics("bems", "A1")
EVENTS, TRAIL = TOPICS.journal(Stream.EVENTS), TOPICS.journal(Stream.TRAIL)
RTT_S = 0.1


class FakeJournal:
    """An outbox in memory."""

    def __init__(self) -> None:
        self.journal = 7
        self.boot = 3
        self.rows: dict[Stream, list[Row]] = {stream: [] for stream in Stream}
        self.delivered = dict.fromkeys(Stream, 0)
        self.broken = False
        self._listeners: list[Callable[[Stream], None]] = []

    def add(self, body: Body, kind: Kind, *, boot: int = 3, utc_ms: int | None = 1_790_000_000_000) -> int:
        stream = kind.stream
        seq = len(self.rows[stream]) + 1
        source = UtcSource.NONE if utc_ms is None else UtcSource.GNSS
        self.rows[stream].append(
            Row(seq, kind, boot, seq * 1000, utc_ms, source, None if utc_ms is None else 500, pack_body(body))
        )
        for listener in self._listeners:
            listener(stream)
        return seq

    def positions(self, count: int, **more: Any) -> None:
        noise = random.Random(count)
        for n in range(count):
            lat_deg, lon_deg = 42.0 + n / 1e4 + noise.random() / 1e4, -71.0 + noise.random() / 1e4
            body = Position(lat_deg, lon_deg, 5.0, noise.random() * 20, 90.0, FixMode.FIX_3D, 9, 0.9)
            self.add(body, Kind.POSITION, **more)

    def press(self, status: str = "on_scene", **more: Any) -> int:
        return self.add(StatusChange(status, None, status, None), Kind.STATUS, **more)

    async def read(
        self, stream: Stream, after_seq: int, *, max_records: int, max_bytes: int, last_seq: int | None = None
    ) -> list[Row]:
        await asyncio.sleep(0.001)
        if self.broken:
            raise StoreFaultError(HealthReason.STORE_IO_ERROR, "no")
        rows = [
            row
            for row in self.rows[stream]
            if row.seq > after_seq and (last_seq is None or row.seq <= last_seq)
        ]
        taken = list(itertools.accumulate(len(row.body) for row in rows[:max_records]))
        return rows[: max(1, sum(total <= max_bytes for total in taken))] if rows else []

    def confirm(self, stream: Stream, through_seq: int) -> None:
        assert through_seq >= self.delivered[stream]
        self.delivered[stream] = through_seq

    def confirmed(self, stream: Stream) -> int:
        return self.delivered[stream]

    def last_seq(self, stream: Stream) -> int:
        return len(self.rows[stream])

    def on_appended(self, listener: Callable[[Stream], None]) -> None:
        self._listeners.append(listener)


@dataclass
class Sent:
    """A message with the moment it was handed over."""

    at: float
    token: int
    message: Message
    code: int | None

    @property
    def batch(self) -> Batch:
        return decode_batch(self.message.payload, "A1")

    @property
    def seqs(self) -> list[int]:
        return [record.seq for record in self.batch.records]


@dataclass
class FakeLink:
    """A broker that answers as told."""

    opened: Opened = field(default_factory=lambda: Opened(5))
    answer: Callable[[Message], int | None] = lambda _: 0
    refuse: Closed | None = None
    openings: list[tuple[float, Opening]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    closes: int = 0
    on_event: Callable[[LinkEvent], None] | None = None
    in_flight: int = 0
    most_in_flight: int = 0
    _tokens: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def open(self, opening: Opening, on_event: Callable[[LinkEvent], None]) -> None:
        assert self.on_event is None, "opened twice"
        self.on_event = on_event
        self.in_flight = 0
        loop = asyncio.get_running_loop()
        self.openings.append((loop.time(), opening))
        loop.call_later(RTT_S, self.tell, self.refuse or self.opened)

    def publish(self, message: Message) -> int:
        assert self.on_event is not None, "published while closed"
        loop = asyncio.get_running_loop()
        token = next(self._tokens)
        code = self.answer(message)
        self.sent.append(Sent(loop.time(), token, message, code))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        assert self.in_flight <= self.opened.receive_maximum
        if code is not None:
            loop.call_later(RTT_S, self.acknowledge, token, code, self.on_event)
        return token

    def acknowledge(self, token: int, code: int = 0, listener: object = None) -> None:
        if self.on_event is not None and listener in (None, self.on_event):
            self.in_flight -= 1
            self.on_event(Acknowledged(token, code))

    def tell(self, event: LinkEvent) -> None:
        listener = self.on_event
        if isinstance(event, Closed):
            self.on_event = None
        if listener is not None:
            listener(event)

    def lose(self, reason: str = "broker_unreachable") -> None:
        self.tell(Closed(reason, "lost"))

    def hang_up(self, opening: int) -> None:
        """End the connection of that number, if it still stands, as a broker does."""
        if len(self.openings) == opening:
            self.tell(Closed("broker_unreachable", "the broker closed the connection", hung_up=True))

    async def close(self) -> None:
        self.closes += 1
        await asyncio.sleep(RTT_S)
        self.tell(Closed("", "closed"))

    def on(self, topic: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.message.topic == topic]


class Rig:
    """A publisher with its surroundings, running."""

    def __init__(self, **table: Any) -> None:
        brokers = table.pop("brokers", 1)
        self.extra = {key: table.pop(key) for key in ("utc_now", "resolve_utc", "probe") if key in table}
        self.settings = config.Uplink(
            brokers=tuple(
                config.Broker(host=f"b{n}", port=1883, allow_plaintext=True) for n in range(brokers)
            ),
            **({"reconnect_min_s": 0.5} | table),
        )
        self.journal = FakeJournal()
        self.link = FakeLink()
        self.health = HealthBoard()
        self.progressed: list[float] = []
        self.publisher: Publisher
        self.task: asyncio.Task[None]

    async def __aenter__(self) -> Rig:
        clock = ManualClock.of_loop("b" * 32, 1_790_000_000_000)
        self.publisher = Publisher(
            self.settings,
            TOPICS,
            self.journal,
            self.link,
            clock,
            self.health,
            rng=random.Random(5),
            **self.extra,
        )
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self.publisher.run(lambda: self.progressed.append(loop.time())))
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.task.done():
            self.task.cancel()
        await asyncio.wait([self.task])

    async def opened(self, count: int = 1) -> None:
        await until(lambda: self.publisher.connected and len(self.link.openings) >= count)

    async def settled(self) -> None:
        await until(lambda: all(self.journal.delivered[s] >= self.journal.last_seq(s) for s in Stream))


async def until(condition: Callable[[], bool], within_s: float = 3600.0) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "never came true"
        await asyncio.sleep(0.005)


def virtually(work: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_as_coroutine(work))


async def _as_coroutine(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def read_all(link: FakeLink) -> JournalReader:
    """What a reader makes of everything that the broker took."""
    reader = JournalReader(want_history=True)
    for sent in link.sent:
        if "/journal/" in sent.message.topic and sent.code == 0:
            reader.feed(sent.message.topic, sent.message.payload)
    return reader


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
        assert [opening.resume for _, opening in rig.link.openings] == [False, True]

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
            rig.link.opened = Opened(5, receive_maximum=2, maximum_packet_bytes=256)
            rig.journal.positions(300)
            rig.journal.press()
            await rig.settled()
        assert max(sent.message.packet_bytes() for sent in rig.link.sent) <= 256
        assert read_all(rig.link).counts.delivered == 301
        assert len(rig.link.on(TRAIL)) < 60

    virtually(work)


def silent_limit(rig: Rig, limit_bytes: int) -> Callable[[Message], int | None]:
    """A broker that hangs up on larger packets, and says nothing."""

    given_up = 0

    def answer(message: Message) -> int | None:
        nonlocal given_up
        opening = len(rig.link.openings)
        if given_up == opening:
            return None
        if message.packet_bytes() > limit_bytes:
            given_up = opening
            asyncio.get_running_loop().call_later(RTT_S, rig.link.hang_up, opening)
            return None
        return 0

    return answer


def bulky(size_bytes: int) -> tuple[tuple[str, str], ...]:
    """Signals of about that size together, none of which is cut."""
    dice = random.Random(size_bytes)
    return tuple((f"X{at}", dice.randbytes(50).hex()) for at in range(size_bytes // 100))


def test_a_state_too_large_for_a_silent_broker_keeps_nothing_else_from_it() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.answer = silent_limit(rig, 600)
            rig.publisher.set_state(VehicleState(1, None, bulky(8000)))
            rig.journal.press()
            await rig.settled()
            await until(lambda: rig.health.reasons() == (HealthReason.PACKET_TOO_LARGE,))
            assert len(rig.link.openings) < 10
            rig.journal.press()
            await rig.settled()

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


def test_states_that_are_too_large_or_refused_are_named_reasons_and_offered_with_pauses() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.opened = Opened(5, maximum_packet_bytes=300)
            rig.link.answer = lambda m: NOT_AUTHORISED if m.topic == TOPICS.state("location") else 0
            rig.publisher.set_state(VehicleState(1, None, bulky(1200)))
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


def test_a_state_that_was_kept_back_goes_once_the_broker_seems_to_take_it() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.answer = lambda m: None if m.topic == TOPICS.state("vehicle") else 0
            vehicle = VehicleState(1, None, bulky(1200))
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


def is_replay(message: Message) -> bool:
    return message.topic == TRAIL and decode_batch(message.payload, "A1").header.replay


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


def test_broker_that_takes_no_packet_at_all_is_a_named_reason() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.opened = Opened(5, maximum_packet_bytes=40)
            rig.journal.press()
            await rig.opened()
            await asyncio.sleep(200)
            assert rig.health.reasons() == (HealthReason.BROKER_REFUSED, HealthReason.PACKET_TOO_LARGE)
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
            await until(lambda: rig.link.openings[-1:] != [] and rig.link.openings[-1][1].broker.host == "b1")
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


def test_only_receipts_move_the_watermark_when_so_configured() -> None:
    def receipt(stream: Stream, seq: int, journal: int | None = 7) -> Received:
        return Received(TOPICS.receipt, encode_receipt(Receipt(stream, seq, journal)).payload)

    async def work() -> None:
        async with Rig(confirm="dispatch") as rig:
            rig.journal.positions(10)
            await until(lambda: bool(rig.link.on(TRAIL)))
            await asyncio.sleep(1)
            assert rig.link.openings[0][1].subscriptions == (TOPICS.command("replay"), TOPICS.receipt)
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


def replay(stream: Stream, first: int, last: int, journal: int | None = None) -> Received:
    return Received(
        TOPICS.command("replay"), encode_replay_request(ReplayRequest(stream, first, last, journal)).payload
    )


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
            again = rig.link.sent[before:]
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
    [b"", b"\xc1", b"{", b"null", b"\x80", b"x" * 5000, b'{"stream":"trail","first":9,"last":1}', b"[" * 900],
)
def test_hostile_requests_do_nothing(payload: bytes) -> None:
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
            assert len(rig.link.sent) == count
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


def test_back_off_slows_a_fleet_that_is_refused() -> None:
    async def work() -> None:
        async with Rig(reconnect_min_s=1, reconnect_max_s=60) as rig:
            rig.link.refuse = Closed("broker_refused", "no")
            await asyncio.sleep(3600)
            assert rig.health.reasons() == (HealthReason.BROKER_REFUSED,)
        assert 60 <= len(rig.link.openings) <= 240

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


def test_receipt_that_is_retained_or_names_no_store_confirms_nothing() -> None:
    async def work() -> None:
        async with Rig(confirm="dispatch") as rig:
            rig.journal.press()
            await until(lambda: bool(rig.link.on(EVENTS)))
            await asyncio.sleep(1)
            given = encode_receipt(Receipt(Stream.EVENTS, 1, 7)).payload
            rig.link.tell(Received(TOPICS.receipt, given, retain=True))
            rig.link.tell(Received(TOPICS.receipt, encode_receipt(Receipt(Stream.EVENTS, 1)).payload))
            assert rig.journal.delivered[Stream.EVENTS] == 0
            rig.link.tell(Received(TOPICS.receipt, given))
            assert rig.journal.delivered[Stream.EVENTS] == 1

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


def test_trail_without_receipts_is_sent_again_though_events_have_theirs() -> None:
    async def work() -> None:
        async with Rig(confirm="dispatch") as rig:
            rig.journal.positions(10)
            await rig.opened()
            for _ in range(10):
                seq = rig.journal.press()
                await asyncio.sleep(PATIENCE_S / 4)
                receipt = encode_receipt(Receipt(Stream.EVENTS, seq, 7))
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


def test_broker_that_hangs_up_on_large_packets_gets_smaller_ones() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.link.opened = Opened(4)
            rig.link.answer = silent_limit(rig, 1500)
            rig.journal.positions(5000)
            await rig.settled()
            assert len(rig.link.openings) < 10

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
