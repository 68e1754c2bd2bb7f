"""A publisher between a store in memory and a scripted broker, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from agent import config
from agent.domain.fix import FixMode
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Body, Kind, Position, StatusChange, Stream
from agent.domain.stamp import UtcSource
from agent.outbox.fault import StoreFaultError
from agent.reader.journal_reader import JournalReader
from agent.uplink.link.link import Acknowledged, Closed, LinkEvent, Message, Opened, Opening, Received
from agent.uplink.publisher import Publisher
from agent.wire.body import pack_body
from agent.wire.codec import Batch, JournalRecord, decode_batch
from agent.wire.reader_request import ReplayRequest, encode_map
from agent.wire.row import Row
from agent.wire.topics import Topics
from hil.sim.manual_clock import ManualClock
from hil.sim.virtual_loop import VirtualLoop

TOPICS = Topics("bems", "A1")


EVENTS, TRAIL = TOPICS.journal(Stream.EVENTS), TOPICS.journal(Stream.TRAIL)


RTT_S = 0.1


class FakeRecords:
    """An outbox in memory."""

    def __init__(self) -> None:
        self.journal = 7
        self.boot = 3
        self.boot_ids = {1: "1" * 32, 2: "2" * 32, 3: "b" * 32}
        self.begun: list[str] = []
        self.refuses_to_begin = 0
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

    async def begin_new_journal(self, why: str) -> None:
        await asyncio.sleep(0.05)
        if self.refuses_to_begin:
            self.refuses_to_begin -= 1
            raise StoreFaultError(HealthReason.STORE_IO_ERROR, "no")
        self.begun.append(why)
        self.journal += 1

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
    kept: list[Received] = field(default_factory=list)
    """What the broker keeps of the unit, and tells with each subscription."""
    refuse: Closed | None = None
    openings: list[tuple[float, Opening]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    closes: int = 0
    network_changes: int = 0
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
        if self.refuse is None:
            for received in self.kept:
                loop.call_later(RTT_S, self.tell, received)

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

    def network_changed(self) -> None:
        self.network_changes += 1

    async def close(self) -> None:
        self.closes += 1
        await asyncio.sleep(RTT_S)
        self.tell(Closed("", "closed"))

    def on(self, topic: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.message.topic == topic]


class Rig:
    """A publisher with its surroundings, running."""

    def __init__(self, *, shipped: bool = False, **table: Any) -> None:
        brokers = table.pop("brokers", 1)
        self.extra = {
            key: table.pop(key) for key in ("utc_now", "resolve_utc", "probe", "commands") if key in table
        }
        self.settings = config.Uplink(
            brokers=tuple(
                config.Broker(host=f"b{n}", port=1883, allow_plaintext=True, redirect_hosts=("other",))
                for n in range(brokers)
            ),
            **(({} if shipped else {"reconnect_min_s": 0.5}) | table),
        )
        self.rng = random.Random(5)
        self.journal = FakeRecords()
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
            rng=self.rng,
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


def handed_on(link: FakeLink) -> list[JournalRecord]:
    """What a reader hands on of all that the broker took."""
    reader = JournalReader(want_history=True)
    taken = [s.message for s in link.sent if "/journal/" in s.message.topic and s.code == 0]
    return [record for message in taken for record in reader.feed(message.topic, message.payload)]


def is_replay(message: Message) -> bool:
    return message.topic == TRAIL and decode_batch(message.payload, "A1").header.replay


def replay(stream: Stream, first: int, last: int, journal: int | None = None) -> Received:
    return Received(TOPICS.command("replay"), encode_map(ReplayRequest(stream, first, last, journal)).payload)


def bulky(size_bytes: int) -> tuple[tuple[str, str], ...]:
    """Signals of about that size together, none of which is cut."""
    dice = random.Random(size_bytes)
    return tuple((f"X{at}", dice.randbytes(50).hex()) for at in range(size_bytes // 100))
