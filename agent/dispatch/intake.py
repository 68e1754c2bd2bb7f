"""From messages to what is to be stored: decoded, without repeats, with how far each stream was read.

The only module that knows how the reader counts. It holds what was read in memory; when a transaction
fails that memory is ahead of the store, and is made anew from the stored cursors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.domain.record import Emergency, Position, StatusChange
from agent.domain.state import State, VehicleState
from agent.reader.journal_reader import Ask, JournalReader, StreamCursor
from agent.wire.batch import Batch, CodecError, JournalRecord
from agent.wire.body import body_to_json
from agent.wire.codec import decode_batch, decode_state
from agent.wire.reader_request import Receipt, Reply, decode_reply
from agent.wire.state_codec import state_to_json
from agent.wire.topics import Area, ParsedTopic, Topics, parse_topic

_JSON = json.JSONEncoder(separators=(",", ":"))
DAY_MS = 86_400_000
MOST_JOURNALS_A_DAY = 100
"""Of one unit. A vehicle has another one when its store is replaced: a few a year."""
_LARGEST = 1 << 62
"""No number of a record may be larger: it would not fit into the databases' integers."""
_EARLIEST_MS, _LATEST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999: what a calendar can name."""


@dataclass(frozen=True, slots=True)
class Message:
    """What came from a source.

    Attributes:
        topic: where it was published.
        payload: as it came.
        received_ms: when, in Unix milliseconds of this computer.
        retained: the broker kept it; it may be old.
        token: what the source needs to confirm it; opaque.
        offset: where it stands in a stream that is read by offsets; None of other sources.
    """

    topic: str
    payload: bytes
    received_ms: int
    retained: bool = False
    token: Any = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class HeardBatch:
    """A message of a journal topic and what was new in it."""

    topics: Topics
    message: Message
    records: list[JournalRecord]


@dataclass(frozen=True, slots=True)
class HeardState:
    """A message of a state topic; `state` is None when the topic was emptied."""

    topics: Topics
    name: str
    message: Message
    state: State | None


@dataclass(frozen=True, slots=True)
class HeardReply:
    """A unit's answer to a command."""

    topics: Topics
    message: Message
    reply: Reply


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that is not what its topic promises."""

    topics: Topics | None
    message: Message
    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A second record under a number that was read: an old copy of a card, or a twin, speaks as this unit."""

    topics: Topics
    message: Message
    record: JournalRecord


@dataclass(slots=True)
class Heard:
    """What some messages amount to; goes into the store as a whole.

    Attributes:
        batches: those with something new, in the order in which they came.
        states: the newest of each name and unit.
        replies: what units answered to commands.
        refused: what could not be read.
        conflicts: records that contradict what was read before.
        cursors: of every stream that was touched.
        receipts: what may be said once all of it is stored.
        read_to: the highest offset of what came by a stream; None when nothing did.
    """

    batches: list[HeardBatch] = field(default_factory=list)
    states: list[HeardState] = field(default_factory=list)
    replies: list[HeardReply] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    cursors: list[StreamCursor] = field(default_factory=list)
    receipts: list[tuple[Topics, Receipt]] = field(default_factory=list)
    read_to: int | None = None

    @property
    def records(self) -> int:
        """How many new records there are."""
        return sum(len(batch.records) for batch in self.batches)


