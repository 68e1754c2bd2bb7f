"""What dispatch keeps, as its other parts use it. One thread writes; readers have their own connections."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from agent.dispatch.intake import (
    Conflict,
    Heard,
    HeardBatch,
    HeardReply,
    HeardState,
    Message,
    Refused,
    at_ms,
    is_emergency,
    is_status,
    place,
    read_batch,
    record_body,
)
from agent.dispatch.store.corrections import Corrections
from agent.dispatch.store.engine import Connection, Engine, StoreError
from agent.dispatch.store.schema import BATCH_COLUMNS, RECORD_COLUMNS
from agent.domain.record import (
    Amendment,
    Body,
    CallRecord,
    ClockCorrection,
    CommandResult,
    Emergency,
    Kind,
    MessageRecord,
    Opaque,
    StatusChange,
    Withdrawal,
)
from agent.reader.journal_reader import StreamCursor
from agent.runtime.log import EventLog
from agent.wire.batch import CodecError, JournalRecord
from agent.wire.reader_request import Reply, encode_map
from agent.wire.topics import Topics, parse_topic

DAY_MS = 86_400_000
KEEP_REFUSED = 20
"""Payloads of one unit that are kept to be looked at; all of them are counted."""
KEEP_REFUSED_BYTES = 16_384
REFUSED_UNITS = 5_000
"""Units of which refusals are counted one by one; a stranger may invent names without end."""
KEEP_REPLIES = 4_000
"""Of one command: a recording comes in that many pieces of some kilobytes, and a liar's flood ends."""
_REBUILD_BATCHES = 500
_READ_TO = "read_to"
"""Name in `meta` of the offset up to which the journal's stream is stored."""
CORRECTING = (ClockCorrection, Withdrawal, Amendment)
_QUIET = frozenset({int(Kind.POSITION), int(Kind.TELEMETRY), int(Kind.HEALTH)})
CALL_STEPS = {
    "received": "received_ms",
    "shown": "shown_ms",
    "acknowledged": "acknowledged_ms",
    "cancelled": "ended_ms",
    "diverted": "ended_ms",
    "ended": "ended_ms",
}
CALL_TAKEN = frozenset({"acknowledged", "en_route", "staged", "on_scene"})
CALL_ENDS = frozenset({"available", "in_quarters", "cancelled"})

_log = EventLog("dispatch")

StreamKey = tuple[str, str, int, str]


