"""A reader of today and the units of tomorrow: what it does not know costs it nothing, in either form."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from agent.domain.fix import FixMode
from agent.domain.record import Alert, Kind, Opaque, Position, StatusChange, Stream, TripRecord
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import LocationState
from agent.reader.journal_reader import JournalReader
from agent.wire.batch import Batch, JournalRecord
from agent.wire.body import pack_body
from agent.wire.codec import BatchHeader, Encoding, decode_batch, decode_state, encode_batch
from agent.wire.fields import layout
from agent.wire.row import Row
from agent.wire.topics import Topics
from agent.wire.uvarint import uvarint

UTC_MS = 1_795_310_000_000
HEADER = BatchHeader("A7", Stream.EVENTS, 9, 3)
PREFIX = b"\x10\0\0\0\x09\x03"
TRAIL_PREFIX = b"\x18\0\0\0\x09\x03"
HERE = Position(42.36, -71.05, 12.3, 8.25, 271.4, FixMode.FIX_3D, 9, 0.9)
NEW_KIND = 99
PRESS = StatusChange("on_scene", "en_route", "on_scene", 7, 1)
STAMP = [UTC_MS, 1000 - UTC_MS, 500]


def padded(row: list[Any], of: type[Any]) -> list[Any]:
    """A body with all the fields of today, so that the next one is of the future."""
    return [*row, *[None] * (len(layout(of).rows) - len(row))]


def columns(kinds: list[int], positions: list[Any], others: list[Any], source: int = 3) -> bytes:
    tags = [0, *(kind * 8 + source for kind in kinds)]
    stamps = [[1, 4, *[1] * (len(kinds) - 1)], tags, *STAMP]
    return msgpack.packb([len(kinds), stamps, positions, others])  # type: ignore[no-any-return]


def in_json(records: list[dict[str, Any]]) -> bytes:
    common = {"unit": "A7", "stream": "events", "journal": 9, "boot": 3, "boottime_ms": 1000}
    whole = [common | {"seq": seq, "utc": None} | record for seq, record in enumerate(records, 4)]
    batch = {"version": 1, "history": False, "replay": False, "signed": "tomorrow", "records": whole}
    return json.dumps(batch).encode()


def press_in_json(**more: Any) -> dict[str, Any]:
    data = {
        "status": "on_scene",
        "previous": "en_route",
        "input": "on_scene",
        "press_seq": 7,
        "press_session": 1,
    }
    return {"kind": "status", "kind_number": 2, "data": data | more}


def compact_future() -> bytes:
    new_body = ["something", {"quite": [1, 2, {"new": None}]}, 5]
    press = [*padded(msgpack.unpackb(pack_body(PRESS)), StatusChange), "later", {"and": "more"}]
    return PREFIX + columns(
        [NEW_KIND, Kind.STATUS, NEW_KIND, Kind.ALERT], [], [new_body, press, [], ["a", "b"]]
    )


def json_future() -> bytes:
    new = {"kind": "weather", "kind_number": NEW_KIND, "data": {"rain": {"mm": 3}}}
    alert = {"kind": "alert", "kind_number": 3, "data": {"code": "a", "text": "b"}, "signature": "x"}
    return in_json([new, press_in_json(later="later"), new, alert])


@pytest.mark.parametrize("payload", [compact_future(), json_future()], ids=["msgpack", "json"])
def test_records_of_unknown_kinds_are_handed_on_and_cost_no_other(payload: bytes) -> None:
    """[MDT-V-01] [MDT-V-02]"""
    reader = JournalReader()
    records = reader.feed(Topics("a", "A7").journal(Stream.EVENTS), payload)
    assert [record.seq for record in records] == [4, 5, 6, 7]
    assert [record.kind for record in records] == [NEW_KIND, Kind.STATUS, NEW_KIND, Kind.ALERT]
    assert records[1].body == PRESS
    assert records[3].body == Alert("a", "b")
    opaque = records[0].body
    assert isinstance(opaque, Opaque)
    assert (opaque.number, opaque.fault) == (NEW_KIND, "")
    if payload[:1] == b"{":
        assert (opaque.token, json.loads(opaque.raw)) == ("weather", {"rain": {"mm": 3}})
    else:
        assert msgpack.unpackb(opaque.raw) == ["something", {"quite": [1, 2, {"new": None}]}, 5]
    counts = reader.counts
    assert (counts.refused, counts.opaque, counts.delivered) == (0, 2, 4)
    assert reader.receipts(Topics("a", "A7"))[0].through_seq == 7


def test_position_columns_of_the_future_are_ignored_and_missing_ones_are_null() -> None:
    """[MDT-V-02] [MDT-V-03] [MDT-C-02]"""
    row = msgpack.unpackb(pack_body(HERE))
    full = [*padded(row, Position), [0, "rainy", [1, 2]], 7]
    for cut, expected in (
        (full, HERE),
        (row[:6], Position(42.36, -71.05, 12.3, 8.25, 271.4, FixMode.FIX_3D, None, None)),
    ):
        batch = decode_batch(TRAIL_PREFIX + columns([4, 4], cut, []))
        assert [record.body for record in batch.records] == [expected, expected]


def test_a_lone_position_of_the_future_is_read() -> None:
    numbers = [*padded(msgpack.unpackb(pack_body(HERE)), Position), 5, -6]
    tail = b"".join(uvarint(0 if n is None else 1 + (2 * n if n >= 0 else -2 * n - 1)) for n in numbers)
    payload = b"\x1c" + TRAIL_PREFIX[1:] + b"\x05\x23" + uvarint(1000) + uvarint(UTC_MS + 1) + b"\x01" + tail
    assert decode_batch(payload).records[0].body == HERE
    short = payload[: -len(tail)] + b"".join(
        uvarint(1 + (2 * n if n >= 0 else -2 * n - 1)) for n in msgpack.unpackb(pack_body(HERE))[:6]
    )
    body = decode_batch(short).records[0].body
    assert isinstance(body, Position)
    assert (body.mode, body.satellites, body.hdop) == (FixMode.FIX_3D, None, None)


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_missing_trailing_fields_are_null(encoding: Encoding) -> None:
    """[MDT-V-03]"""
    payload = (
        PREFIX + columns([Kind.STATUS], [], [["on_scene", None, "x"]])
        if encoding == "msgpack"
        else in_json([{"kind": "status", "data": {"status": "on_scene", "input": "x"}}])
    )
    assert decode_batch(payload).records[0].body == StatusChange("on_scene", None, "x", None)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.HEALTH, [1]),
        (Kind.ALERT, ["code", 7]),
        (Kind.TELEMETRY, [["no", "map"]]),
        (Kind.STATUS, []),
        (Kind.GAP, ["x", 1]),
        (Kind.STATUS, "no list"),
        (NEW_KIND, 5),
    ],
)
def test_a_body_that_is_none_costs_its_neighbours_nothing(kind: int, body: Any) -> None:
    """[MDT-V-04]"""
    batch = decode_batch(PREFIX + columns([Kind.ALERT, kind, Kind.ALERT], [], [["a", "b"], body, ["c", "d"]]))
    assert [one.body for one in batch.records[::2]] == [Alert("a", "b"), Alert("c", "d")]
    bad = batch.records[1].body
    assert isinstance(bad, Opaque)
    assert bad.number == kind
    assert bad.fault
    assert msgpack.unpackb(bad.raw) == body


@pytest.mark.parametrize("data", [{}, {"status": 5}, {"status": "on_scene", "input": None}])
def test_a_json_body_that_is_none_costs_its_neighbours_nothing(data: dict[str, Any]) -> None:
    batch = decode_batch(in_json([press_in_json(), {"kind": "status", "data": data}, press_in_json()]))
    assert [one.body for one in batch.records[::2]] == [PRESS, PRESS]
    bad = batch.records[1].body
    assert isinstance(bad, Opaque)
    assert (bad.number, json.loads(bad.raw)) == (Kind.STATUS, data)


def test_positions_that_are_none_cost_their_neighbours_nothing() -> None:
    good = msgpack.unpackb(pack_body(HERE))
    nowhere, odd = [None, None, *good[2:]], [*good[:5], 9, *good[6:]]
    rows = list(zip(good, nowhere, odd, good, strict=True))
    batch = decode_batch(TRAIL_PREFIX + columns([4] * 4, [[0, *column] for column in rows], []))
    assert [isinstance(record.body, Position) for record in batch.records] == [True, False, False, True]
    assert all(record.body.fault for record in batch.records if isinstance(record.body, Opaque))


def test_a_time_of_an_unknown_source_counts_as_the_weakest() -> None:
    """[MDT-V-05]"""
    batch = decode_batch(PREFIX + columns([Kind.ALERT], [], [["a", "b"]], source=6))
    assert (batch.records[0].utc_ms, batch.records[0].utc_source) == (UTC_MS, UtcSource.LAST_KNOWN)
    record = press_in_json() | {"utc": "2026-11-22T01:13:09.250+00:00", "utc_source": "pulsar"}
    batch = decode_batch(in_json([record, press_in_json() | {"utc": "yesterday"}]))
    assert [one.utc_source for one in batch.records] == [UtcSource.LAST_KNOWN, UtcSource.NONE]
    state = msgpack.packb([1, 5, [UTC_MS, 7, None, "more"], None, 1])
    assert decode_state("location", state) == LocationState(
        5, Utc(UTC_MS, UtcSource.LAST_KNOWN, None), None, FixMode.NONE
    )


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_rows_of_another_version_of_the_agent_are_sent_as_they_are(encoding: Encoding) -> None:
    """[MDT-V-06]"""
    stamp = (3, 1000, UTC_MS, 3, 500)
    raw = msgpack.packb(["something", {"new": [1]}])
    longer = msgpack.packb([*padded(msgpack.unpackb(pack_body(PRESS)), StatusChange), "later"])
    rows = [
        Row(4, NEW_KIND, *stamp, raw),
        Row(5, int(Kind.STATUS), *stamp, longer),
        Row(6, int(Kind.TRIP), *stamp, pack_body(TripRecord(None, 60, 900))),
    ]
    for some in (rows, rows[:1]):
        batch = decode_batch(encode_batch(HEADER, some, encoding).payload, "A7")
        assert batch.records[0] == JournalRecord(
            "A7",
            Stream.EVENTS,
            4,
            9,
            3,
            1000,
            UTC_MS,
            UtcSource.GNSS,
            500,
            NEW_KIND,
            Opaque(NEW_KIND, None, raw),
        )
    whole = decode_batch(encode_batch(HEADER, rows, encoding).payload, "A7")
    assert whole.records[1].body == PRESS
    assert whole.records[2].body == TripRecord(None, 60, 900)
    if encoding == "msgpack":
        assert b"later" in encode_batch(HEADER, rows, encoding).payload
    assert isinstance(whole, Batch)
