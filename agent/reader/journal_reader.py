"""The consumer's side of the journal: every record exactly once, and whatever is missing asked for again.

Delivery is at-least-once and, within a stream, in order. So records are handed on as they arrive, those that
were seen before are removed by their sequence number, and a number that was passed over is certainly missing:
it is asked for until it comes, or until a gap record tells that it is gone. What comes by request is flagged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from agent.domain.record import Gap, Opaque, Stream
from agent.domain.state import LinkState, StatusState
from agent.reader.stream_reading import StreamReading
from agent.wire.batch import Batch, CodecError, JournalRecord
from agent.wire.codec import decode_batch, decode_state
from agent.wire.parts import PartCollector, decode_part
from agent.wire.reader_request import (
    Receipt,
    ReplayRequest,
    decode_receipt,
    decode_replay_request,
    encode_receipt,
    encode_replay_request,
)
from agent.wire.topics import Area, ParsedTopic, Topics, parse_topic

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
        told_gone: sequence numbers that gap records cover, one for each such record handed on not counted.
        abandoned: missing sequence numbers given up to bound the memory.
        refused: payloads that were no batch.
        opaque: records handed on that could not be read: of a kind that is not known, or garbled.
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
    opaque: int = 0

    @property
    def accounted(self) -> int:
        """Sequence numbers of which something is known."""
        return self.delivered + self.told_gone


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


class JournalReader:
    """Reads the journals of any number of units. Not thread-safe; holds no clock.

    Args:
        want_history: whether to ask for what was sent before the first contact with a stream.
    """

    def __init__(self, *, want_history: bool = False) -> None:
        self._want_history = want_history
        self._streams: dict[tuple[Topics, int, Stream], StreamReading] = {}
        self._journals: dict[Topics, int] = {}
        self._heads: dict[tuple[Topics, str, Stream], _Head] = {}
        self._parts: dict[str, PartCollector] = {}
        self._counts = ReaderCounts()

    @property
    def counts(self) -> ReaderCounts:
        """What was done so far."""
        return replace(
            self._counts,
            holes_open=sum(reading.missing for reading in self._streams.values()),
        )

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
            if parsed.area is Area.JOURNAL and (whole := self._whole(topic, payload)) is not None:
                return self.feed_batch(parsed.topics, _batch(parsed, whole))
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
            if isinstance(record.body, Gap):
                told = reading.take_gap(record.seq, record.body.last_seq)
                new = told > 0
                gaps += new
                gone += told - new
            else:
                new = reading.take(record.seq)
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
            opaque=counts.opaque + sum(isinstance(one.body, Opaque) for one in delivered),
            abandoned=counts.abandoned + reading.bound(),
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
            due = reading.next_request(now_s) if self._journals.get(topics) == journal else None
            if due is not None:
                asks.append(Ask(topics, ReplayRequest(stream, *due, journal)))
        return asks

    def receipts(self, topics: Topics) -> list[Receipt]:
        """How far each stream of the unit's present journal is complete; for a reader that wants history."""
        receipts = []
        for (whose, journal, stream), reading in self._streams.items():
            if whose == topics and self._journals.get(topics) == journal and reading.through > 0:
                receipts.append(Receipt(stream, reading.through, journal))
        return receipts

    def export(self) -> list[StreamCursor]:
        """Where every stream was read to, to go on from after a restart."""
        return [
            StreamCursor(
                topics.agency,
                topics.unit,
                journal,
                stream.value,
                one.ask_from,
                one.highest,
                tuple(one.holes),
            )
            for (topics, journal, stream), one in self._streams.items()
        ]

    def restore(self, cursors: Iterable[StreamCursor]) -> None:
        """Go on from exported cursors. Raises ValueError for a stream that there is not."""
        for cursor in cursors:
            reading = StreamReading(cursor.ask_from, cursor.highest)
            for first, last in cursor.holes:
                reading.holes.add(first, last)
            topics = Topics(cursor.agency, cursor.unit)
            self._streams[topics, cursor.journal, Stream(cursor.stream)] = reading
            self._journals.setdefault(topics, cursor.journal)

    def _whole(self, topic: str, payload: bytes) -> bytes | None:
        """The payload of a batch; None until the last of its parts has come."""
        part = decode_part(payload)
        if part is None:
            return payload
        collector = self._parts.setdefault(topic, PartCollector())
        try:
            return collector.take(part)
        finally:
            if not collector:
                del self._parts[topic]

    def _reading(self, topics: Topics, journal: int, stream: Stream, seq: int) -> StreamReading:
        key = topics, journal, stream
        if key not in self._streams:
            # Sequences begin at 1. What was sent before the first contact is missing too, but asked for only
            # when history is wanted; should it come by itself it is handed on.
            self._streams[key] = reading = StreamReading(None, seq - 1)
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
                        reading.on_birth()
                # What was delivered before is history to a reader that never read the stream.
                for stream, seq in ((Stream.EVENTS, link.events_seq), (Stream.TRAIL, link.trail_seq)):
                    self._heads[topics, name, stream] = _Head(seq or 0, link.journal, wanted=False)
        elif name == StatusState.name and payload:
            status = decode_state(name, payload)
            if isinstance(status, StatusState):
                seq = max(status.seq or 0, status.emergency_seq or 0)
                self._heads[topics, name, Stream.EVENTS] = _Head(seq, status.journal, wanted=True)
        return []

    def _mind_heads(self, now_s: float) -> None:
        """What a state tells of but the journal does not have after a while is missing."""
        for (topics, name, stream), head in list(self._heads.items()):
            journal = self._journals.get(topics)
            if journal is None:
                continue
            reading = self._streams.get((topics, journal, stream))
            if head.journal not in (None, journal):
                continue  # of a store that is gone, or whose birth is still on its way
            done = head.seq <= (reading.highest if reading else 0)
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
        reading.miss(head.seq)


def _batch(parsed: ParsedTopic, payload: bytes) -> Batch:
    batch = decode_batch(payload, parsed.topics.unit)
    if batch.header.stream.value != parsed.name:
        raise CodecError(f"a batch of {batch.header.stream.value} on the topic of {parsed.name}")
    return batch
