"""The consumer's side of the journal: every record exactly once, and whatever is missing asked for again.

Delivery is at-least-once and, within a stream, in order. So records are handed on as they arrive, those that
were seen before are removed by their sequence number, and a number that was passed over is certainly missing:
it is asked for until it comes, or until a gap record tells that it is gone. What comes by request is flagged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agent.domain.record import Gap, Stream
from agent.domain.state import LinkState, StatusState
from agent.uplink.batch import Batch, CodecError, JournalRecord
from agent.uplink.codec import decode_batch, decode_state
from agent.uplink.interval_set import IntervalSet
from agent.uplink.reader_request import (
    Receipt,
    ReplayRequest,
    decode_receipt,
    decode_replay_request,
    encode_receipt,
    encode_replay_request,
)
from agent.uplink.topics import Area, ParsedTopic, Topics, parse_topic

__all__ = [
    "Ask",
    "JournalReader",
    "ReaderCounts",
    "Receipt",
    "ReplayRequest",
    "StreamCursor",
    "decode_receipt",
    "decode_replay_request",
    "encode_receipt",
    "encode_replay_request",
]

MAX_HOLES = 10_000
"""Intervals remembered for each stream; beyond them the oldest is given up, and counted."""
MAX_REQUEST_RECORDS = 5_000
RETRY_MIN_S = 10.0
RETRY_MAX_S = 600.0
HEAD_GRACE_S = 10.0
"""How long the journal may lag behind a state that tells of a record before that is taken for missing."""


@dataclass(frozen=True, slots=True)
class ReaderCounts:
    """What a reader did so far, over all streams.

    Attributes:
        received: records that arrived, repeated ones included.
        delivered: records handed on.
        duplicates_removed: records that had been handed on before.
        filled: records handed on that closed a hole.
        holes_open: sequence numbers that are missing now.
        gaps_told: gap records.
        told_gone: sequence numbers that gap records cover, their own not counted.
        abandoned: missing sequence numbers given up to bound the memory.
        refused: payloads that were no batch.
    """

    received: int = 0
    delivered: int = 0
    duplicates_removed: int = 0
    filled: int = 0
    holes_open: int = 0
    gaps_told: int = 0
    told_gone: int = 0
    abandoned: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class StreamCursor:
    """How far one stream was read; plain enough for JSON.

    Attributes:
        agency: whose unit it is.
        unit: which unit.
        journal: identity of the store.
        stream: "events" or "trail".
        ask_from: holes below this sequence number are not asked for; None before the first contact that was
            not an answer to some reader's request.
        highest: highest sequence number seen or told gone.
        holes: (first, last) of what is missing below `highest`.
    """

    agency: str
    unit: str
    journal: int
    stream: str
    ask_from: int | None
    highest: int
    holes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """A replay request and where it goes."""

    topics: Topics
    request: ReplayRequest

    @property
    def topic(self) -> str:
        """Topic to publish it on."""
        return self.topics.command("replay")


@dataclass(slots=True)
class _Asked:
    """The request that is under way for a stream."""

    first: int
    last: int
    due_s: float
    wait_s: float


@dataclass(slots=True)
class _Head:
    """How far a stream goes at least, as a state tells it.

    Attributes:
        seq: a sequence number that the stream has.
        journal: whose; None for the unit's present one.
        wanted: whether this record itself is wanted of a stream that was never read, history or not.
        since_s: when it was first looked at.
    """

    seq: int
    journal: int | None
    wanted: bool
    since_s: float | None = None


@dataclass(slots=True)
class _Reading:
    """One stream of one journal of one unit."""

    ask_from: int | None
    highest: int
    holes: IntervalSet = field(default_factory=IntervalSet)
    asked: _Asked | None = None

    def lowest_hole(self) -> tuple[int, int] | None:
        """The first interval that is missing and wanted."""
        return None if self.ask_from is None else self.holes.first_from(self.ask_from)

    def missing(self) -> int:
        """How many sequence numbers are missing and wanted."""
        return 0 if self.ask_from is None else self.holes.count(self.ask_from)

    def take(self, seq: int) -> bool:
        """Whether `seq` is new; marks it as seen."""
        if seq > self.highest:
            self.holes.add(self.highest + 1, seq - 1)
            self.highest = seq
            return True
        return self.holes.remove(seq, seq) > 0

    def take_gone(self, first: int, last: int) -> int:
        """Mark `first` to `last` as gone for good; returns how many of them were missing until now."""
        told = self.holes.remove(first, min(last, self.highest))
        if last > self.highest:
            told += last - max(first - 1, self.highest)
            self.holes.add(self.highest + 1, first - 1)
            self.highest = last
        return told


class JournalReader:
    """Reads the journals of any number of units. Not thread-safe; holds no clock.

    Args:
        want_history: whether to ask for what was sent before the first contact with a stream.
    """

    def __init__(self, *, want_history: bool = False) -> None:
        self._want_history = want_history
        self._streams: dict[tuple[Topics, int, Stream], _Reading] = {}
        self._journals: dict[Topics, int] = {}
        self._heads: dict[tuple[Topics, str, Stream], _Head] = {}
        self._counts = ReaderCounts()

    @property
    def counts(self) -> ReaderCounts:
        """What was done so far."""
        return replace(self._counts, holes_open=sum(map(_Reading.missing, self._streams.values())))

    def feed(self, topic: str, payload: bytes) -> list[JournalRecord]:
        """Take a message of any topic; returns the records that are new, in the order in which they came.

        Raises:
            CodecError: the payload is not what its topic promises.
        """
        parsed = parse_topic(topic)
        if parsed is None:
            return []
        try:
            if parsed.area is Area.STATE:
                return self._learn(parsed.topics, parsed.name, payload)
            if parsed.area is Area.JOURNAL:
                return self.feed_batch(parsed.topics, _batch(parsed, payload))
        except CodecError:
            self._counts = replace(self._counts, refused=self._counts.refused + 1)
            raise
        return []

    def feed_batch(self, topics: Topics, batch: Batch) -> list[JournalRecord]:
        """Take a decoded batch; returns the records that are new."""
        header = batch.header
        reading = self._reading(topics, header.journal, header.stream, batch.records[0].seq)
        if not header.replay:
            self._journals[topics] = header.journal
            if reading.ask_from is None:
                reading.ask_from = 1 if self._want_history else batch.records[0].seq
        delivered: list[JournalRecord] = []
        filled = gaps = gone = 0
        for record in batch.records:
            late = record.seq <= reading.highest
            new = reading.take(record.seq)
            if isinstance(record.body, Gap):
                told = reading.take_gone(record.seq + 1, record.body.last_seq)
                new = new or told > 0
                gaps += new
                gone += told
            if new:
                filled += late
                delivered.append(record)
        counts = self._counts
        self._counts = replace(
            counts,
            received=counts.received + len(batch.records),
            delivered=counts.delivered + len(delivered),
            duplicates_removed=counts.duplicates_removed + len(batch.records) - len(delivered),
            filled=counts.filled + filled,
            gaps_told=counts.gaps_told + gaps,
            told_gone=counts.told_gone + gone,
            abandoned=counts.abandoned + _bound(reading.holes),
        )
        return delivered

    def asks(self, now_s: float) -> list[Ask]:
        """The replay requests that are due now, at most one a stream; call it now and then.

        Args:
            now_s: any clock that goes forward, in seconds; the same one at every call.
        """
        self._mind_heads(now_s)
        asks = []
        for (topics, journal, stream), reading in self._streams.items():
            if self._journals.get(topics) == journal and (request := _due(reading, stream, journal, now_s)):
                asks.append(Ask(topics, request))
        return asks

    def receipts(self, topics: Topics) -> list[Receipt]:
        """How far each stream of the unit's present journal is complete; for a reader that wants history."""
        receipts = []
        for (whose, journal, stream), reading in self._streams.items():
            hole = reading.lowest_hole()
            through_seq = reading.highest if hole is None else hole[0] - 1
            if whose == topics and self._journals.get(topics) == journal and through_seq > 0:
                receipts.append(Receipt(stream, through_seq, journal))
        return receipts

    def export(self) -> list[StreamCursor]:
        """Where every stream was read to, to go on from after a restart."""
        return [
            StreamCursor(
                topics.agency, topics.unit, journal, stream.value, one.ask_from, one.highest, tuple(one.holes)
            )
            for (topics, journal, stream), one in self._streams.items()
        ]

    def restore(self, cursors: Iterable[StreamCursor]) -> None:
        """Go on from exported cursors. Raises ValueError for a stream that there is not."""
        for cursor in cursors:
            reading = _Reading(cursor.ask_from, cursor.highest)
            for first, last in cursor.holes:
                reading.holes.add(first, last)
            topics = Topics(cursor.agency, cursor.unit)
            self._streams[topics, cursor.journal, Stream(cursor.stream)] = reading
            self._journals.setdefault(topics, cursor.journal)

    def _reading(self, topics: Topics, journal: int, stream: Stream, seq: int) -> _Reading:
        key = topics, journal, stream
        if key not in self._streams:
            # Sequences begin at 1. What was sent before the first contact is missing too, but asked for only
            # when history is wanted; should it come by itself it is handed on.
            self._streams[key] = reading = _Reading(None, seq - 1)
            reading.holes.add(1, seq - 1)
        return self._streams[key]

    def _learn(self, topics: Topics, name: str, payload: bytes) -> list[JournalRecord]:
        """The link state tells the journal and that asking makes sense; both states how far streams go."""
        if name == LinkState.name and payload:
            link = decode_state(name, payload)
            if isinstance(link, LinkState) and link.online:
                self._journals[topics] = link.journal
                for (whose, _, _), reading in self._streams.items():
                    if whose == topics:
                        reading.asked = None
                # What was delivered before is history to a reader that never read the stream.
                for stream, seq in ((Stream.EVENTS, link.events_seq), (Stream.TRAIL, link.trail_seq)):
                    self._heads[topics, name, stream] = _Head(seq or 0, link.journal, wanted=False)
        elif name == StatusState.name and payload:
            status = decode_state(name, payload)
            if isinstance(status, StatusState):
                seq = max(status.seq or 0, status.emergency_seq or 0)
                self._heads[topics, name, Stream.EVENTS] = _Head(seq, None, wanted=True)
        return []

    def _mind_heads(self, now_s: float) -> None:
        """What a state tells of but the journal does not have after a while is missing."""
        for (topics, name, stream), head in list(self._heads.items()):
            journal = self._journals.get(topics)
            if journal is None:
                continue
            reading = self._streams.get((topics, journal, stream))
            done = head.journal not in (None, journal) or head.seq <= (reading.highest if reading else 0)
            if not done and head.since_s is None:
                head.since_s = now_s
            elif not done and head.since_s is not None and now_s - head.since_s >= HEAD_GRACE_S:
                self._miss(topics, journal, stream, head)
                done = True
            if done:
                del self._heads[topics, name, stream]

    def _miss(self, topics: Topics, journal: int, stream: Stream, head: _Head) -> None:
        """Take everything up to `head` that did not come for missing."""
        reading = self._streams.get((topics, journal, stream))
        if reading is None:
            if not (head.wanted or self._want_history):
                return
            reading = self._reading(topics, journal, stream, 1)
        if reading.ask_from is None and (head.wanted or self._want_history):
            reading.ask_from = 1 if self._want_history else head.seq
        reading.holes.add(reading.highest + 1, head.seq)
        reading.highest = head.seq


