"""What the interface, the exports and the statistics ask of the store. Plain rows as dictionaries."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from agent.dispatch.commands import COMMANDS
from agent.dispatch.store.engine import Connection, Engine, StoreError
from agent.domain.record import Kind, token_of
from agent.domain.stamp import UtcSource
from agent.wire.topics import Topics

MOST_ROWS = 50_000
"""Rows of one answer; a caller pages by time beyond them."""
_CONNECTIONS = 4

_NEVER_AMENDED = frozenset({Kind.POSITION, Kind.TELEMETRY, Kind.HEALTH})
Row = dict[str, Any]
T = TypeVar("T")

ALARM_COLUMNS = (
    "alarm_id",
    "kind",
    "priority",
    "agency",
    "unit",
    "text",
    "raised_ms",
    "journal",
    "seq",
    "cleared_ms",
    "acknowledged_ms",
    "acknowledged_by",
    "closed_ms",
    "closed_by",
    "shelved_until_ms",
)
CALL_COLUMNS = (
    "call_id",
    "agency",
    "unit",
    "incident",
    "fields",
    "assigned_ms",
    "received_ms",
    "shown_ms",
    "acknowledged_ms",
    "ended_ms",
    "ended_as",
)
_RECORDS = (
    "SELECT units.agency, units.unit, streams.journal, streams.stream, records.seq, records.kind, "
    "records.boot, records.boottime_ms, records.utc_ms, records.utc_source, "
    "records.utc_uncertainty_ms, records.at_ms, "
    "records.received_ms, records.history, records.body FROM records "
    "JOIN units ON units.unit_id = records.unit_id JOIN streams ON streams.stream_id = records.stream_id "
)


class Reading:
    """A few connections for reading, shared by threads.

    Args:
        engine: the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue()
        self._free = queue.Queue[None](_CONNECTIONS)
        for _ in range(_CONNECTIONS):
            self._free.put_nowait(None)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for one answer. Raises StoreError when the database is away or all are busy."""
        try:
            self._free.get(timeout=10)
        except queue.Empty as error:
            raise StoreError("all connections are busy") from error
        connection: Connection | None = None
        try:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                connection = self._engine.look()
            yield connection
            self._idle.put_nowait(connection)
        except StoreError:
            # It may have died with the database: the next answer opens another.
            if connection is not None:
                connection.close()
            raise
        except BaseException:
            if connection is not None:
                self._idle.put_nowait(connection)
            raise
        finally:
            self._free.put_nowait(None)

    def close(self) -> None:
        """Close what is idle."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def ask(self, query: Callable[[Connection], T]) -> T:
        """The answer of one query."""
        with self.connection() as connection:
            return query(connection)


def records(
    connection: Connection,
    *,
    since_ms: int,
    until_ms: int,
    topics: Topics | None = None,
    kinds: tuple[Kind, ...] | None = None,
    limit: int = MOST_ROWS,
) -> list[Row]:
    """Records between two times (the later one excluded), oldest first."""
    where = "WHERE records.at_ms >= :since AND records.at_ms < :until"
    values: Row = {"since": since_ms, "until": until_ms, "limit": min(limit, MOST_ROWS)}
    if topics is not None:
        where += " AND units.agency = :agency AND units.unit = :unit"
        values |= {"agency": topics.agency, "unit": topics.unit}
    if kinds is not None:
        where += f" AND records.kind IN ({', '.join(str(int(kind)) for kind in kinds)})"
    order = " ORDER BY records.at_ms, records.stream_id, records.seq LIMIT :limit"
    found = [_record(row) for row in connection.query(_RECORDS + where + order, values)]
    return found if kinds is not None and set(kinds) <= _NEVER_AMENDED else _amended(connection, found)


def all_records(
    connection: Connection,
    *,
    since_ms: int,
    until_ms: int,
    kinds: tuple[Kind, ...],
    containing: str | None = None,
) -> Iterator[Row]:
    """Records of some kinds between two times, however many, oldest first; those with a text in the body."""
    among = ", ".join(str(int(kind)) for kind in kinds)
    where = (
        f"WHERE records.kind IN ({among}) AND records.at_ms < :until AND (records.at_ms > :at OR "
        "(records.at_ms = :at AND (records.stream_id > :stream OR "
        "(records.stream_id = :stream AND records.seq > :seq))))"
    )
    values: Row = {"until": until_ms, "at": since_ms - 1, "stream": 1 << 60, "seq": 0, "limit": MOST_ROWS}
    if containing is not None:
        where += " AND records.body LIKE :text"
        values["text"] = f"%{containing}%"
    order = " ORDER BY records.at_ms, records.stream_id, records.seq LIMIT :limit"
    columns = _RECORDS.replace("SELECT ", "SELECT records.stream_id, ", 1)
    while True:
        rows = connection.query(columns + where + order, values)
        found = [_record(row[1:]) for row in rows]
        yield from found if set(kinds) <= _NEVER_AMENDED else _amended(connection, found)
        if len(rows) < MOST_ROWS:
            return
        values |= {"stream": rows[-1][0], "seq": rows[-1][5], "at": found[-1]["at_ms"]}


