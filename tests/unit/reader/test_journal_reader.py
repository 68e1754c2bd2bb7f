"""A reader hands on every record once, and asks for what it misses."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from dataclasses import asdict
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.record import Alert, Body, Gap, Kind, Stream
from agent.domain.state import LinkState, StatusState
from agent.reader import stream_reading
from agent.reader.journal_reader import JournalReader, StreamCursor
from agent.wire.body import pack_body
from agent.wire.codec import (
    BatchHeader,
    CodecError,
    JournalRecord,
    encode_batch,
    encode_state,
)
from agent.wire.interval_set import IntervalSet
from agent.wire.reader_request import (
    Receipt,
    ReplayRequest,
    Reply,
    decode_receipt,
    decode_replay_request,
    encode_map,
)
from agent.wire.row import Row
from agent.wire.topics import Topics

A7 = Topics("boston-ems", "A7")


def payload(*seqs: int, journal: int = 1, replay: bool = False, gap: Gap | None = None) -> bytes:
    header = BatchHeader("A7", Stream.EVENTS, journal, 1, replay=replay)
    body: Body = gap or Alert("code", "text")
    kind = Kind.GAP if gap else Kind.ALERT
    return encode_batch(
        header, [Row(seq, kind, 1, seq, None, 0, None, pack_body(body)) for seq in seqs]
    ).payload


def feed(reader: JournalReader, *seqs: int, **options: Any) -> list[int]:
    return seqs_of(reader.feed(A7.journal(Stream.EVENTS), payload(*seqs, **options)))


def seqs_of(records: list[JournalRecord]) -> list[int]:
    return [record.seq for record in records]


def asked(reader: JournalReader, now_s: float) -> list[tuple[int, int]]:
    return [(ask.request.first, ask.request.last) for ask in reader.asks(now_s)]


def link(*, online: bool = True, journal: int = 1, **seqs: Any) -> bytes:
    return encode_state(LinkState(1, None, 7, online, "0" * 32, 1, journal, "0.1", **seqs)).payload


def status(seq: int, emergency_seq: int | None = None, journal: int | None = None) -> bytes:
    state = StatusState(1, None, "on_scene", None, seq, emergency_seq=emergency_seq, journal=journal)
    return encode_state(state).payload


def test_repeated_records_are_removed() -> None:
    """[MDT-R-01] [MDT-R-02]"""
    reader = JournalReader()
    assert feed(reader, 1, 2, 3) == [1, 2, 3]
    assert feed(reader, 2, 3, 4) == [4]
    assert feed(reader, 4) == []
    assert reader.counts.duplicates_removed == 3
    assert reader.counts.delivered == 4
    assert asked(reader, 0) == []


def test_a_hole_is_asked_for_until_it_is_filled() -> None:
    """[MDT-R-07]"""
    reader = JournalReader()
    feed(reader, 1, 2)
    feed(reader, 6, 9)
    assert reader.counts.holes_open == 5
    (ask,) = reader.asks(100)
    assert ask.topic == "ems/v1/boston-ems/A7/command/replay"
    assert ask.request == ReplayRequest(Stream.EVENTS, 3, 8, 1)
    assert asked(reader, 105) == []
    assert asked(reader, 110) == [(3, 8)]
    assert asked(reader, 125) == []
    assert asked(reader, 130) == [(3, 8)]
    records = reader.feed(A7.journal(Stream.EVENTS), payload(3, 4, 5, 6, 7, replay=True))
    assert seqs_of(records) == [3, 4, 5, 7]
    assert all(record.replay for record in records)
    assert asked(reader, 131) == [], "the rest of the answer is awaited"
    assert feed(reader, 8, replay=True) == [8]
    assert asked(reader, 9999) == []
    assert reader.counts.filled == 5
    assert reader.counts.holes_open == 0


def test_a_new_connection_of_the_unit_makes_asking_worthwhile_at_once() -> None:
    reader = JournalReader()
    feed(reader, 1, 3)
    assert asked(reader, 0) == [(2, 2)]
    assert asked(reader, 1) == []
    assert reader.feed(A7.state("link"), link()) == []
    assert asked(reader, 1) == [(2, 2)]


def test_a_gap_record_closes_the_holes_that_it_covers() -> None:
    """[MDT-B-03]"""
    reader = JournalReader()
    feed(reader, 1)
    assert feed(reader, 2, gap=Gap(10, "evicted", (("position", 9),))) == [2]
    assert feed(reader, 11) == [11]
    assert asked(reader, 0) == []
    feed(reader, 20)
    assert asked(reader, 0) == [(12, 19)]
    assert feed(reader, 12, replay=True, gap=Gap(15, "trimmed", ())) == [12]
    assert asked(reader, 0.5) == []
    assert asked(reader, 60) == [(16, 19)]
    assert reader.counts.gaps_told == 2
    assert reader.counts.told_gone == 8 + 3


def test_a_gap_that_begins_at_a_known_record_still_tells_what_it_covers() -> None:
    """[MDT-R-03]"""
    reader = JournalReader()
    feed(reader, 1, 2)
    feed(reader, 6)
    assert feed(reader, 2, gap=Gap(5, "trimmed", ())) == [2]
    assert feed(reader, 2, gap=Gap(5, "trimmed", ())) == []
    assert reader.counts.holes_open == 0


def test_what_was_before_the_first_contact_is_asked_for_only_when_wanted() -> None:
    """[MDT-R-04]"""
    plain, historian = JournalReader(), JournalReader(want_history=True)
    for reader in (plain, historian):
        feed(reader, 100)
    assert asked(plain, 0) == []
    assert plain.counts.holes_open == 0
    assert asked(historian, 0) == [(1, 99)]
    assert historian.receipts(A7) == []
    assert feed(plain, 50) == [50], "what comes by itself is handed on, once"
    assert feed(plain, 50) == []
    feed(historian, *range(1, 100), replay=True)
    assert historian.receipts(A7) == [Receipt(Stream.EVENTS, 100, 1)]


def test_an_answer_to_another_reader_is_no_first_contact() -> None:
    """[MDT-R-04]"""
    reader = JournalReader()
    feed(reader, 5, replay=True)
    feed(reader, 900)
    assert asked(reader, 0) == []
    feed(reader, 902)
    assert asked(reader, 0) == [(901, 901)]


def test_long_holes_are_asked_for_in_parts() -> None:
    reader = JournalReader()
    feed(reader, 1, 20_000)
    assert asked(reader, 0) == [(2, 5001)]
    for first in (2, 2502):
        feed(reader, *range(first, first + 2500), replay=True)
    assert asked(reader, 0.1) == [(5002, 10_001)]


def test_a_new_journal_begins_anew_and_the_old_one_is_not_asked_for() -> None:
    reader = JournalReader()
    feed(reader, 1, 5)
    assert feed(reader, 1, 2, journal=2) == [1, 2]
    assert asked(reader, 0) == []
    assert feed(reader, 1, journal=2) == []


def test_a_press_that_only_the_status_state_shows_is_asked_for() -> None:
    """[MDT-R-08]"""
    reader = JournalReader()
    reader.feed(A7.state("link"), link())
    feed(reader, 1, 2)
    reader.feed(A7.state("status"), encode_state(StatusState(1, None, "on_scene", None, 3)).payload)
    assert asked(reader, 0) == []
    assert asked(reader, 5) == []
    assert asked(reader, 10) == [(3, 3)]
    assert feed(reader, 3, replay=True) == [3]
    assert asked(reader, 100) == []


@pytest.mark.parametrize(("history", "wanted"), [(True, (1, 3)), (False, (3, 3))])
def test_the_first_press_of_a_journal_is_asked_for_when_only_states_tell_of_it(
    history: bool, wanted: tuple[int, int]
) -> None:
    reader = JournalReader(want_history=history)
    reader.feed(A7.state("status"), status(2, emergency_seq=3))
    assert asked(reader, 0) == [], "whose journal that is is not known yet"
    reader.feed(A7.state("link"), link())
    assert asked(reader, 100) == []
    assert asked(reader, 111) == [wanted]
    assert feed(reader, *range(wanted[0], 4), replay=True) == list(range(wanted[0], 4))
    assert asked(reader, 999) == []
    assert feed(reader, 3, 4) == [4]
    feed(reader, 6)
    assert asked(reader, 1000) == [(5, 5)]


def test_the_lost_tail_of_a_stream_is_asked_for_once_the_unit_is_back() -> None:
    reader = JournalReader(want_history=True)
    reader.feed(A7.state("link"), link(events_seq=0, trail_seq=0))
    feed(reader, 1, 2)
    reader.feed(A7.state("link"), link(events_seq=4, trail_seq=70))
    assert asked(reader, 0) == []
    asks = {(ask.request.stream, ask.request.first, ask.request.last) for ask in reader.asks(10)}
    assert asks == {(Stream.EVENTS, 3, 4), (Stream.TRAIL, 1, 70)}
    assert reader.receipts(A7) == [Receipt(Stream.EVENTS, 2, 1)]
    assert feed(reader, 3, 4, replay=True) == [3, 4]
    assert reader.counts.holes_open == 70


def test_what_was_delivered_before_the_first_contact_is_history() -> None:
    """[MDT-S-02]"""
    reader = JournalReader()
    reader.feed(A7.state("link"), link(events_seq=40, trail_seq=70))
    assert asked(reader, 0) == asked(reader, 100) == []
    feed(reader, 90)
    assert asked(reader, 200) == []
    reader.feed(A7.state("link"), link(events_seq=92, trail_seq=70))
    assert asked(reader, 300) == []
    assert asked(reader, 310) == [(91, 92)]


def test_a_head_of_another_journal_is_no_head() -> None:
    reader = JournalReader(want_history=True)
    reader.feed(A7.state("link"), link(events_seq=40))
    reader.feed(A7.state("status"), status(30, journal=1))
    feed(reader, 1, journal=2)
    assert asked(reader, 0) == asked(reader, 100) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_reading, "MAX_HOLES", 50)
    reader = JournalReader()
    feed(reader, *range(1, 1001, 2))
    assert reader.counts.holes_open == 50
    assert reader.counts.abandoned == 449


def test_a_restored_reader_goes_on_where_it_was() -> None:
    reader = JournalReader()
    feed(reader, 1, 2, 5)
    stored = json.loads(json.dumps([asdict(cursor) for cursor in reader.export()]))
    again = JournalReader()
    again.restore(StreamCursor(**cursor) for cursor in stored)
    assert feed(again, 2, 5, 6) == [6]
    assert asked(again, 0) == [(3, 4)]


def test_what_is_no_batch_is_refused_and_counted() -> None:
    reader = JournalReader()
    with pytest.raises(CodecError):
        reader.feed(A7.journal(Stream.EVENTS), b"nonsense")
    with pytest.raises(CodecError, match="trail"):
        reader.feed(A7.journal(Stream.TRAIL), payload(1))
    assert reader.counts.refused == 2
    assert reader.feed("some/other/topic", b"nonsense") == []
    assert reader.feed(A7.state("link"), b"") == []


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
@pytest.mark.parametrize("journal", [None, 0, 0xFFFF_FFFF])
def test_requests_and_receipts_round_trip(encoding: Any, journal: int | None) -> None:
    request = ReplayRequest(Stream.TRAIL, 3, 9, journal)
    assert decode_replay_request(encode_map(request, encoding).payload) == request
    receipt = Receipt(Stream.EVENTS, 12, journal)
    assert decode_receipt(encode_map(receipt, encoding).payload) == receipt


def test_a_request_reads_as_plain_json() -> None:
    """[MDT-Q-01]"""
    request = decode_replay_request(b'{"stream":"events","first":1,"last":4,"remark":"by hand"}')
    assert request == ReplayRequest(Stream.EVENTS, 1, 4)


@pytest.mark.parametrize(
    "given",
    [
        7,
        {},
        {"stream": "events", "first": 2, "last": 1},
        {"stream": "events", "first": -1, "last": 1},
        {"stream": "events", "first": 1.0, "last": 2},
        {"stream": "events", "first": True, "last": 2},
        {"stream": "events", "first": 1, "last": 2**63},
        {"stream": "other", "first": 1, "last": 2},
        {"stream": None, "first": 1, "last": 2},
        {"stream": "events", "first": 1, "last": 2, "journal": -1},
        {"stream": "events", "first": 1, "last": 2, "journal": "1"},
        {"stream": "events", "first": 1, "last": 2, "padding": "x" * 20_000},
    ],
)
def test_malformed_requests_are_refused(given: Any) -> None:
    for encoded in (msgpack.packb(given), json.dumps(given).encode()):
        with pytest.raises(CodecError):
            decode_replay_request(encoded)
        with pytest.raises(CodecError):
            decode_receipt(encoded)


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_arbitrary_requests_are_refused_or_requests(payload: bytes) -> None:
    for candidate in (payload, b"{" + payload, b"\x83" + payload):
        for decode in (decode_replay_request, decode_receipt):
            try:
                decode(candidate)
            except CodecError:
                continue


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40)), max_size=40),
    st.integers(0, 41),
)
def test_an_interval_set_is_a_set(steps: list[tuple[bool, int, int]], probe: int) -> None:
    intervals, model = IntervalSet(), set[int]()
    for is_add, first, last in steps:
        span = set(range(first, last + 1))
        if is_add:
            intervals.add(first, last)
            model |= span
        else:
            assert intervals.remove(first, last) == len(model & span)
            model -= span
        flat = [number for one, other in intervals for number in range(one, other + 1)]
        assert flat == sorted(model)
        assert all(
            next_one > last + 1 for (_, last), (next_one, _) in zip(intervals, [*intervals][1:], strict=False)
        )
    assert intervals.count() == len(model)
    assert intervals.count(probe) == len([number for number in model if number >= probe])
    assert (probe in intervals) == (probe in model)
    above = [number for number in model if number >= probe]
    first_from = intervals.first_from(probe)
    assert (first_from[0] if first_from else None) == (min(above) if above else None)
    assert intervals.last_through(probe) == max((n for n in model if n <= probe), default=None)


def test_what_is_counted_adds_up_whatever_gap_was_known_before() -> None:
    reader = JournalReader(want_history=True)
    assert feed(reader, 1, 2) == [1, 2]
    assert feed(reader, 2, gap=Gap(5, "evicted", ())) == [2]
    assert feed(reader, 8, gap=Gap(8, "evicted", ())) == [8]
    assert feed(reader, 6, gap=Gap(9, "evicted", ())) == [6]
    assert feed(reader, 6, gap=Gap(9, "evicted", ())) == []
    assert reader.counts.accounted == 9


def test_a_head_of_a_journal_that_is_told_later_is_kept_until_then() -> None:
    reader = JournalReader()
    reader.feed(A7.state("link"), link(journal=1))
    feed(reader, 1)
    reader.feed(A7.state("status"), status(4, journal=2))
    assert asked(reader, 0) == asked(reader, 100) == []
    reader.feed(A7.state("link"), link(journal=2))
    assert asked(reader, 200) == []
    assert asked(reader, 220) == [(4, 4)]


def test_a_known_number_with_something_else_is_a_conflict_and_handed_on_once() -> None:
    """[MDT-R-05] [MDT-R-06]"""
    reader = JournalReader()
    feed(reader, 1, 2, 3)
    other = encode_batch(
        BatchHeader("A7", Stream.EVENTS, 1, 1),
        [Row(2, Kind.ALERT, 1, 2, None, 0, None, pack_body(Alert("code", "something else")))],
    ).payload
    (record,) = reader.feed(A7.journal(Stream.EVENTS), other)
    assert record.conflict
    assert record.body == Alert("code", "something else")
    assert reader.feed(A7.journal(Stream.EVENTS), other) == []
    assert feed(reader, 2) == [], "the first one is a repetition, as ever"
    counts = reader.counts
    assert (counts.conflicts, counts.delivered, counts.duplicates_removed) == (1, 3, 2)


@pytest.mark.parametrize("stamp", [{"boot": 2}, {"boottime_ms": 77}])
def test_another_boot_or_boot_time_under_a_known_number_is_a_conflict(stamp: dict[str, int]) -> None:
    reader = JournalReader()
    feed(reader, 1, 2, 3)
    row = Row(2, Kind.ALERT, 1, 2, None, 0, None, pack_body(Alert("code", "text")))._replace(**stamp)  # type: ignore[arg-type]
    header = BatchHeader("A7", Stream.EVENTS, 1, row.boot)
    (record,) = reader.feed(A7.journal(Stream.EVENTS), encode_batch(header, [row]).payload)
    assert record.conflict


def test_a_better_utc_of_a_record_that_comes_again_is_no_conflict() -> None:
    reader = JournalReader()
    feed(reader, 1, 2)
    row = Row(2, Kind.ALERT, 1, 2, 1_795_310_000_000, 3, 100, pack_body(Alert("code", "text")))
    for encoding in ("msgpack", "json"):
        again = encode_batch(BatchHeader("A7", Stream.EVENTS, 1, 1, replay=True), [row], encoding).payload
        assert reader.feed(A7.journal(Stream.EVENTS), again) == []
    assert reader.counts.conflicts == 0


def test_an_older_boot_is_told_from_a_newer_one_long_after_its_records_and_after_a_restart() -> None:
    reader = JournalReader(want_history=True)
    for boot, first in ((1, 1), (2, 1001), (3, 2001)):
        header = BatchHeader("A7", Stream.EVENTS, 1, boot)
        rows = [
            Row(seq, Kind.ALERT, boot, seq, None, 0, None, pack_body(Alert("code", "text")))
            for seq in range(first, first + 1000)
        ]
        assert len(reader.feed(A7.journal(Stream.EVENTS), encode_batch(header, rows).payload)) == 1000
    fresh = JournalReader(want_history=True)
    fresh.restore(reader.export())
    for one in (reader, fresh):
        rolled_back = Row(900, Kind.ALERT, 3, 5, None, 0, None, pack_body(Alert("code", "text")))
        header = BatchHeader("A7", Stream.EVENTS, 1, 3)
        (record,) = one.feed(A7.journal(Stream.EVENTS), encode_batch(header, [rolled_back]).payload)
        assert record.conflict
        same = Row(900, Kind.ALERT, 1, 900, None, 0, None, pack_body(Alert("code", "text")))
        header = BatchHeader("A7", Stream.EVENTS, 1, 1)
        assert one.feed(A7.journal(Stream.EVENTS), encode_batch(header, [same]).payload) == []


def test_journals_of_a_unit_are_bounded_and_the_present_one_is_kept() -> None:
    """[MDT-R-11]"""
    reader = JournalReader()
    feed(reader, 1, journal=1)
    for journal in range(2, 30):
        feed(reader, 5, journal=journal, replay=True)
    assert reader.counts.journals_forgotten == 21
    assert len({cursor.journal for cursor in reader.export()}) == 8
    assert feed(reader, 1, journal=1) == [], "the present journal was not forgotten"


def test_a_refused_request_is_not_repeated_before_the_longest_wait() -> None:
    """[MDT-R-09]"""
    reader = JournalReader()
    feed(reader, 1, 3)
    assert asked(reader, 0) == [(2, 2)]
    refused = encode_map(Reply("replay", "refused", reason="beyond_end", stream="events", last=1)).payload
    reader.feed(A7.reply("replay"), refused, 1.0)
    assert asked(reader, 500) == []
    assert asked(reader, 602) == [(2, 2)]
    assert reader.counts.requests_refused == 1


def test_an_answer_that_names_another_journal_ends_asking_for_this_one() -> None:
    """[MDT-R-09]"""
    reader = JournalReader()
    feed(reader, 1, 3)
    answer = encode_map(Reply("replay", "refused", reason="other_journal", journal=2), "json").payload
    reader.feed(A7.reply("replay"), answer)
    assert asked(reader, 0) == []


def test_a_deflated_gigabyte_of_lists_is_refused_within_a_few_megabytes() -> None:
    """[MDT-L-02] [MDT-L-03]"""
    nested = zlib.compress(b"\x18\0\0\0\1\7" + b"\x94\x01\xdc\xff\xff" + b"\xdc\xff\xff" * 300_000, 9)
    flat = zlib.compress(b"\x18\0\0\0\1\7" + b"\xdd\x00\x0f\xff\xf0" + b"\x90" * 0xFFFF0, 9)
    in_json = b'{"version":1,"records":' + b"[" + b"[]," * 300_000 + b"[]]}"
    for hostile in (nested, flat, in_json):
        reader = JournalReader()
        tracemalloc.start()
        with pytest.raises(CodecError):
            reader.feed(A7.journal(Stream.TRAIL), hostile)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 24_000_000
        assert reader.counts.refused == 1
