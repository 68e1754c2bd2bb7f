"""The consumer's side of the journal: every record exactly once, and whatever is missing asked for again.

Delivery is at-least-once and, within a stream, in order. So records are handed on as they arrive, those that
were seen before are removed by their sequence number, and a number that was passed over is certainly missing:
it is asked for until it comes, or until a gap record tells that it is gone. What comes by request is flagged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from agent.domain.record import Gap, Opaque, Outcome, Stream
from agent.domain.state import LinkState, State, StatusState
from agent.reader.clock_corrections import ClockCorrections
from agent.reader.stream_reading import StreamReading
from agent.wire.batch import Batch, CodecError, JournalRecord
from agent.wire.codec import decode_batch, decode_state
from agent.wire.reader_request import Receipt, RefusalReason, ReplayRequest, Reply, decode_reply
from agent.wire.topics import REPLAY, Area, ParsedTopic, Topics, parse_topic

HEAD_GRACE_S = 10.0
"""How long the journal may lag behind a state that tells of a record before that is taken for missing."""
MAX_JOURNALS = 8
"""Journals remembered for each unit; beyond them the one read longest ago is forgotten, and counted."""


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
        conflicts: records handed on although another one was read under the same number before.
        journals_forgotten: journals given up to bound the memory.
        requests_refused: requests that units answered with a refusal.
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
    conflicts: int = 0
    journals_forgotten: int = 0
    requests_refused: int = 0

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
        boots: (first, last, boot) of what was read of each boot.
    """

    agency: str
    unit: str
    journal: int
    stream: str
    ask_from: int | None
    highest: int
    holes: tuple[tuple[int, int], ...]
    boots: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """A replay request and where it goes."""

    topics: Topics
    request: ReplayRequest

    @property
    def topic(self) -> str:
        """Topic to publish it on."""
        return self.topics.command(REPLAY)


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


class _Unit:
    """What is known of one unit.

    Attributes:
        present: the journal it has now; None before that was told.
        journals: the streams of each journal, the one read last at the end.
        heads: how far streams go by the unit's own word, by state and stream.
    """

    def __init__(self) -> None:
        self.present: int | None = None
        self.journals: dict[int, dict[Stream, StreamReading]] = {}
        self.heads: dict[tuple[str, Stream], _Head] = {}

    def streams(self, journal: int) -> dict[Stream, StreamReading]:
        """The streams of a journal, which is the newest in use from now on."""
        streams = self.journals.pop(journal, None)
        if streams is None:
            streams = {}
        self.journals[journal] = streams
        return streams

    def forget_beyond(self, most: int) -> int:
        """Give up the journals that were read longest ago; returns how many."""
        gone = 0
        while len(self.journals) > most:
            oldest = next(one for one in self.journals if one != self.present)
            del self.journals[oldest]
            gone += 1
        return gone

    def current(self) -> dict[Stream, StreamReading]:
        """The streams of the present journal that were read."""
        return {} if self.present is None else self.journals.get(self.present, {})