def last_statuses(connection: Connection, *, before_ms: int, since_ms: int) -> list[Row]:
    """The last press of each unit between two times, of the statuses that were not taken back."""
    rows = connection.query(
        f"{_RECORDS} WHERE records.kind = :status AND records.at_ms < :before AND records.at_ms >= :since "
        "AND NOT EXISTS (SELECT 1 FROM records AS later WHERE later.unit_id = records.unit_id "
        "AND later.kind = :status AND later.at_ms > records.at_ms AND later.at_ms < :before) "
        "ORDER BY records.at_ms",
        {"status": int(Kind.STATUS), "before": before_ms, "since": since_ms},
    )
    return [one for one in _amended(connection, [_record(row) for row in rows]) if not one.get("withdrawn")]


def rare_records(
    connection: Connection, *, since_ms: int, until_ms: int, limit: int = MOST_ROWS
) -> list[Row]:
    """Everything between two times that is no position, telemetry or health."""
    where = "WHERE records.at_ms >= :since AND records.at_ms < :until AND records.kind NOT IN (4, 5, 6)"
    order = " ORDER BY records.at_ms, records.stream_id, records.seq LIMIT :limit"
    values = {"since": since_ms, "until": until_ms, "limit": min(limit, MOST_ROWS)}
    return _amended(connection, [_record(row) for row in connection.query(_RECORDS + where + order, values)])


def alarms(connection: Connection, *, open_only: bool, limit: int = 1000) -> list[Row]:
    """Alarms, newest first."""
    where = " WHERE closed_ms IS NULL" if open_only else ""
    sql = f"SELECT {', '.join(ALARM_COLUMNS)} FROM alarms{where} ORDER BY alarm_id DESC LIMIT :limit"
    return [dict(zip(ALARM_COLUMNS, row, strict=True)) for row in connection.query(sql, {"limit": limit})]


def calls(connection: Connection, *, open_only: bool, since_ms: int = 0, limit: int = 5000) -> list[Row]:
    """Calls as they were assigned here, newest first."""
    where = " WHERE assigned_ms >= :since" + (" AND ended_ms IS NULL" if open_only else "")
    sql = f"SELECT {', '.join(CALL_COLUMNS)} FROM calls{where} ORDER BY call_id DESC LIMIT :limit"
    rows = connection.query(sql, {"since": since_ms, "limit": limit})
    found = [dict(zip(CALL_COLUMNS, row, strict=True)) for row in rows]
    for one in found:
        one["fields"] = json.loads(one["fields"])
    return found


def actions(connection: Connection, *, limit: int = 1000) -> list[Row]:
    """Who did what, newest first."""
    columns = ("action_id", "at_ms", "who", "role", "action", "agency", "unit", "detail")
    sql = f"SELECT {', '.join(columns)} FROM actions ORDER BY action_id DESC LIMIT :limit"
    found = [dict(zip(columns, row, strict=True)) for row in connection.query(sql, {"limit": limit})]
    for one in found:
        one["detail"] = json.loads(one["detail"])
    return found


COMMAND_COLUMNS = ("id", "agency", "unit", "name", "fields", "made_ms", "made_by", "sent_ms", "until_ms")
_COMMANDS = (
    "SELECT commands.command_id, commands.agency, commands.unit, commands.name, fields, made_ms, made_by, "
    "sent_ms, until_ms FROM commands LEFT JOIN awaited ON awaited.command_id = commands.command_id "
)


def command(connection: Connection, command_id: str) -> Row | None:
    """One command with every answer to it; None when there is no such command."""
    rows = connection.query(f"{_COMMANDS} WHERE commands.command_id = :id", {"id": command_id})
    if not rows:
        return None
    found = _command(rows[0])
    said = connection.query(
        "SELECT received_ms, said FROM replies WHERE command_id = :id ORDER BY reply_number",
        {"id": command_id},
    )
    found["replies"] = [{"received_ms": received_ms, **json.loads(text)} for received_ms, text in said]
    outcomes = [one["outcome"] for one in found["replies"]]
    found["outcome"] = outcomes[-1] if outcomes else None
    still = frozenset({"accepted"}) if COMMANDS[found["name"]].lasting else frozenset()
    found["ended"] = bool(set(outcomes) - still) or (not outcomes and found["until_ms"] is None)
    return found