def _batch(parsed: ParsedTopic, payload: bytes) -> Batch:
    batch = decode_batch(payload, parsed.topics.unit)
    if batch.header.stream.value != parsed.name:
        raise CodecError(f"a batch of {batch.header.stream.value} on the topic of {parsed.name}")
    return batch


def _due(reading: _Reading, stream: Stream, journal: int, now_s: float) -> ReplayRequest | None:
    """The next request for a stream: the lowest hole and what is near it, unless its answer is awaited."""
    hole = reading.lowest_hole()
    if hole is None:
        reading.asked = None
        return None
    asked, wait_s = reading.asked, RETRY_MIN_S
    if asked is not None and asked.first == hole[0]:
        if now_s < asked.due_s:
            return None
        wait_s = min(asked.wait_s * 2, RETRY_MAX_S)
    elif asked is not None and hole[0] <= asked.last:
        asked.first, asked.due_s, asked.wait_s = hole[0], now_s + RETRY_MIN_S, RETRY_MIN_S
        return None
    last = reading.holes.last_through(hole[0] + MAX_REQUEST_RECORDS - 1)
    assert last is not None
    reading.asked = _Asked(hole[0], last, now_s + wait_s, wait_s)
    return ReplayRequest(stream, hole[0], last, journal)


def _bound(holes: IntervalSet) -> int:
    """Give up the oldest holes beyond MAX_HOLES; returns how many sequence numbers that were."""
    given_up = 0
    while len(holes) > MAX_HOLES:
        first, last = holes.pop_lowest()
        given_up += last - first + 1
    return given_up
