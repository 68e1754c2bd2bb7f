"""Messages are cut so that the broker takes them, and what went bad in the store takes nothing with it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from agent import config
from agent.domain.fix import FixMode
from agent.domain.record import KIND_OF_BODY, Body, Gap, Kind, Position, Stream, Telemetry
from agent.domain.stamp import UtcSource
from agent.uplink.batching import Batcher
from agent.uplink.packet_limit import LEAST_BYTES, PacketLimit
from agent.wire.body import pack_body
from agent.wire.codec import JournalRecord, decode_batch
from agent.wire.row import Row
from agent.wire.topics import Topics
from tests.unit.uplink.publisher_rig import FakeRecords

TOPICS = Topics("bems", "A1")
HERE = Position(42.36, -71.06, 5.0, 10.0, 90.0, FixMode.FIX_3D, 9, 0.9)
UTC_MS = 1_790_000_000_000
Form = Literal["msgpack", "json"]


class LongStream(FakeRecords):
    """A store that goes on after the rows that are looked at."""

    def last_seq(self, stream: Stream) -> int:
        return 1000


def row(seq: int, body: Body) -> Row:
    return Row(
        seq, KIND_OF_BODY[type(body)].value, 3, seq * 1000, UTC_MS, UtcSource.GNSS.value, 5, pack_body(body)
    )


def trail(count: int) -> list[Row]:
    """Positions and telemetry in turn, from sequence number 1."""
    return [row(seq, HERE if seq % 2 else Telemetry((("Speed", float(seq)),))) for seq in range(1, count + 1)]


def batcher(form: Form = "msgpack", limit_bytes: int | None = None) -> Batcher:
    settings = config.Uplink(
        brokers=(config.Broker(host="b", port=1883, allow_plaintext=True),), encoding=form
    )
    limit = PacketLimit(limit_bytes)
    return Batcher(settings, TOPICS, LongStream(), Stream.TRAIL, limit, lambda given: given)


def told(batcher: Batcher, rows: Sequence[Row]) -> dict[int, JournalRecord]:
    """What a reader gets of these rows, by sequence number; sent as a stream is."""
    records = {}
    while rows:
        outgoing = batcher.make(rows, history=True, replay=False)
        assert outgoing is not None
        assert outgoing.last_seq >= rows[outgoing.count - 1].seq
        for record in decode_batch(outgoing.message.payload, "A1").records:
            records[record.seq] = record
        rows = rows[outgoing.count :]
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


@pytest.mark.parametrize("form", ["msgpack", "json"])
@pytest.mark.parametrize("limit_bytes", [40_000, 10_000, LEAST_BYTES])
def test_everything_is_cut_to_the_size_that_the_broker_takes(form: Form, limit_bytes: int) -> None:
    rows = trail(400)
    for at in (0, 40, 41, 399):
        dice = random.Random(at)
        signals = tuple((f"X{n}", dice.randbytes(50).hex()) for n in range(18))
        rows[at] = rows[at]._replace(kind=Kind.TELEMETRY, body=pack_body(Telemetry(signals)))
    one, records = batcher(form, limit_bytes), []
    while rows:
        outgoing = one.make(rows, history=True, replay=False)
        assert outgoing is not None
        assert outgoing.size_bytes <= limit_bytes
        records += decode_batch(outgoing.message.payload, "A1").records
        rows = rows[outgoing.count :]
    assert [record.seq for record in records] == list(range(1, 401))
    assert not any(isinstance(record.body, Gap) for record in records)


def test_a_broker_that_takes_nothing_of_a_sensible_size_gets_nothing() -> None:
    assert batcher("msgpack", 60).make(trail(1), history=False, replay=False) is None


def test_journal_messages_do_not_expire() -> None:
    """[MDT-U-02]"""
    for history in (False, True):
        made = batcher().make(trail(3), history=history, replay=False)
        assert made is not None
        assert made.message.expiry_s is None
