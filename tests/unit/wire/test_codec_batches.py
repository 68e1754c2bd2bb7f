"""Batches survive the way there and back, whatever is in them, and nothing else is taken for a batch."""

from __future__ import annotations

import contextlib
import math
import random
import zlib
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.fix import FixMode
from agent.domain.record import (
    KIND_OF_BODY,
    Alert,
    Body,
    Emergency,
    Gap,
    Health,
    Kind,
    Position,
    StatusChange,
    Stream,
    Telemetry,
)
from agent.domain.stamp import UtcSource
from agent.wire.batch import MAX_BYTES
from agent.wire.body import pack_body, unpack_body
from agent.wire.codec import (
    BatchHeader,
    CodecError,
    Encoding,
    JournalRecord,
    decode_batch,
    encode_batch,
)
from agent.wire.row import Row

HEADER = BatchHeader(unit="A7", stream=Stream.TRAIL, journal=0xDEADBEEF, boot=7)

ints = st.integers(-(2**63), 2**64 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=6)
floats = st.floats(-1e9, 1e9, allow_nan=False)


def none_or(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


positions = st.builds(
    Position,
    lat_deg=st.floats(-90, 90),
    lon_deg=st.floats(-180, 180),
    alt_m=none_or(floats),
    speed_mps=none_or(st.floats(0, 100)),
    course_deg=none_or(st.floats(0, 359.9)),
    mode=st.sampled_from(FixMode),
    satellites=none_or(ints),
    hdop=none_or(st.floats(0, 99)),
)
names = st.lists(texts, max_size=4).map(tuple)
signal_values = st.none() | st.booleans() | ints | floats | texts
bodies: st.SearchStrategy[Body] = st.one_of(
    positions,
    st.builds(Emergency, st.booleans(), texts, none_or(ints), none_or(ints)),
    st.builds(StatusChange, texts, none_or(texts), texts, none_or(ints), none_or(ints)),
    st.builds(Alert, texts, texts),
    st.builds(Telemetry, st.dictionaries(texts, signal_values, max_size=5).map(lambda d: tuple(d.items()))),
    st.builds(Health, names, names, names),
    st.builds(Gap, ints, texts, st.dictionaries(texts, ints, max_size=3).map(lambda d: tuple(d.items()))),
)
times = st.integers(0, 2**44) | st.integers(-(2**60), 2**60)
calendar_ms = st.integers(-62_135_596_800_000, 253_402_300_799_999)


@st.composite
def row_lists(draw: st.DrawFn, utc: st.SearchStrategy[int] = times) -> list[Row]:
    count = draw(st.integers(1, 12))
    seqs = sorted(draw(st.sets(st.integers(0, 2**60), min_size=count, max_size=count)))
    rows = []
    for seq in seqs:
        body = draw(bodies)
        utc_ms = draw(st.none() | utc)
        rows.append(
            Row(
                seq,
                int(KIND_OF_BODY[type(body)]),
                7,
                draw(times),
                utc_ms,
                int(draw(st.sampled_from(UtcSource))),
                draw(st.none() | st.integers(0, 2**40)),
                pack_body(body),
            )
        )
    return rows


def expected(header: BatchHeader, rows: list[Row]) -> list[JournalRecord]:
    return [
        JournalRecord(
            header.unit,
            header.stream,
            row.seq,
            header.journal,
            header.boot,
            row.boottime_ms,
            row.utc_ms,
            UtcSource(row.utc_source),
            row.utc_uncertainty_ms,
            Kind(row.kind),
            unpack_body(row.kind, row.body),
            header.history,
            header.replay,
        )
        for row in rows
    ]


@settings(deadline=None, max_examples=150)
@given(row_lists(), st.booleans(), st.booleans(), st.sampled_from(Stream))
def test_compact_round_trip(rows: list[Row], history: bool, replay: bool, stream: Stream) -> None:
    header = replace(HEADER, history=history, replay=replay, stream=stream)
    batch = decode_batch(encode_batch(header, rows).payload, "A7")
    assert batch.header == header
    assert batch.records == expected(header, rows)


@settings(deadline=None, max_examples=80)
@given(row_lists(utc=calendar_ms), st.booleans(), st.booleans())
def test_json_round_trip(rows: list[Row], history: bool, replay: bool) -> None:
    header = replace(HEADER, history=history, replay=replay)
    batch = decode_batch(encode_batch(header, rows, "json").payload)
    assert batch.header == header
    assert batch.records == expected(header, rows)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_a_batch(payload: bytes) -> None:
    for candidate in (payload, b"\x10" + payload, b"\x1c" + payload, b"{" + payload, zlib.compress(payload)):
        with contextlib.suppress(CodecError):
            assert decode_batch(candidate).records


@settings(deadline=None, max_examples=150)
@given(row_lists(), st.data())
def test_damaged_batches_are_refused_or_a_batch(rows: list[Row], data: st.DataObject) -> None:
    encoding: Encoding = data.draw(st.sampled_from(("msgpack", "json")))
    try:
        payload = bytearray(encode_batch(HEADER, rows, encoding).payload)
    except CodecError:
        return  # JSON has no time beyond the calendar
    if payload[0] == 0x78:
        payload = bytearray(zlib.decompress(payload))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    for candidate in (bytes(payload), bytes(payload[:cut])):
        with contextlib.suppress(CodecError):
            decode_batch(candidate)


@pytest.mark.parametrize(
    "structure",
    [
        [1, [1, 48, 1, 1], [], []],
        [2, [[1, 5, -5], 32, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1], []],
        [2, [[3, 5, 1], 32, 1, 1, 1], [1] * 8, []],
        [70_000, [1, 32, 1, 1, 1], [1] * 8, []],
        [2, [[1, 5, 1], 32, None, None, None], [1] * 8, []],
        [2, [[1, 5, 1], -1, None, 1, None], [1] * 8, []],
        [2, {"a": 1}, [], [[], []]],
        [2, [[1, 5, 1], 32, None, 1, None], [], []],
        [2, [[1, 5, 1], 32, None, 1, None], [[2, 1]] * 8, []],
        [2, [[1, 5, 1], 32, None, 1, None], [[1, "a", "b"]] * 8, []],
        [2, [[0, 1, "2"], 32, None, 1, None], [1] * 8, []],
        7,
        None,
    ],
)
def test_malformed_columns_are_refused(structure: Any) -> None:
    """[MDT-B-02]"""
    with pytest.raises(CodecError):
        decode_batch(b"\x18\0\0\0\1\7" + msgpack.packb(structure))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x78",
        b"\x78\x9c",
        zlib.compress(b""),
        zlib.compress(b"\x10\0\0\0\1\7")[:-2],
        zlib.compress(b"x") + b"more",
        b"\x28\0\0\0\1\7",
        b"{}",
        b'{"version":2}',
        b'{"version":1,"history":false,"replay":false,"records":[]}',
        b"[" * 5000,
        b"{" + b'"a":{' * 5000,
        b"\x18\0\0\0\1\7" + b"\x91" * 5000,
        b"\x1c\0\0\0\1" + b"\xff" * 40,
    ],
)
def test_what_is_no_batch_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError):
        decode_batch(payload)


