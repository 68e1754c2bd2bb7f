"""Everything that goes over the air, as bytes and back; docs/wire-format.md is for other languages.

Two encodings: the compact one (called "msgpack" in the configuration) and JSON with every field named. The
first byte of a payload tells which one it is, so that a reader needs no MQTT 5 content type.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from agent.domain.record import Kind
from agent.domain.state import State
from agent.wire.batch import MAX_RECORDS, MAX_SEQ, Batch, BatchHeader, CodecError, JournalRecord
from agent.wire.batch_json import decode_json, encode_json
from agent.wire.compact import decode_compact, encode_compact
from agent.wire.fields import utc_source
from agent.wire.row import Row
from agent.wire.state_codec import pack_state, state_from_json, state_to_json, unpack_state

__all__ = [
    "CONTENT_TYPE_JOURNAL",
    "CONTENT_TYPE_JSON",
    "CONTENT_TYPE_MSGPACK",
    "Batch",
    "BatchHeader",
    "CodecError",
    "Encoded",
    "Encoding",
    "JournalRecord",
    "decode_batch",
    "decode_state",
    "encode_batch",
    "encode_state",
]

Encoding = Literal["msgpack", "json"]

CONTENT_TYPE_JOURNAL = "application/vnd.ems-journal"
"""The compact form of a batch: a prefix, then msgpack, deflated when that is smaller."""
CONTENT_TYPE_MSGPACK = "application/msgpack"
CONTENT_TYPE_JSON = "application/json"

_BRACE = b"{"
_KINDS: dict[int, Kind] = {kind.value: kind for kind in Kind}


class Encoded(NamedTuple):
    """A payload with the MQTT 5 content type that names its form."""

    payload: bytes
    content_type: str


def encode_batch(header: BatchHeader, rows: Sequence[Row], encoding: Encoding = "msgpack") -> Encoded:
    """Encode rows of one stream and one boot, strictly ascending in `seq`, holes allowed.

    Raises:
        CodecError: no rows, more than MAX_RECORDS, or a row that the outbox can not have made.
    """
    if not 0 < len(rows) <= MAX_RECORDS:
        raise CodecError(f"a batch has 1 to {MAX_RECORDS} records, not {len(rows)}")
    try:
        if encoding == "json":
            return Encoded(encode_json(header, rows), CONTENT_TYPE_JSON)
        return Encoded(encode_compact(header, rows), CONTENT_TYPE_JOURNAL)
    except CodecError:
        raise
    except (OverflowError, TypeError, ValueError) as error:
        raise CodecError(f"rows {rows[0].seq} to {rows[-1].seq} can not be encoded: {error}") from error


def decode_batch(payload: bytes, unit: str = "") -> Batch:
    """Decode a payload of a journal topic.

    Args:
        payload: as received.
        unit: the unit of the topic it came on; the compact form does not repeat it, JSON must agree with it.

    Raises:
        CodecError: the payload is not a batch.
    """
    try:
        batch = decode_json(payload) if payload[:1] == _BRACE else _decode_compact(payload, unit)
    except CodecError:
        raise
    except (LookupError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise CodecError(f"not a batch: {error}") from error
    if unit not in ("", batch.header.unit):
        raise CodecError(f"batch of unit {batch.header.unit!r} on the topic of {unit!r}")
    if any(one.seq >= next_one.seq for one, next_one in pairwise(batch.records)) or batch.records[0].seq < 0:
        raise CodecError("sequence numbers do not ascend")
    if batch.records[-1].seq >= MAX_SEQ:
        raise CodecError("a sequence number beyond all bounds")
    return batch


def encode_state(state: State, encoding: Encoding = "msgpack") -> Encoded:
    """Encode a retained state. Raises CodecError when a value is out of all bounds."""
    try:
        if encoding == "json":
            return Encoded(state_to_json(state), CONTENT_TYPE_JSON)
        return Encoded(pack_state(state), CONTENT_TYPE_MSGPACK)
    except (OverflowError, TypeError, ValueError) as error:
        raise CodecError(f"state {state.name!r} can not be encoded: {error}") from error


def decode_state(name: str, payload: bytes) -> State:
    """Decode the payload of the state topic `name`. Raises CodecError."""
    try:
        return state_from_json(name, payload) if payload[:1] == _BRACE else unpack_state(name, payload)
    except CodecError:
        raise
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise CodecError(f"not a {name} state: {error}") from error


def _decode_compact(payload: bytes, unit: str) -> Batch:
    header, rows, bodies = decode_compact(payload, unit)
    records = [
        JournalRecord(
            header.unit,
            header.stream,
            row.seq,
            header.journal,
            header.boot,
            row.boottime_ms,
            row.utc_ms,
            utc_source(row.utc_source),
            row.utc_uncertainty_ms,
            _KINDS.get(row.kind, row.kind),
            body,
            header.history,
            header.replay,
        )
        for row, body in zip(rows, bodies, strict=True)
    ]
    return Batch(header, records)