class JournalReader:
    """Reads the journals of any number of units. Not thread-safe; holds no clock.

    Args:
        want_history: whether to ask for what was sent before the first contact with a stream.
    """

    def __init__(self, *, want_history: bool = False) -> None:
        self._want_history = want_history
        self._units: dict[Topics, _Unit] = {}
        self._clocks = ClockCorrections()
        self._counts = ReaderCounts()

    @property
    def counts(self) -> ReaderCounts:
        """What was done so far."""
        readings = (
            reading
            for unit in self._units.values()
            for streams in unit.journals.values()
            for reading in streams.values()
        )
        return replace(self._counts, holes_open=sum(reading.missing for reading in readings))

    def feed(self, topic: str, payload: bytes, now_s: float = 0.0) -> list[JournalRecord]:
        """Take a message of any topic; returns the records that are new, in the order in which they came.

        Args:
            topic: as received.
            payload: as received.
            now_s: the clock of `asks`; only answers to requests need it.

        Raises:
            CodecError: the payload is not what its topic promises.
        """
        parsed = parse_topic(topic)
        if parsed is None:
            return []
        try:
            if parsed.area is Area.STATE:
                if payload:
                    self.learn(parsed.topics, decode_state(parsed.name, payload))
            elif parsed.area is Area.JOURNAL:
                return self.feed_batch(parsed.topics, _batch(parsed, payload))
            elif parsed.area is Area.REPLY:
                self.take_reply(parsed.topics, decode_reply(payload), now_s)
        except CodecError:
            self._counts = replace(self._counts, refused=self._counts.refused + 1)
            raise
        return []

    def feed_batch(self, topics: Topics, batch: Batch) -> list[JournalRecord]:
        """Take a decoded batch; returns the records that are new, or contradict what was read before.

        They carry the best UTC known of their boot. A record whose body is a ClockCorrection also concerns
        records that were handed on before: whoever keeps them puts them right by
        `agent.reader.clock_corrections.corrected`.
        """
        header = batch.header
        unit = self._unit(topics)
        if not header.replay:
            unit.present = header.journal
        reading = self._reading(unit, header.journal, header.stream, batch.records[0].seq)
        if not header.replay and reading.ask_from is None:
            reading.ask_from = 1 if self._want_history else batch.records[0].seq
        delivered: list[JournalRecord] = []
        filled = gaps = gone = conflicts = 0
        for record in batch.records:
            late = record.seq <= reading.highest
            if isinstance(record.body, Gap):
                told = reading.take_gap(record.seq, record.body.last_seq)
                new = told > 0
                gaps += new
                gone += told - new
            elif new := reading.take(record.seq):
                reading.witness.note(record)
            elif reading.witness.contradicts(record) and reading.witness.conflict_is_new(record):
                conflicts += 1
                delivered.append(replace(record, conflict=True))
            if new:
                filled += late
                delivered.append(self._clocks.apply(topics.agency, record))
        counts = self._counts
        self._counts = replace(
            counts,
            received=counts.received + len(batch.records),
            delivered=counts.delivered + len(delivered) - conflicts,
            duplicates_removed=counts.duplicates_removed + len(batch.records) - len(delivered),
            filled=counts.filled + filled,
            gaps_told=counts.gaps_told + gaps,
            told_gone=counts.told_gone + gone,
            opaque=counts.opaque + sum(isinstance(one.body, Opaque) for one in delivered),
            conflicts=counts.conflicts + conflicts,
            journals_forgotten=counts.journals_forgotten + unit.forget_beyond(MAX_JOURNALS),
            abandoned=counts.abandoned + reading.bound(),
        )
        return delivered

    def learn(self, topics: Topics, state: State) -> None:
        """Take a state: the link tells the journal and that asking makes sense, and how far streams go."""
        unit = self._unit(topics)
        if isinstance(state, LinkState) and state.online:
            unit.present = state.journal
            for reading in unit.current().values():
                reading.on_birth()
            # What was delivered before is history to a reader that never read the stream.
            for stream, seq in ((Stream.EVENTS, state.events_seq), (Stream.TRAIL, state.trail_seq)):
                unit.heads[state.name, stream] = _Head(seq or 0, state.journal, wanted=False)
        elif isinstance(state, StatusState):
            seq = max(state.seq or 0, state.emergency_seq or 0)
            unit.heads[state.name, Stream.EVENTS] = _Head(seq, state.journal, wanted=True)

    def take_reply(self, topics: Topics, reply: Reply, now_s: float) -> None:
        """Take a unit's answer: what it can not send is not asked for again so soon."""
        if reply.command != REPLAY or reply.outcome != Outcome.REFUSED:
            return
        self._counts = replace(self._counts, requests_refused=self._counts.requests_refused + 1)
        unit = self._unit(topics)
        if reply.reason == RefusalReason.OTHER_JOURNAL and reply.journal is not None:
            unit.present = reply.journal
        elif reply.reason != RefusalReason.BUSY:
            for stream, reading in unit.current().items():
                if reply.stream in (None, stream.value):
                    reading.on_refused(now_s)

    def asks(self, now_s: float) -> list[Ask]:
        """The replay requests that are due now, at most one a stream; call it now and then.

        Args:
            now_s: any clock that goes forward, in seconds; the same one at every call.
        """
        asks = []
        for topics, unit in self._units.items():
            if unit.heads:
                self._mind_heads(unit, now_s)
            for stream, reading in unit.current().items():
                due = reading.next_request(now_s)
                if due is not None:
                    asks.append(Ask(topics, ReplayRequest(stream, *due, unit.present)))
        return asks

    def receipts(self, topics: Topics) -> list[Receipt]:
        """How far each stream of the unit's present journal is complete; for a reader that wants history."""
        unit = self._units.get(topics)
        if unit is None:
            return []
        return [
            Receipt(stream, reading.through, unit.present)
            for stream, reading in unit.current().items()
            if reading.through > 0
        ]

    def export(self, only: Collection[Topics] | None = None) -> list[StreamCursor]:
        """Where every stream was read to, to go on from after a restart; of all units, or of some."""
        units = self._units if only is None else {one: self._units[one] for one in only if one in self._units}
        return [
            StreamCursor(
                topics.agency,
                topics.unit,
                journal,
                stream.value,
                one.ask_from,
                one.highest,
                tuple(one.holes),
                one.witness.boots,
            )
            for topics, unit in units.items()
            for journal, streams in unit.journals.items()
            for stream, one in streams.items()
        ]

    def restore(self, cursors: Iterable[StreamCursor]) -> None:
        """Go on from exported cursors. Raises ValueError for a stream that there is not."""
        for cursor in cursors:
            reading = StreamReading(cursor.ask_from, cursor.highest)
            for first, last in cursor.holes:
                reading.holes.add(first, last)
            reading.witness.restore(cursor.boots)
            unit = self._unit(Topics(cursor.agency, cursor.unit))
            unit.journals.setdefault(cursor.journal, {})[Stream(cursor.stream)] = reading
            if unit.present is None:
                unit.present = cursor.journal

    def _unit(self, topics: Topics) -> _Unit:
        unit = self._units.get(topics)
        if unit is None:
            unit = self._units[topics] = _Unit()
        return unit

    @staticmethod
    def _reading(unit: _Unit, journal: int, stream: Stream, seq: int) -> StreamReading:
        streams = unit.streams(journal)
        if stream not in streams:
            # Sequences begin at 1. What was sent before the first contact is missing too, but asked for only
            # when history is wanted; should it come by itself it is handed on.
            streams[stream] = reading = StreamReading(None, seq - 1)
            reading.holes.add(1, seq - 1)
        return streams[stream]

    def _mind_heads(self, unit: _Unit, now_s: float) -> None:
        """What a state tells of but the journal does not have after a while is missing."""
        journal = unit.present
        if journal is None:
            return
        for key, head in list(unit.heads.items()):
            if head.journal not in (None, journal):
                continue  # of a store that is gone, or whose birth is still on its way
            reading = unit.current().get(key[1])
            done = head.seq <= (reading.highest if reading else 0)
            if not done and head.since_s is None:
                head.since_s = now_s
            elif not done and head.since_s is not None and now_s - head.since_s >= HEAD_GRACE_S:
                self._miss(unit, journal, key[1], head)
                done = True
            if done:
                del unit.heads[key]

    def _miss(self, unit: _Unit, journal: int, stream: Stream, head: _Head) -> None:
        """Take everything up to `head` that did not come for missing."""
        reading = unit.current().get(stream)
        if reading is None:
            if not (head.wanted or self._want_history):
                return
            reading = self._reading(unit, journal, stream, 1)
        if reading.ask_from is None and (head.wanted or self._want_history):
            reading.ask_from = 1 if self._want_history else head.seq
        reading.miss(head.seq)


def _batch(parsed: ParsedTopic, payload: bytes) -> Batch:
    batch = decode_batch(payload, parsed.topics.unit)
    if batch.header.stream.value != parsed.name:
        raise CodecError(f"a batch of {batch.header.stream.value} on the topic of {parsed.name}")
    return batch
