"""The JSON form of a batch: every record complete in itself, every field named with its unit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.domain.record import KIND_OF_BODY, Kind, Opaque, Stream
from agent.domain.stamp import UtcSource
from agent.wire.batch import MAX_RECORDS, Batch, BatchHeader, CodecError, JournalRecord
from agent.wire.body import body_from_json, body_to_json, unpack_body
from agent.wire.fields import utc_source_of
from agent.wire.row import Row
from agent.wire.time_text import unix_ms, utc_text
from agent.wire.unpacking import parse

VERSION = 1
_KINDS = {kind.value: kind for kind in Kind}


def encode_json(header: BatchHeader, rows: Sequence[Row]) -> bytes:
    """Encode rows of one boot, ascending in `seq`. Raises OverflowError, TypeError or ValueError."""
    batch = {
        "version": VERSION,
        "history": header.history,
        "replay": header.replay,
        "records": [_row_to_json(header, row) for row in rows],
    }
    return json.dumps(batch, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def decode_json(payload: bytes) -> Batch:
    """Decode a batch. Raises CodecError, KeyError, TypeError or ValueError."""
    given = parse(payload)
    if given["version"] != VERSION:
        raise CodecError(f"batch of version {given['version']!r}; this reader knows {VERSION}")
    history, replay, objects = given["history"], given["replay"], given["records"]
    if not (isinstance(history, bool) and isinstance(replay, bool) and isinstance(objects, list)):
        raise CodecError("history and replay are true or false, records a list")
    if not 0 < len(objects) <= MAX_RECORDS:
        raise CodecError(f"a batch of {len(objects)} records")
    records = [record_from_json(one, history=history, replay=replay) for one in objects]
    first = records[0]
    header = BatchHeader(first.unit, first.stream, first.journal, first.boot, history, replay)
    if any((one.unit, one.stream, one.journal, one.boot) != _common(header) for one in records):
        raise CodecError("the records of a batch are of one unit, stream, journal and boot")
    return Batch(header, records)


def record_to_json(record: JournalRecord) -> dict[str, Any]:
    """A record as the object that stands for it in the JSON form."""
    body = record.body
    known = _KINDS.get(record.kind)
    return {
        "unit": record.unit,
        "stream": record.stream.value,
        "seq": record.seq,
        "journal": record.journal,
        "boot": record.boot,
        "boottime_ms": record.boottime_ms,
        "utc": None if record.utc_ms is None else utc_text(record.utc_ms),
        "utc_source": record.utc_source.name.lower(),
        "utc_uncertainty_ms": record.utc_uncertainty_ms,
        "kind": body.token if isinstance(body, Opaque) else None if known is None else known.token,
        "kind_number": record.kind,
        "data": body_to_json(body),
    }


def record_from_json(given: Any, *, history: bool, replay: bool) -> JournalRecord:
    """The inverse of `record_to_json`. Raises CodecError, KeyError, TypeError or ValueError."""
    token, number = given["kind"], given.get("kind_number", 0)
    body = body_from_json(_count(number), None if token is None else _text(token), given["data"])
    record = JournalRecord(
        unit=_text(given["unit"]),
        stream=Stream(given["stream"]),
        seq=_count(given["seq"]),
        journal=_count(given["journal"]),
        boot=_count(given["boot"]),
        boottime_ms=_count(given["boottime_ms"]),
        utc_ms=None,
        utc_source=UtcSource.NONE,
        utc_uncertainty_ms=None,
        kind=body.number if isinstance(body, Opaque) else KIND_OF_BODY[type(body)],
        body=body,
        history=history,
        replay=replay,
    )
    utc, uncertainty_ms = given.get("utc"), given.get("utc_uncertainty_ms")
    try:
        return replace(
            record,
            utc_ms=None if utc is None else unix_ms(_text(utc)),
            utc_source=utc_source_of(given.get("utc_source", "none")),
            utc_uncertainty_ms=None if uncertainty_ms is None else _count(uncertainty_ms),
        )
    except ValueError:
        return record  # a time that is none costs the record its time, and the batch nothing


def _row_to_json(header: BatchHeader, row: Row) -> dict[str, Any]:
    return record_to_json(
        JournalRecord(
            header.unit,
            header.stream,
            row.seq,
            header.journal,
            row.boot,
            row.boottime_ms,
            row.utc_ms,
            UtcSource(row.utc_source),
            row.utc_uncertainty_ms,
            row.kind,
            unpack_body(row.kind, row.body),
        )
    )


def _common(header: BatchHeader) -> tuple[str, Stream, int, int]:
    return header.unit, header.stream, header.journal, header.boot


def _count(value: Any) -> int:
    if type(value) is not int:
        raise CodecError(f"{value!r:.80} is not a whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CodecError(f"{value!r:.80} is not text")
    return value