def test_a_zip_bomb_is_refused_without_inflating_it() -> None:
    """[MDT-L-02]"""
    bomb = zlib.compress(bytes(MAX_BYTES * 4), 9)
    assert len(bomb) < 100_000
    with pytest.raises(CodecError, match="too large"):
        decode_batch(bomb)


def test_batches_of_no_or_impossible_rows_are_refused() -> None:
    row = a_row(1)
    with pytest.raises(CodecError):
        encode_batch(HEADER, [])
    with pytest.raises(CodecError):
        encode_batch(HEADER, [row._replace(body=b"\x90"), row._replace(seq=2)])
    with pytest.raises(CodecError):
        encode_batch(HEADER, [row._replace(body=b"")], "json")
    with pytest.raises(CodecError):
        encode_batch(replace(HEADER, journal=2**32), [row])


def test_the_unit_of_a_json_batch_must_be_that_of_its_topic() -> None:
    payload = encode_batch(HEADER, [a_row(1)], "json").payload
    assert decode_batch(payload, "A7").header.unit == "A7"
    with pytest.raises(CodecError, match="topic"):
        decode_batch(payload, "A8")


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_not_a_number_is_null_in_both_forms(encoding: Encoding) -> None:
    """[MDT-B-01]"""
    row = a_row(3)._replace(kind=int(Kind.TELEMETRY), body=pack_body(Telemetry((("Speed", math.nan),))))
    assert decode_batch(encode_batch(HEADER, [row], encoding).payload).records[0].body == Telemetry(
        (("Speed", None),)
    )
    lost = Position(math.nan, 1.0, math.inf, None, None, FixMode.FIX_2D, None, None)
    with pytest.raises(ValueError, match="NaN"):
        pack_body(lost)
    assert unpack_body(Kind.POSITION, pack_body(replace(lost, lat_deg=2.0))) == replace(
        lost, lat_deg=2.0, alt_m=None
    )