def commands(
    connection: Connection, *, topics: Topics | None, names: Iterable[str], limit: int = 200
) -> list[Row]:
    """Commands of some names with their last outcome, newest first."""
    among = ", ".join(f"'{name}'" for name in names)  # of our own table
    where, values = f"WHERE commands.name IN ({among})", Row(limit=limit)
    if topics is not None:
        where += " AND commands.agency = :agency AND commands.unit = :unit"
        values |= {"agency": topics.agency, "unit": topics.unit}
    rows = connection.query(
        f"{_COMMANDS} {where} ORDER BY made_ms DESC, commands.command_id LIMIT :limit", values
    )
    found = [_command(row) for row in rows]
    for one in found:
        last = connection.query(
            "SELECT outcome FROM replies WHERE command_id = :id ORDER BY reply_number DESC LIMIT 1",
            {"id": one["id"]},
        )
        one["outcome"] = last[0][0] if last else None
    return found


def _command(row: tuple[Any, ...]) -> Row:
    found = dict(zip(COMMAND_COLUMNS, row, strict=True))
    return found | {"fields": json.loads(found["fields"])}


def waiting_answers(connection: Connection, *, limit: int = 1000) -> list[Row]:
    """Statuses on which nobody has decided yet, oldest first."""
    rows = connection.query(
        "SELECT answers.agency, answers.unit, streams.journal, streams.stream, answers.seq, answers.status, "
        "answers.asked_ms FROM answers JOIN streams ON streams.stream_id = answers.stream_id "
        "WHERE answered_ms IS NULL ORDER BY asked_ms, answers.stream_id, answers.seq LIMIT :limit",
        {"limit": limit},
    )
    names = ("agency", "unit", "journal", "stream", "seq", "status", "asked_ms")
    return [dict(zip(names, row, strict=True)) for row in rows]


def sizes(connection: Connection) -> Row:
    """How much there is, for `check` and the page of the service's own health."""
    counted = {}
    for table in ("units", "streams", "batches", "records", "refused", "alarms", "actions"):
        counted[table] = connection.query(f"SELECT count(*) FROM {table}")[0][0]
    refused = connection.query(
        "SELECT agency, unit, refused, last_ms, last_reason FROM refused_counts "
        "ORDER BY refused DESC LIMIT 100"
    )
    names = ("agency", "unit", "refused", "last_ms", "last_reason")
    counted["refused_by_unit"] = [dict(zip(names, row, strict=True)) for row in refused]
    holes = connection.query("SELECT holes FROM streams WHERE holes <> '[]'")
    counted["missing"] = sum(last - first + 1 for (text,) in holes for first, last in json.loads(text))
    return counted


def _amended(connection: Connection, found: list[Row]) -> list[Row]:
    """Beside each record what was said of it later: `withdrawn`, and `amendments` with the original."""
    by_key = {
        (one["agency"], one["unit"], one["journal"], one["seq"]): one
        for one in found
        if one["stream"] == "events"
    }
    if not by_key:
        return found
    seqs = [key[3] for key in by_key]
    rows = connection.query(
        "SELECT agency, unit, journal, of_seq, field, original, value, made_by, why, at_ms FROM amendments "
        "JOIN units ON units.unit_id = amendments.unit_id WHERE of_seq >= :low AND of_seq <= :high "
        "ORDER BY amendment_id",
        {"low": min(seqs), "high": max(seqs)},
    )
    for agency, unit, journal, of_seq, field, original, value, by, why, at_ms in rows:
        one = by_key.get((agency, unit, journal, of_seq))
        if one is None:
            continue
        if field == "withdrawn":
            one["withdrawn"] = True
        else:
            said = {
                "field": field,
                "original": original,
                "value": value,
                "by": by,
                "why": why,
                "at_ms": at_ms,
            }
            one.setdefault("amendments", []).append(said)
    return found


def _record(row: tuple[Any, ...]) -> Row:
    agency, unit, journal, stream, seq, kind, boot, boottime_ms, utc_ms, source, uncertainty_ms, *rest = row
    when_ms, received_ms, history, body = rest
    return {
        "agency": agency,
        "unit": unit,
        "journal": journal,
        "stream": stream,
        "seq": seq,
        "kind": token_of(kind),
        "boot": boot,
        "boottime_ms": boottime_ms,
        "utc_ms": utc_ms,
        "utc_source": UtcSource(source).name.lower(),
        "utc_uncertainty_ms": uncertainty_ms,
        "at_ms": when_ms,
        "received_ms": received_ms,
        "history": bool(history),
        "data": json.loads(body),
    }