class Intake:
    """Reads messages. Not thread-safe; holds no clock.

    Args:
        cursors: where the streams were read to.
    """

    def __init__(self, cursors: Iterable[StreamCursor]) -> None:
        self._reader = JournalReader(want_history=True)
        self._reader.restore(cursors)
        self._vehicles: dict[Topics, VehicleState] = {}
        self._new_journals: dict[Topics, tuple[int, set[int]]] = {}

    def hear(self, messages: Sequence[Message], now_s: float = 0.0) -> Heard:
        """Read messages in the order in which they came; `now_s` is the clock of `asks`."""
        heard = Heard(read_to=read_to(messages))
        states: dict[tuple[Topics, str], HeardState] = {}
        touched: set[Topics] = set()
        for message in messages:
            parsed = parse_topic(message.topic)
            if parsed is None:
                heard.refused.append(Refused(None, message, "no topic of ours"))
                continue
            try:
                if parsed.area is Area.STATE:
                    states[parsed.topics, parsed.name] = self._state(parsed, message)
                elif parsed.area is Area.JOURNAL:
                    self._batch(heard, parsed, message)
                    touched.add(parsed.topics)
                elif parsed.area is Area.REPLY:
                    heard.replies.append(self._reply(parsed, message, now_s))
            except CodecError as error:
                heard.refused.append(Refused(parsed.topics, message, str(error)))
        heard.states = list(states.values())
        if touched:
            heard.cursors = self._reader.export(touched)
        for topics in touched:
            heard.receipts += [(topics, receipt) for receipt in self._reader.receipts(topics)]
        return heard

    def asks(self, now_s: float) -> list[Ask]:
        """The replay requests that are due; see `JournalReader.asks`."""
        return self._reader.asks(now_s)

    @property
    def holes(self) -> int:
        """Sequence numbers that are missing now."""
        return self._reader.counts.holes_open

    def _batch(self, heard: Heard, parsed: ParsedTopic, message: Message) -> None:
        read = read_batch(parsed, message.payload)
        self._check_journal(parsed.topics, read.header.journal, message.received_ms // DAY_MS)
        records = self._reader.feed_batch(parsed.topics, read)
        fresh = [one for one in records if not one.conflict]
        if fresh:
            heard.batches.append(HeardBatch(parsed.topics, message, fresh))
        heard.conflicts += [Conflict(parsed.topics, message, one) for one in records if one.conflict]

    def _check_journal(self, topics: Topics, journal: int, day: int) -> None:
        """A unit that invents journals without end costs no more than some. Raises CodecError."""
        since, seen = self._new_journals.get(topics, (day, set()))
        if since != day:
            since, seen = day, set()
        if journal not in seen and len(seen) >= MOST_JOURNALS_A_DAY:
            raise CodecError(f"more than {MOST_JOURNALS_A_DAY} journals in a day")
        seen.add(journal)
        self._new_journals[topics] = since, seen

    def _reply(self, parsed: ParsedTopic, message: Message, now_s: float) -> HeardReply:
        reply = decode_reply(message.payload)
        if reply.command != parsed.name:
            raise CodecError(f"an answer to {reply.command!r:.40} on the topic of {parsed.name}")
        self._reader.take_reply(parsed.topics, reply, now_s)
        return HeardReply(parsed.topics, message, reply)

    def _state(self, parsed: ParsedTopic, message: Message) -> HeardState:
        state = decode_state(parsed.name, message.payload) if message.payload else None
        if state is not None:
            state_fields(state)  # what has no JSON form is refused here, not on somebody's page
            if isinstance(state, VehicleState):
                known = self._vehicles.get(parsed.topics)
                state = self._vehicles[parsed.topics] = state if known is None else state.over(known)
            self._reader.learn(parsed.topics, state)
        return HeardState(parsed.topics, parsed.name, message, state)


def read_to(messages: Iterable[Message]) -> int | None:
    """The highest offset of messages; None when none came by a stream."""
    return max((one.offset for one in messages if one.offset is not None), default=None)


def state_fields(state: State) -> dict[str, Any]:
    """A state as the object of its JSON form. Raises CodecError."""
    try:
        fields: dict[str, Any] = json.loads(state_to_json(state))
    except (OverflowError, TypeError, ValueError) as error:
        raise CodecError(f"a {state.name} state that can not be told: {error}") from error
    return fields


def record_body(record: JournalRecord) -> str:
    """A record's body as JSON in ASCII: no database chokes on it."""
    return _JSON.encode(body_to_json(record.body))


def at_ms(record: JournalRecord, received_ms: int) -> int:
    """When it happened, as well as is known: its UTC, else when it was received."""
    return received_ms if record.utc_ms is None else record.utc_ms


def place(record: JournalRecord) -> tuple[float | None, float | None]:
    """Latitude and longitude in degrees of a position; nothing of other kinds."""
    body = record.body
    return (body.lat_deg, body.lon_deg) if isinstance(body, Position) else (None, None)


def is_status(record: JournalRecord) -> bool:
    """Whether an answer is due."""
    return isinstance(record.body, StatusChange)


def is_emergency(record: JournalRecord) -> bool:
    """Whether an alarm begins or ends."""
    return isinstance(record.body, Emergency)


def read_batch(parsed: ParsedTopic, payload: bytes) -> Batch:
    """Decode a payload of a journal topic, and refuse what no table can hold. Raises CodecError."""
    batch = decode_batch(payload, parsed.topics.unit)
    header = batch.header
    if header.stream.value != parsed.name:
        raise CodecError(f"a batch of {header.stream.value} on the topic of {parsed.name}")
    if not (0 <= header.journal < 1 << 32 and 0 <= header.boot < _LARGEST):
        raise CodecError("a journal or boot that can not be")
    if not 0 < batch.records[0].seq <= batch.records[-1].seq < _LARGEST:
        raise CodecError("a sequence number that can not be")
    for record in batch.records:
        utc_ms, uncertainty_ms = record.utc_ms, record.utc_uncertainty_ms
        if utc_ms is not None and not _EARLIEST_MS <= utc_ms <= _LATEST_MS:
            raise CodecError(f"record {record.seq}: a UTC outside of the years 1 to 9999")
        if not 0 <= record.boottime_ms < _LARGEST or not 0 <= (uncertainty_ms or 0) < _LARGEST:
            raise CodecError(f"record {record.seq}: a boot time or uncertainty that can not be")
    return batch