class Store:
    """The writing side. Used from one thread at a time; all of it raises StoreError or StoreDataError.

    Args:
        engine: the database.
        alarm_on_emergency: what an emergency's alarm says, made in the transaction that stores it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._connection: Connection | None = None
        self._units: dict[Topics, int] = {}
        self._streams: dict[StreamKey, int] = {}
        self._next_batch = 1
        self._corrections = Corrections()
        self.read_to: int | None = None
        """Offset up to which the journal's stream is stored; None when nothing of it is, or there is none."""

    @property
    def connection(self) -> Connection:
        """The writing connection. Raises StoreError while closed."""
        if self._connection is None:
            raise StoreError("the store is not open")
        return self._connection

    def open(self) -> list[StreamCursor]:
        """Claim the database; returns where every stream was read to."""
        self.close()
        self._connection = connection = self.engine.own()
        return self._load(connection)

    def close(self) -> None:
        """Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def reload(self) -> list[StreamCursor]:
        """Forget what a failed transaction left in memory; returns where every stream was read to."""
        return self._load(self.connection)

    def write(self, heard: Heard) -> None:
        """Store everything or nothing. When it returns, all of it is on the disk."""
        self._write_all(heard)
        if heard.read_to is not None:
            self.read_to = heard.read_to

    def _write_all(self, heard: Heard) -> None:
        with self.connection.transaction():
            batches, rows = self._rows(heard.batches)
            for day in {row[BATCH_COLUMNS.index("received_day")] for row in batches}:
                self.engine.before_insert(self.connection, "batches", day)
                self.engine.before_insert(self.connection, "records", day)
            if batches:
                self.connection.insert_new("batches", BATCH_COLUMNS, batches)
                self.connection.insert_new("records", RECORD_COLUMNS, rows)
            self._write_cursors(heard.cursors)
            if heard.read_to is not None:
                self._write_read_to(heard.read_to)
            self._write_states(heard.states)
            for reply in heard.replies:
                self._write_reply(reply)
            for refused in heard.refused:
                self._write_refused(refused)
            for conflict in heard.conflicts:
                self._write_conflict(conflict)
            for batch in heard.batches:
                for record in batch.records:
                    if int(record.kind) not in _QUIET:
                        self._follow(batch, record)

    def _write_read_to(self, offset: int) -> None:
        self.connection.execute(
            "INSERT INTO meta VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            {"name": _READ_TO, "value": str(offset)},
        )

    def rebuild(self) -> int:
        """Make the rows anew from the raw batches; returns how many there are.

        What the batches tell twice counts once: the first wins, as it did when they came.
        """
        connection = self.connection
        with connection.transaction():
            connection.execute("DELETE FROM records")
            self._corrections.forget(connection)
            seen: set[tuple[int, int]] = set()
            for batches in self._raw_batches():
                heard = [one for one in map(self._read_raw, batches) if one is not None]
                rows: list[tuple[Any, ...]] = []
                correcting: list[tuple[HeardBatch, JournalRecord]] = []
                for batch_id, batch in heard:
                    for record, row in zip(batch.records, self.record_rows(batch, batch_id), strict=True):
                        if row[:2] not in seen:
                            seen.add(row[:2])
                            rows.append(row)
                            if isinstance(record.body, CORRECTING):
                                correcting.append((batch, record))
                for day in {row[RECORD_COLUMNS.index("received_day")] for row in rows}:
                    self.engine.before_insert(connection, "records", day)
                connection.insert_new("records", RECORD_COLUMNS, rows)
                for batch, record in correcting:
                    self._correct(batch, record)
        return len(seen)

    def stream_id(self, topics: Topics, journal: int, stream: str) -> int | None:
        """The number of a stream in the tables; None when nothing of it was ever stored."""
        return self._streams.get((topics.agency, topics.unit, journal, stream))

    # ------------------------------------------------------------------ in memory

    def _load(self, connection: Connection) -> list[StreamCursor]:
        self._units = {
            Topics(agency, unit): unit_id
            for unit_id, agency, unit in connection.query("SELECT unit_id, agency, unit FROM units")
        }
        of_id = {unit_id: topics for topics, unit_id in self._units.items()}
        self._streams = {}
        cursors = []
        for stream_id, unit_id, journal, stream, ask_from, highest, *lists in connection.query(
            "SELECT stream_id, unit_id, journal, stream, ask_from, highest, holes, boots FROM streams "
            "ORDER BY stream_id"
        ):
            topics = of_id[unit_id]
            self._streams[topics.agency, topics.unit, journal, stream] = stream_id
            holes, boots = (tuple(tuple(one) for one in json.loads(text)) for text in lists)
            cursors.append(
                StreamCursor(topics.agency, topics.unit, journal, stream, ask_from, highest, holes, boots)
            )
        self._corrections.load(connection)
        found = connection.query("SELECT value FROM meta WHERE name = :name", {"name": _READ_TO})
        self.read_to = int(found[0][0]) if found else None
        self._next_batch = connection.query("SELECT coalesce(max(batch_id), 0) + 1 FROM batches")[0][0]
        # The newest journal of a unit comes first: the reader takes the first one for the present one.
        return cursors[::-1]

    def _unit_id(self, topics: Topics) -> int:
        if topics not in self._units:
            unit_id = max(self._units.values(), default=0) + 1
            self.connection.execute(
                "INSERT INTO units VALUES (:unit_id, :agency, :unit)",
                {"unit_id": unit_id, "agency": topics.agency, "unit": topics.unit},
            )
            self._units[topics] = unit_id
        return self._units[topics]

    def _stream_id(self, topics: Topics, journal: int, stream: str) -> int:
        key = (topics.agency, topics.unit, journal, stream)
        if key not in self._streams:
            stream_id = max(self._streams.values(), default=0) + 1
            self.connection.execute(
                "INSERT INTO streams VALUES (:stream_id, :unit_id, :journal, :stream, NULL, 0, '[]', '[]')",
                {
                    "stream_id": stream_id,
                    "unit_id": self._unit_id(topics),
                    "journal": journal,
                    "stream": stream,
                },
            )
            self._streams[key] = stream_id
        return self._streams[key]

    # ------------------------------------------------------------------ rows

    def _rows(self, batches: Sequence[HeardBatch]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        raw: list[tuple[Any, ...]] = []
        rows: list[tuple[Any, ...]] = []
        for batch in batches:
            message, batch_id = batch.message, self._next_batch
            self._next_batch += 1
            day = message.received_ms // DAY_MS
            raw.append((batch_id, message.topic, message.received_ms, day, message.payload))
            rows += self.record_rows(batch, batch_id)
        return raw, rows

    def record_rows(self, batch: HeardBatch, batch_id: int) -> Iterator[tuple[Any, ...]]:
        """The rows of a batch, in the order of RECORD_COLUMNS."""
        first, received_ms = batch.records[0], batch.message.received_ms
        stream_id = self._stream_id(batch.topics, first.journal, first.stream.value)
        unit_id, day = self._unit_id(batch.topics), received_ms // DAY_MS
        for record in batch.records:
            lat_deg, lon_deg = place(record)
            if isinstance(record.body, ClockCorrection):
                self._corrections.learn(unit_id, record)
            utc_ms, utc_source, uncertainty_ms = self._corrections.better(unit_id, record)
            yield (
                stream_id,
                record.seq,
                unit_id,
                int(record.kind),
                record.boot,
                record.boottime_ms,
                utc_ms,
                utc_source,
                uncertainty_ms,
                received_ms if utc_ms is None else utc_ms,
                received_ms,
                day,
                int(record.history or record.replay),
                lat_deg,
                lon_deg,
                record_body(record),
                batch_id,
            )

    def _raw_batches(self) -> Iterator[list[tuple[int, str, int, bytes]]]:
        after = 0
        while rows := self.connection.query(
            "SELECT batch_id, topic, received_ms, payload FROM batches WHERE batch_id > :after "
            f"ORDER BY batch_id LIMIT {_REBUILD_BATCHES}",
            {"after": after},
        ):
            after = rows[-1][0]
            yield [
                (batch_id, topic, received_ms, bytes(payload))
                for batch_id, topic, received_ms, payload in rows
            ]

    def _read_raw(self, raw: tuple[int, str, int, bytes]) -> tuple[int, HeardBatch] | None:
        """A stored batch; None for one that an earlier version took and this one can not read."""
        batch_id, topic, received_ms, payload = raw
        parsed = parse_topic(topic)
        try:
            records = None if parsed is None else read_batch(parsed, payload).records
        except CodecError as error:
            _log.error("raw_batch_unreadable", batch=batch_id, why=error)
            return None
        if parsed is None or records is None:
            _log.error("raw_batch_unreadable", batch=batch_id, why="its topic is none of ours")
            return None
        return batch_id, HeardBatch(parsed.topics, Message(topic, payload, received_ms), records)

    def _write_cursors(self, cursors: Sequence[StreamCursor]) -> None:
        self.connection.execute_many(
            "UPDATE streams SET ask_from = :ask_from, highest = :highest, holes = :holes, boots = :boots "
            "WHERE stream_id = :stream_id",
            [
                {
                    "ask_from": one.ask_from,
                    "highest": one.highest,
                    "holes": json.dumps(one.holes, separators=(",", ":")),
                    "boots": json.dumps(one.boots, separators=(",", ":")),
                    "stream_id": self._stream_id(Topics(one.agency, one.unit), one.journal, one.stream),
                }
                for one in cursors
            ],
        )

    def _write_states(self, states: Sequence[HeardState]) -> None:
        for one in states:
            values = {"unit_id": self._unit_id(one.topics), "name": one.name}
            if one.state is None:
                self.connection.execute(
                    "DELETE FROM states WHERE unit_id = :unit_id AND name = :name", values
                )
                continue
            # What the broker had kept is as old as it was before this service was started.
            known = (
                "received_ms = states.received_ms"
                if one.message.retained
                else "received_ms = excluded.received_ms"
            )
            self.connection.execute(
                "INSERT INTO states VALUES (:unit_id, :name, :received_ms, :payload) "
                f"ON CONFLICT (unit_id, name) DO UPDATE SET {known}, payload = excluded.payload",
                values | {"received_ms": one.message.received_ms, "payload": one.message.payload},
            )

    def _write_reply(self, heard: HeardReply) -> None:
        """Keep it beside the command that it answers; what answers nothing of this unit's is not kept."""
        topics, reply = heard.topics, heard.reply
        command_id = reply.id
        if command_id is None:
            # What could not be read is answered without its id: it was the newest that waits.
            rows = self.connection.query(
                "SELECT awaited.command_id FROM awaited JOIN commands "
                "ON commands.command_id = awaited.command_id WHERE awaited.agency = :agency "
                "AND awaited.unit = :unit AND awaited.name = :name AND commands.sent_ms IS NOT NULL "
                "ORDER BY commands.made_ms DESC LIMIT 1",
                {"agency": topics.agency, "unit": topics.unit, "name": reply.command},
            )
            if not rows:
                return
            command_id = rows[0][0]
        self.keep_reply(topics, replace(reply, id=_storable(command_id)), heard.message.received_ms)

    def keep_reply(self, topics: Topics, reply: Reply, now_ms: int) -> None:
        """Keep what became of a command of this unit, inside of a transaction; it need not be said again."""
        command_id = reply.id or ""
        values: dict[str, Any] = {
            "id": command_id,
            "agency": topics.agency,
            "unit": topics.unit,
            "name": reply.command,
        }
        known = self.connection.query(
            "SELECT count(*) FROM commands WHERE command_id = :id AND agency = :agency AND unit = :unit "
            "AND name = :name",
            values,
        )
        kept = self.connection.query(
            "SELECT coalesce(max(reply_number), 0) FROM replies WHERE command_id = :id", {"id": command_id}
        )[0][0]
        if not known[0][0] or kept >= KEEP_REPLIES:
            return
        self.connection.execute(
            "INSERT INTO replies VALUES (:id, :number, :now, :outcome, :said)",
            {
                "id": command_id,
                "number": kept + 1,
                "now": now_ms,
                "outcome": _storable(reply.outcome),
                "said": json.dumps(json.loads(encode_map(reply, "json").payload)),
            },
        )
        self.connection.execute("DELETE FROM awaited WHERE command_id = :id", {"id": command_id})

    def _write_refused(self, refused: Refused) -> None:
        topics, message = refused.topics, refused.message
        agency, unit = ("", "") if topics is None else (topics.agency, topics.unit)
        connection = self.connection
        known = connection.query("SELECT count(*) FROM refused_counts")[0][0]
        if known >= REFUSED_UNITS and Topics(agency, unit) not in self._units:
            agency = unit = ""
        values: dict[str, Any] = {
            "agency": agency,
            "unit": unit,
            "now": message.received_ms,
            "reason": refused.reason[:300].encode("ascii", "backslashreplace").decode().replace("\0", "\\0"),
        }
        connection.execute(
            "INSERT INTO refused_counts VALUES (:agency, :unit, 1, :now, :reason) "
            "ON CONFLICT (agency, unit) DO UPDATE SET refused = refused_counts.refused + 1, "
            "last_ms = excluded.last_ms, last_reason = excluded.last_reason",
            values,
        )
        number = connection.query("SELECT coalesce(max(refused_id), 0) + 1 FROM refused")[0][0]
        connection.execute(
            "INSERT INTO refused VALUES (:id, :now, :topic, :agency, :unit, :reason, :size, :payload)",
            values
            | {
                "id": number,
                "topic": message.topic[:300].encode("ascii", "backslashreplace").decode(),
                "size": len(message.payload),
                "payload": message.payload[:KEEP_REFUSED_BYTES],
            },
        )
        connection.execute(
            "DELETE FROM refused WHERE agency = :agency AND unit = :unit AND refused_id NOT IN "
            "(SELECT refused_id FROM refused WHERE agency = :agency AND unit = :unit "
            f"ORDER BY refused_id DESC LIMIT {KEEP_REFUSED})",
            values,
        )

    def _write_conflict(self, conflict: Conflict) -> None:
        """Kept whole, told as an alarm: two cards with one identity, or one that was put back from a copy."""
        record, topics = conflict.record, conflict.topics
        number = self.connection.query("SELECT coalesce(max(conflict_id), 0) + 1 FROM conflicts")[0][0]
        self.connection.execute(
            "INSERT INTO conflicts VALUES (:id, :stream, :seq, :now, :boot, :boottime, :kind, :body)",
            {
                "id": number,
                "stream": self._stream_id(topics, record.journal, record.stream.value),
                "seq": record.seq,
                "now": conflict.message.received_ms,
                "boot": record.boot,
                "boottime": record.boottime_ms,
                "kind": int(record.kind),
                "body": record_body(record),
            },
        )
        values = {"agency": topics.agency, "unit": topics.unit}
        known = self.connection.query(
            "SELECT count(*) FROM alarms WHERE kind = 'identity' AND agency = :agency AND unit = :unit "
            "AND closed_ms IS NULL",
            values,
        )
        if not known[0][0]:
            self._raise_alarm(
                topics,
                conflict.message.received_ms,
                kind="identity",
                priority="medium",
                text="Two records under one number: an old copy of its card, or a twin under its name.",
            )

    def _follow(self, batch: HeardBatch, record: JournalRecord) -> None:
        """What a record means beyond itself."""
        if is_status(record):
            self._expect_answer(batch, record)
            self._follow_call(batch, record)
        elif is_emergency(record):
            self._note_emergency(batch, record)
        elif record.kind == Kind.EMERGENCY:
            # Garbled, or of a later version: whoever raised it is helped first.
            self._raise_alarm(
                batch.topics,
                at_ms(record, batch.message.received_ms),
                kind="emergency",
                priority="high",
                text="The unit sent an emergency that can not be read here.",
                record=record,
            )
        elif isinstance(record.body, CallRecord):
            self._follow_call_step(batch, record, record.body)
        elif isinstance(record.body, CORRECTING):
            self._correct(batch, record)
        elif isinstance(record.body, CommandResult):
            self._note_result(batch, record.body)
        self._has_it(batch.topics, record.body)

    def _note_result(self, batch: HeardBatch, body: CommandResult) -> None:
        """A result that came by the journal counts where no answer came: it can not get lost."""
        if body.request is None or not self._is_awaited(batch.topics, body.request):
            return
        request = _storable(body.request)
        reply = Reply(_storable(body.command), body.outcome, request, body.reason, body.text)
        self.keep_reply(batch.topics, reply, batch.message.received_ms)

    def _is_awaited(self, topics: Topics, command_id: str) -> bool:
        rows = self.connection.query(
            "SELECT count(*) FROM awaited WHERE command_id = :id AND agency = :agency AND unit = :unit",
            {"id": _storable(command_id), "agency": topics.agency, "unit": topics.unit},
        )
        return bool(rows[0][0])

    def _has_it(self, topics: Topics, body: Body | Opaque) -> None:
        """A record that names the command it came by says that the unit has that command."""
        request = body.message if isinstance(body, MessageRecord) else getattr(body, "request", None)
        if isinstance(request, str):
            self.connection.execute(
                "DELETE FROM awaited WHERE command_id = :id AND agency = :agency AND unit = :unit",
                {"id": _storable(request), "agency": topics.agency, "unit": topics.unit},
            )

    def _correct(self, batch: HeardBatch, record: JournalRecord) -> None:
        unit_id = self._unit_id(batch.topics)
        self._corrections.apply(self.connection, unit_id, record, batch.message.received_ms)

    def _follow_call_step(self, batch: HeardBatch, record: JournalRecord, body: CallRecord) -> None:
        """The vehicle tells what became of a call: received, shown, acknowledged, ended."""
        column = CALL_STEPS.get(body.step)
        if column is None:
            return
        more = ", ended_as = :step" if column == "ended_ms" else ""
        self.connection.execute(
            f"UPDATE calls SET {column} = :at{more} WHERE agency = :agency AND unit = :unit "
            f"AND incident = :incident AND {column} IS NULL",
            {
                "agency": batch.topics.agency,
                "unit": batch.topics.unit,
                "incident": _storable(body.incident),
                "at": at_ms(record, batch.message.received_ms),
            }
            | ({"step": _storable(body.step)} if more else {}),
        )

    def _expect_answer(self, batch: HeardBatch, record: JournalRecord) -> None:
        body = record.body
        assert isinstance(body, StatusChange)
        self.connection.execute(
            "INSERT INTO answers (stream_id, seq, agency, unit, status, asked_ms) "
            "VALUES (:stream_id, :seq, :agency, :unit, :status, :now) ON CONFLICT DO NOTHING",
            {
                "stream_id": self._stream_id(batch.topics, record.journal, record.stream.value),
                "seq": record.seq,
                "agency": batch.topics.agency,
                "unit": batch.topics.unit,
                "status": _storable(body.status),
                "now": batch.message.received_ms,
            },
        )

    def _follow_call(self, batch: HeardBatch, record: JournalRecord) -> None:
        """A press after the assignment says that the crew has the call; available ends it."""
        body = record.body
        assert isinstance(body, StatusChange)
        column = (
            "ended_ms"
            if body.status in CALL_ENDS
            else "acknowledged_ms"
            if body.status in CALL_TAKEN
            else None
        )
        if column is None:
            return
        more = ", ended_as = 'available'" if column == "ended_ms" else ""
        self.connection.execute(
            f"UPDATE calls SET {column} = :at{more} WHERE agency = :agency AND unit = :unit "
            f"AND {column} IS NULL AND ended_ms IS NULL AND assigned_ms <= :at",
            {
                "agency": batch.topics.agency,
                "unit": batch.topics.unit,
                "at": at_ms(record, batch.message.received_ms),
            },
        )

    def _note_emergency(self, batch: HeardBatch, record: JournalRecord) -> None:
        """In the transaction that stores the press: a service that is killed afterwards still shows it."""
        body = record.body
        assert isinstance(body, Emergency)
        topics, when_ms = batch.topics, at_ms(record, batch.message.received_ms)
        values: dict[str, Any] = {"agency": topics.agency, "unit": topics.unit, "at": when_ms}
        if not body.active:
            self.connection.execute(
                "UPDATE alarms SET cleared_ms = :at WHERE kind = 'emergency' AND agency = :agency "
                "AND unit = :unit AND cleared_ms IS NULL",
                values,
            )
            return
        if body.repeat and self._emergency_stands(batch.topics):
            return
        text = (
            "The crew tests the emergency button." if body.test else "The crew pressed the emergency button."
        )
        self._raise_alarm(
            topics,
            when_ms,
            kind="emergency",
            priority="low" if body.test else "high",
            text=text + (" Silent in the cab: do not call by radio." if body.silent else ""),
            record=record,
        )

    def _raise_alarm(
        self,
        topics: Topics,
        raised_ms: int,
        *,
        kind: str,
        priority: str,
        text: str,
        record: JournalRecord | None = None,
    ) -> None:
        number = self.connection.query("SELECT coalesce(max(alarm_id), 0) + 1 FROM alarms")[0][0]
        self.connection.execute(
            "INSERT INTO alarms (alarm_id, kind, priority, agency, unit, text, raised_ms, journal, seq) "
            "VALUES (:id, :kind, :priority, :agency, :unit, :text, :at, :journal, :seq)",
            {
                "id": number,
                "kind": kind,
                "priority": priority,
                "agency": topics.agency,
                "unit": topics.unit,
                "text": text,
                "at": raised_ms,
                "journal": None if record is None else record.journal,
                "seq": None if record is None else record.seq,
            },
        )

    def _emergency_stands(self, topics: Topics) -> bool:
        rows = self.connection.query(
            "SELECT count(*) FROM alarms WHERE kind = 'emergency' AND agency = :agency AND unit = :unit "
            "AND cleared_ms IS NULL AND closed_ms IS NULL",
            {"agency": topics.agency, "unit": topics.unit},
        )
        return bool(rows[0][0])


def _storable(text: str) -> str:
    """Text of a unit without what a database refuses: NUL and halves of surrogate pairs."""
    return text[:200].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
