"""Messages are cut so that the broker takes them, and what went bad in the store takes nothing with it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest

from agent import config
from agent.domain.fix import FixMode
from agent.domain.record import KIND_OF_BODY, Body, Gap, Kind, Position, Stream, Telemetry
from agent.domain.stamp import UtcSource
from agent.outbox.body import pack_body
from agent.outbox.row import Row
from agent.uplink.batching import (
    GROW_AFTER_BATCHES,
    LONE_LOSSES,
    WITHHELD_INTERVALS,
    Batcher,
    Parcel,
)
from agent.uplink.codec import JournalRecord, decode_batch
from agent.uplink.topics import Topics

TOPICS = Topics("bems", "A1")
HERE = Position(42.36, -71.06, 5.0, 10.0, 90.0, FixMode.FIX_3D, 9, 0.9)
UTC_MS = 1_790_000_000_000
Form = Literal["msgpack", "json"]


class Identity:
    """The store that the rows are from."""

    journal = 7
    boot = 3

    def last_seq(self, stream: Stream) -> int:  # one stream is enough
        return 1000


def row(seq: int, body: Body) -> Row:
    return Row(
        seq, KIND_OF_BODY[type(body)].value, 3, seq * 1000, UTC_MS, UtcSource.GNSS.value, 5, pack_body(body)
    )


def trail(count: int) -> list[Row]:
    """Positions and telemetry in turn, from sequence number 1."""
    return [row(seq, HERE if seq % 2 else Telemetry((("Speed", float(seq)),))) for seq in range(1, count + 1)]


def batcher(form: Form = "msgpack") -> Batcher:
    settings = config.Uplink(
        brokers=(config.Broker(host="b", port=1883, allow_plaintext=True),), encoding=form
    )
    one = Batcher(settings, TOPICS, Identity(), Stream.TRAIL, lambda given: given)
    one.open("b:1883", None)
    return one


def told(batcher: Batcher, rows: Sequence[Row]) -> dict[int, JournalRecord]:
    """What a reader gets of these rows, by sequence number; sent as a lane does it."""
    records = {}
    while rows:
        parcel = batcher.make(rows, history=True, replay=False)
        assert parcel is not None
        assert parcel.last_seq >= rows[parcel.count - 1].seq
        for record in decode_batch(parcel.message.payload, "A1").records:
            records[record.seq] = record
        rows = rows[parcel.count :]
    return records


@pytest.mark.parametrize("form", ["msgpack", "json"])
@pytest.mark.parametrize("victim", [249, 250], ids=["telemetry", "position"])
def test_a_flipped_bit_in_one_body_costs_that_record_only(form: Form, victim: int) -> None:
    good = trail(500)
    for bit in range(len(good[victim].body) * 8):
        body = bytearray(good[victim].body)
        body[bit // 8] ^= 1 << bit % 8
        rows = good[victim - 8 : victim + 8]
        rows[8] = rows[8]._replace(body=bytes(body))
        records = told(batcher(form), rows)
        assert sorted(records) == [one.seq for one in rows]
        gaps = [record.body for record in records.values() if isinstance(record.body, Gap)]
        assert gaps in ([], [Gap(victim + 1, "damaged", ((Kind(good[victim].kind).token, 1),))])


def test_a_whole_batch_with_one_bad_body_is_delivered_but_for_it() -> None:
    rows = trail(500)
    rows[249] = rows[249]._replace(body=rows[249].body[:-1])
    records = told(batcher(), rows)
    assert sorted(records) == list(range(1, 501))
    assert [seq for seq, record in records.items() if record.kind is Kind.GAP] == [250]


@pytest.mark.parametrize("form", ["msgpack", "json"])
@pytest.mark.parametrize(
    "bad",
    [
        {"utc_ms": 1 << 62},
        {"utc_ms": -(1 << 63)},
        {"boottime_ms": (1 << 63) - 1, "utc_ms": -(1 << 63)},
        {"utc_source": 9},
        {"kind": 12},
        {"boot": -4},
        {"boot": 1 << 62},
    ],
    ids=str,
)
def test_a_stamp_that_went_bad_stops_nothing(form: Form, bad: dict[str, Any]) -> None:
    rows = trail(9)
    rows[4] = rows[4]._replace(**bad)
    records = told(batcher(form), rows)
    assert sorted(records) == list(range(1, 10))
    assert {seq for seq, record in records.items() if record.kind is Kind.GAP} <= {5}


@pytest.mark.parametrize("form", ["msgpack", "json"])
@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", pack_body(Gap(2, "evicted", ())), pack_body(Gap(1 << 40, "evicted", ()))],
    ids=["empty", "no msgpack", "ends before it begins", "reaches over what follows"],
)
def test_a_gap_that_went_bad_covers_what_it_must_and_no_more(form: Form, body: bytes) -> None:
    rows = [*trail(3), row(4, Gap(9, "evicted", (("position", 6),))), row(10, HERE), row(11, HERE)]
    assert told(batcher(form), rows)[4].body == Gap(9, "evicted", (("position", 6),))
    rows[3] = rows[3]._replace(body=body)
    records = told(batcher(form), rows)
    assert records[4].body == Gap(9, "damaged", ())
    assert sorted(records) == [1, 2, 3, 4, 10, 11]
    last = told(batcher(form), [rows[3]])[4].body
    assert last in (Gap(4, "damaged", ()), Gap(2, "damaged", ()))


@pytest.mark.parametrize("limit", [1500, 700])
def test_a_broker_that_hangs_up_on_what_is_too_large_for_it_gets_smaller_batches(limit: int) -> None:
    noise, rows, one, connections, batches = random.Random(1), [], batcher(), 0, 0
    for seq in range(1, 5001):
        place = replace(HERE, lat_deg=42 + noise.random() / 1e3, lon_deg=-71 + noise.random() / 1e3)
        rows.append(row(seq, place))
    while rows:
        one.open("b:1883", None)
        connections += 1
        while rows:
            parcel = one.make(rows, history=True, replay=False)
            assert parcel is not None
            size_bytes = parcel.message.packet_bytes()
            if size_bytes > limit:
                one.lost(parcel)
                break
            one.landed(parcel)
            rows = rows[parcel.count :]
            batches += 1
    assert connections < 8
    assert batches < 5000 * 14 / (limit / 2)


def test_what_was_learnt_of_a_broker_passes() -> None:
    rows, one = trail(1000), batcher()
    first = one.make(rows, history=True, replay=False)
    assert first is not None
    one.lost(first)
    one.open("b:1883", None)
    less = one.make(rows, history=True, replay=False)
    assert less is not None
    assert less.message.packet_bytes() <= max(512, first.message.packet_bytes() // 2)
    for _ in range(2000):
        one.landed(less)
    one.open("b:1883", None)
    again = one.make(rows, history=True, replay=False)
    assert again is not None
    assert again.count == first.count


def test_a_small_packet_is_never_the_reason_why_a_connection_ended() -> None:
    rows, one = trail(10), batcher()
    for _ in range(50):
        parcel = one.make(rows, history=False, replay=False)
        assert parcel is not None
        assert parcel.count == 10
        one.lost(parcel)
        one.open("b:1883", None)


def large(seq: int, size_bytes: int = 2000) -> Row:
    return row(seq, Telemetry((("X", random.Random(seq).randbytes(size_bytes // 2).hex()),)))


def first_of(one: Batcher, rows: Sequence[Row]) -> Parcel:
    parcel = one.make(rows, history=False, replay=False)
    assert parcel is not None
    return parcel


def test_a_record_under_which_the_broker_hangs_up_is_withheld_and_offered_to_another() -> None:
    one = batcher()
    for times in range(LONE_LOSSES):
        parcel = first_of(one, [large(1)])
        assert parcel.withheld == (), times
        one.lost(parcel)
        one.open("b:1883", None)
    withheld = first_of(one, [large(1)])
    assert withheld.withheld == (1,)
    assert one.withheld == 0, "not before it landed"
    one.landed(withheld)
    assert one.withheld == 1
    assert first_of(one, [large(2, 600)]).withheld == (), "what is smaller goes"

    one.open("other:1883", None)
    whole = first_of(one, [large(1)])
    assert whole.withheld == ()
    assert one.withheld == 1
    one.landed(whole)
    assert one.withheld == 0


def test_a_record_that_landed_after_all_is_not_suspected() -> None:
    one = batcher()
    for _ in range(10):
        for _ in range(LONE_LOSSES - 1):
            one.lost(first_of(one, [large(1)]))
            one.open("b:1883", None)
        parcel = first_of(one, [large(1)])
        assert parcel.withheld == ()
        one.landed(parcel)
        one.open("b:1883", None)


def test_a_record_that_was_withheld_is_tried_again_when_much_has_landed() -> None:
    one = batcher()
    for _ in range(LONE_LOSSES):
        one.lost(first_of(one, [large(1)]))
        one.open("b:1883", None)
    assert first_of(one, [large(1)]).withheld == (1,)
    landed = 0
    while first_of(one, [large(1)]).withheld:
        one.landed(first_of(one, trail(3)))
        landed += 1
    assert landed > GROW_AFTER_BATCHES


def test_what_is_withheld_is_forgotten_with_its_store_and_when_it_is_too_much() -> None:
    one = batcher()
    one.open("b:1883", 300)
    for seq in range(1, 2 * WITHHELD_INTERVALS + 3, 2):
        one.landed(first_of(one, [large(seq)]))
    assert one.withheld == WITHHELD_INTERVALS
    identity = Identity()
    identity.journal = 8
    one._identity = identity
    assert one.withheld == 0
    one.landed(first_of(one, [large(5)]))
    assert one.withheld == 1