def a_row(seq: int, position: Position | None = None, utc_ms: int | None = None) -> Row:
    place = position or Position(42.3601, -71.0589, 12.3, 8.25, 271.4, FixMode.FIX_3D, 9, 0.9)
    return Row(seq, int(Kind.POSITION), 7, 3_600_000 + seq * 1000, utc_ms, 3, 0, pack_body(place))


def noisy_drive(count: int, seed: int) -> list[Row]:
    """A 1 Hz drive: changing speed, turns, correlated receiver error of metres, arrival jitter of 40 ms."""
    rng = random.Random(seed)
    lat, lon, speed, course, east, north, target = 42.35, -71.06, 0.0, 40.0, 0.0, 0.0, 12.0
    rows = []
    for index in range(count):
        target = rng.choice([0, 5, 9, 13, 16]) if rng.random() < 0.03 else target
        speed += max(-2.5, min(1.5, target - speed))
        course += rng.choice([-90, 90, -30, 30]) if rng.random() < 0.05 and speed > 2 else 0
        lat += speed * math.cos(math.radians(course)) / 111_320
        lon += speed * math.sin(math.radians(course)) / 82_000
        east, north = 0.95 * east + rng.gauss(0, 0.4), 0.95 * north + rng.gauss(0, 0.4)
        place = Position(
            lat + (north + rng.gauss(0, 0.3)) / 111_320,
            lon + (east + rng.gauss(0, 0.3)) / 82_000,
            12 + rng.gauss(0, 1),
            max(0.0, speed + rng.gauss(0, 0.05)),
            None if speed < 0.5 else (course + rng.gauss(0, 0.8)) % 360,
            FixMode.FIX_3D,
            rng.randint(9, 11),
            0.9 + rng.random() * 0.2,
        )
        row = a_row(100_000 + index, place, 1_795_310_000_000 + index * 1000)
        rows.append(row._replace(boottime_ms=3_600_000 + index * 1000 + rng.randint(0, 40)))
    return rows


def test_a_position_takes_at_most_12_bytes_in_a_minute_and_45_alone() -> None:
    rows = noisy_drive(1800, seed=5)
    minutes = [len(encode_batch(HEADER, rows[at : at + 60]).payload) for at in range(0, len(rows), 60)]
    alone = [len(encode_batch(HEADER, [row]).payload) for row in rows]
    assert max(minutes) / 60 <= 12
    assert max(alone) <= 45


@pytest.mark.parametrize("altitude_m", [3e17, -3e17, 9e17, -9e17, 1e16])
def test_a_lone_position_with_a_mad_height_goes_out_all_the_same(altitude_m: float) -> None:
    body = Position(42.35, -71.06, altitude_m, 1.0, 2.0, FixMode.FIX_3D, 9, 0.9)
    row = Row(1, Kind.POSITION.value, HEADER.boot, 1000, None, 0, None, pack_body(body))
    batch = decode_batch(encode_batch(HEADER, [row]).payload, "A7")
    assert batch.records == expected(HEADER, [row])
