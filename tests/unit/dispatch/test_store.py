"""The store, on SQLite and on PostgreSQL: everything once, all or nothing, and again from what came."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from agent.dispatch import queries
from agent.dispatch.access import Who
from agent.dispatch.intake import Heard, HeardBatch, Intake, Message
from agent.dispatch.ledger import Ledger
from agent.dispatch.store.engine import StoreDataError, StoreError, StoreOwnedError, engine_of
from agent.dispatch.store.store import DAY_MS, KEEP_REFUSED, Store
from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import (
    Alert,
    Amendment,
    Body,
    CallRecord,
    ClockCorrection,
    Emergency,
    Kind,
    StatusChange,
    Stream,
    Withdrawal,
)
from agent.domain.stamp import UtcSource
from agent.wire.batch import BatchHeader
from agent.wire.body import pack_body
from agent.wire.codec import encode_batch
from agent.wire.reader_request import Reply, encode_map
from agent.wire.row import Row
from agent.wire.topics import Topics

A1, A2 = UnitVoice(Topics("boston-ems", "A1")), UnitVoice(Topics("boston-ems", "A2"), journal=9)
NOW_MS = 1_790_000_000_000
ANNA = Who("anna", "dispatch")
ALL_ROWS = (
    "SELECT stream_id, seq, unit_id, kind, boot, boottime_ms, utc_ms, utc_source, utc_uncertainty_ms, at_ms, "
    "received_ms, received_day, history, lat_deg, lon_deg, body, batch_id FROM records "
    "ORDER BY stream_id, seq"
)


def said(*spoken: tuple[str, bytes], at_ms: int = NOW_MS) -> list[Message]:
    return [Message(topic, payload, at_ms) for topic, payload in spoken]


class Opened:
    """A store with its reader, as the service holds them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store = Store(engine_of(url))
        self.intake = Intake(self.store.open())

    def take(self, messages: list[Message]) -> Heard:
        heard = self.intake.hear(messages)
        self.store.write(heard)
        return heard

    def reopen(self) -> None:
        self.store.close()
        self.store = Store(engine_of(self.url))
        self.intake = Intake(self.store.open())

    def rows(self) -> list[tuple[Any, ...]]:
        return self.store.connection.query(ALL_ROWS)

    def count(self, table: str) -> int:
        return int(self.store.connection.query(f"SELECT count(*) FROM {table}")[0][0])


@pytest.fixture
def opened(store_url: str) -> Any:
    one = Opened(store_url)
    yield one
    one.store.close()


def test_what_comes_twice_is_stored_once_also_over_restarts(opened: Opened) -> None:
    messages = []
    for part in range(12):
        messages += said(A1.positions(1 + 10 * part, 10, NOW_MS), A2.positions(1 + 10 * part, 10, NOW_MS))
        messages += said(A1.status(1 + part, "en_route", NOW_MS + part))
    chance = random.Random(4)
    for round_ in range(3):
        for start in range(0, len(messages), 5):
            group = messages[start : start + 5]
            again = chance.sample(messages[: start + 5], min(3, start + 5))
            opened.take([*group, *again])
        if round_ == 0:
            opened.reopen()
    seqs = [(row[0], row[1]) for row in opened.rows()]
    assert len(seqs) == len(set(seqs)) == 12 * 10 * 2 + 12
    assert opened.count("batches") == len(messages)


def test_a_hole_is_asked_for_until_it_is_filled_also_after_a_restart(opened: Opened) -> None:
    opened.take(said(A1.link(1, online=True), A1.positions(1, 5, NOW_MS), A1.positions(11, 5, NOW_MS)))
    (ask,) = opened.intake.asks(0.0)
    assert (ask.request.first, ask.request.last) == (6, 10)
    opened.reopen()
    (ask,) = opened.intake.asks(0.0)
    assert (ask.request.first, ask.request.last) == (6, 10)
    heard = opened.take(said(A1.positions(6, 5, NOW_MS)))
    assert [receipt.through_seq for _, receipt in heard.receipts] == [15]
    assert opened.intake.asks(100.0) == []


def test_a_receipt_never_says_more_than_is_stored(opened: Opened) -> None:
    """[MDT-R-10]"""
    heard = opened.take(said(A1.positions(1, 5, NOW_MS), A1.positions(9, 2, NOW_MS)))
    assert [(receipt.stream, receipt.through_seq) for _, receipt in heard.receipts] == [(Stream.TRAIL, 5)]


def test_a_failed_transaction_keeps_nothing(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    opened.take(said(A1.positions(1, 5, NOW_MS)))
    before = opened.rows()

    def fail(*_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "_write_cursors", fail)
        with pytest.raises(StoreError):
            opened.take(said(A1.positions(6, 5, NOW_MS), A2.status(1, "available", NOW_MS)))
    assert opened.rows() == before
    opened.intake = Intake(opened.store.reload())
    opened.take(said(A1.positions(6, 5, NOW_MS), A2.status(1, "available", NOW_MS)))
    assert len(opened.rows()) == 11


def test_the_rows_can_be_made_again_from_what_came(opened: Opened) -> None:
    opened.take(
        said(A1.positions(1, 20, NOW_MS), A1.status(1, "available", NOW_MS), A1.positions(31, 5, NOW_MS))
    )
    opened.take(said(A1.positions(11, 20, NOW_MS), A2.emergency(1, NOW_MS), at_ms=NOW_MS + DAY_MS))
    before = opened.rows()
    opened.store.connection.execute("DELETE FROM records WHERE seq > 3")
    assert opened.store.rebuild() == len(before)
    assert opened.rows() == before
    assert opened.store.rebuild() == len(before)
    assert opened.rows() == before


def test_only_one_service_writes_to_a_store(opened: Opened) -> None:
    with pytest.raises(StoreError, match="another service"):
        Store(engine_of(opened.url)).open()
    reading = queries.Reading(engine_of(opened.url))
    assert reading.ask(queries.sizes)["records"] == 0
    reading.close()


def test_an_emergency_has_its_alarm_in_the_same_transaction(opened: Opened) -> None:
    opened.take(said(A1.emergency(1, NOW_MS)))
    opened.reopen()
    ledger = Ledger(opened.store)
    (alarm,) = ledger.open_alarms()
    assert (alarm["priority"], alarm["unit"], alarm["seq"], alarm["cleared_ms"]) == ("high", "A1", 1, None)
    assert (
        ledger.alarm_step(ANNA, alarm["alarm_id"], "shelve", NOW_MS, NOW_MS + 1)
        == "an emergency is never shelved"
    )
    assert ledger.alarm_step(ANNA, alarm["alarm_id"], "close", NOW_MS, None) == "acknowledge it first"
    assert ledger.alarm_step(ANNA, alarm["alarm_id"], "acknowledge", NOW_MS, None) is None
    assert (
        ledger.alarm_step(ANNA, alarm["alarm_id"], "close", NOW_MS, None) == "the emergency is still active"
    )
    opened.take(said(A1.emergency(2, NOW_MS + 5, active=False)))
    assert ledger.alarm_step(ANNA, alarm["alarm_id"], "close", NOW_MS + 9, None) is None
    assert ledger.open_alarms() == []
    assert [one["action"] for one in queries.actions(opened.store.connection)] == [
        "alarm_close",
        "alarm_acknowledge",
    ]


def test_a_repeated_emergency_raises_no_second_alarm_by_being_sent_again(opened: Opened) -> None:
    opened.take(said(A1.emergency(1, NOW_MS), A1.emergency(1, NOW_MS)))
    opened.take(said(A1.emergency(1, NOW_MS)))
    assert opened.count("alarms") == 1


@pytest.mark.parametrize(
    "text", ["nul \0 inside", "\ud800 half a pair".encode("utf-8", "replace").decode(), "x" * 400]
)
def test_odd_text_of_a_unit_is_kept_and_hurts_nobody(opened: Opened, text: str) -> None:
    odd = A1.batch(
        Stream.EVENTS, 1, [(NOW_MS, StatusChange(text, None, text, 1, 1)), (NOW_MS, Alert(text, text))]
    )
    opened.take(said(odd, A2.status(1, "available", NOW_MS)))
    found = queries.rare_records(opened.store.connection, since_ms=0, until_ms=NOW_MS + 1)
    assert {(one["unit"], one["kind"]) for one in found} == {
        ("A1", "status"),
        ("A1", "alert"),
        ("A2", "status"),
    }
    assert next(one for one in found if one["kind"] == "alert")["data"]["text"] == text


def test_what_is_no_batch_is_counted_for_its_unit_and_bounded(opened: Opened) -> None:
    rubbish = [(A1.topics.journal(Stream.EVENTS), bytes([number]) * 9) for number in range(60)]
    lying = (A1.topics.journal(Stream.EVENTS), A1.positions(1, 3, NOW_MS)[1])
    opened.take(said(*rubbish, lying, A2.status(1, "available", NOW_MS)))
    (line,) = queries.sizes(opened.store.connection)["refused_by_unit"]
    assert (line["unit"], line["refused"]) == ("A1", 61)
    assert opened.count("refused") == KEEP_REFUSED
    assert opened.count("records") == 1


def test_a_far_sequence_number_is_a_hole_and_no_flood(opened: Opened) -> None:
    heard = opened.take(said(A1.positions(1 << 61, 2, NOW_MS), A1.positions((1 << 62) + 5, 2, NOW_MS)))
    assert (heard.records, len(heard.refused)) == (2, 1)
    assert opened.count("records") == 2


def test_a_value_without_a_place_is_a_data_error(opened: Opened) -> None:
    heard = opened.intake.hear(said(A1.positions(1, 1, NOW_MS)))
    batch = heard.batches[0]
    heard.batches[0] = HeardBatch(batch.topics, Message(batch.message.topic, b"", 1 << 70), batch.records)
    with pytest.raises(StoreDataError):
        opened.store.write(heard)
    assert opened.rows() == []


def test_retention_deletes_by_kind_and_tells_what_went(opened: Opened) -> None:
    old_ms = NOW_MS - 100 * DAY_MS
    opened.take(said(A1.positions(1, 10, old_ms), A1.status(1, "available", old_ms), at_ms=old_ms))
    opened.take(said(A1.positions(11, 5, NOW_MS)))
    ledger = Ledger(opened.store)
    ledger.command(ANNA, "ping", A1.topics, {}, command_id="ping-old", now_ms=old_ms)
    opened.take(
        said((A1.topics.reply("ping"), encode_map(Reply("ping", "done", "ping-old")).payload), at_ms=old_ms)
    )
    days = {"raw_days": 95, "positions_days": 90, "telemetry_days": 90, "events_days": 0}
    report = ledger.expire(days, NOW_MS)
    assert {one["what"]: one["rows"] for one in report} == {
        "positions": 10,
        "answers to commands": 1,
        "raw batches": 2,
    }
    assert [row[3] for row in opened.rows()] == [int(Kind.POSITION)] * 5 + [int(Kind.STATUS)]
    assert opened.store.connection.query("SELECT what, rows_gone FROM deletions ORDER BY what") == [
        ("answers to commands", 1),
        ("positions", 10),
        ("raw batches", 2),
    ]
    assert ledger.expire(days, NOW_MS) == []
    # What was deleted is not asked for again, and does not come back.
    assert opened.take(said(A1.positions(1, 10, old_ms))).records == 0


def test_a_command_is_kept_before_it_is_sent_and_only_once(opened: Opened) -> None:
    ledger = Ledger(opened.store)
    opened.take(said(A1.status(1, "available", NOW_MS)))
    call = {"incident": "26-0001", "address": "1 Main St"}
    given = {"command_id": "abc12345", "now_ms": NOW_MS}
    assert ledger.command(ANNA, "assign", A1.topics, call, **given)  # type: ignore[arg-type]
    assert not ledger.command(ANNA, "assign", A1.topics, call, **given)  # type: ignore[arg-type]
    assert [one[0] for one in ledger.unsent()] == ["abc12345"]
    opened.reopen()
    ledger = Ledger(opened.store)
    assert [one[2] for one in ledger.unsent()] == ["assign"]
    ledger.command_sent("abc12345", NOW_MS)
    assert ledger.unsent() == []
    (open_call,) = ledger.open_calls()
    assert (open_call["incident"], open_call["acknowledged_ms"]) == ("26-0001", None)
    opened.take(said(A1.status(2, "en_route", NOW_MS + 1000), A1.status(3, "available", NOW_MS + 9000)))
    assert ledger.open_calls() == []
    (call_row,) = queries.calls(opened.store.connection, open_only=False)
    assert (call_row["acknowledged_ms"], call_row["ended_ms"]) == (NOW_MS + 1000, NOW_MS + 9000)


def test_a_status_is_answered_once(opened: Opened) -> None:
    opened.take(said(A1.status(1, "available", NOW_MS)))
    ledger = Ledger(opened.store)
    answer = {"journal": 7, "stream": "events", "seq": 1, "verdict": "accepted"}
    assert [one["seq"] for one in queries.waiting_answers(opened.store.connection)] == [1]
    assert ledger.answer(ANNA, A1.topics, answer, command_id="a", now_ms=NOW_MS)
    assert not ledger.answer(ANNA, A1.topics, answer | {"verdict": "refused"}, command_id="b", now_ms=NOW_MS)
    assert not ledger.answer(ANNA, A1.topics, answer | {"seq": 2}, command_id="c", now_ms=NOW_MS)
    assert queries.waiting_answers(opened.store.connection) == []


def test_a_newer_store_is_not_touched(opened: Opened) -> None:
    opened.store.connection.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    opened.store.close()
    with pytest.raises(StoreError, match="version"):
        Store(engine_of(opened.url)).open()


def test_positions_are_a_geographic_view_where_postgis_is(opened: Opened) -> None:
    connection = opened.store.connection
    if opened.store.engine.name != "postgresql":
        pytest.skip("a view of PostgreSQL")
    if not connection.query("SELECT 1 FROM pg_extension WHERE extname = 'postgis'"):
        pytest.skip("PostGIS is not installed")
    opened.take(said(A1.positions(1, 3, NOW_MS)))
    rows = connection.query("SELECT unit, seq, ST_AsText(place, 4) FROM positions ORDER BY seq")
    assert rows[0] == ("A1", 1, "POINT(-71.06 42.35)")
    assert len(rows) == 3


def early(seq: int, boottime_ms: int, body: Body, utc_ms: int | None = None) -> tuple[str, bytes]:
    """A record of the events that was made while nobody was trusted with the time."""
    source = UtcSource.NONE if utc_ms is None else UtcSource.LAST_KNOWN
    row = Row(seq, int(Kind.STATUS), 1, boottime_ms, utc_ms, int(source), None, pack_body(body))
    header = BatchHeader("A1", Stream.EVENTS, 7, 1)
    return A1.topics.journal(Stream.EVENTS), encode_batch(header, [row]).payload


def clock(
    seq: int, offset_ms: int, *, boot: int = 1, source: UtcSource = UtcSource.GNSS
) -> tuple[str, bytes]:
    body = ClockCorrection(boot, 0, 1_000_000, offset_ms, int(source), 200)
    return A1.batch(Stream.EVENTS, seq, [(NOW_MS, body)])


def test_a_clock_record_gives_the_rows_of_its_boot_their_time_before_and_after_it(opened: Opened) -> None:
    """[MDT-B-04]: those that came and those that will, also after a restart and when all is made anew."""
    press = StatusChange("en_route", None, "en_route", 1, 1)
    opened.take(said(early(1, 5_000, press), early(2, 6_000, press, NOW_MS - 86_400_000)))
    opened.take(said(clock(3, NOW_MS)))
    opened.take(said(early(4, 7_000, press), clock(5, NOW_MS + 1, boot=2)))
    found = queries.rare_records(opened.store.connection, since_ms=0, until_ms=NOW_MS * 2)
    presses = [one for one in found if one["kind"] == "status"]
    assert [(one["utc_ms"], one["at_ms"]) for one in presses] == [
        (NOW_MS + at, NOW_MS + at) for at in (5000, 6000, 7000)
    ]
    assert {(one["utc_source"], one["utc_uncertainty_ms"]) for one in presses} == {("gnss", 200)}
    before = opened.rows()
    opened.reopen()
    opened.take(said(early(6, 8_000, press)))
    assert opened.rows()[-1][6] == NOW_MS + 8_000
    assert opened.store.rebuild() == len(before) + 1
    assert opened.rows()[: len(before)] == before


def test_a_clock_record_that_agrees_changes_nothing_and_a_hostile_one_neither(opened: Opened) -> None:
    opened.take(said(A1.status(1, "available", NOW_MS)))
    before = opened.rows()
    lies = ClockCorrection(1, -5, 1 << 60, 1 << 61, 3, 1 << 61)
    opened.take(
        said(
            clock(2, NOW_MS - 1000 + 300, source=UtcSource.NTP), A1.batch(Stream.EVENTS, 3, [(NOW_MS, lies)])
        )
    )
    assert opened.rows()[:1] == before


def test_what_a_crew_takes_back_or_amends_stays_and_is_told(opened: Opened) -> None:
    bodies: list[tuple[int, Body]] = [
        (NOW_MS, StatusChange("on_scene", None, "on_scene", 1, 1)),
        (NOW_MS + 1, Withdrawal(1, "status")),
        (NOW_MS + 2, StatusChange("transporting", None, "transporting", 2, 1)),
        (NOW_MS + 3, Amendment(3, "status", "utc", None, "2026-09-21T14:00:00+00:00", by="c7", why="late")),
        (NOW_MS + 4, Amendment(1 << 63, "status", "utc", None, "x")),
    ]
    opened.take(said(A1.batch(Stream.EVENTS, 1, bodies)))

    def told() -> dict[int, dict[str, Any]]:
        rows = queries.rare_records(opened.store.connection, since_ms=0, until_ms=NOW_MS + 9)
        return {one["seq"]: one for one in rows}

    for _ in range(2):
        assert told()[1]["withdrawn"] is True
        assert told()[1]["data"]["status"] == "on_scene"
        (amendment,) = told()[3]["amendments"]
        assert (amendment["field"], amendment["by"], amendment["why"]) == ("utc", "c7", "late")
        opened.store.rebuild()


def test_a_call_is_followed_through_the_vehicle(opened: Opened) -> None:
    ledger = Ledger(opened.store)
    opened.take(said(A1.status(1, "available", NOW_MS)))
    ledger.command(ANNA, "assign", A1.topics, {"incident": "26-7"}, command_id="call-000", now_ms=NOW_MS)
    steps = ("received", "shown", "acknowledged")
    bodies: list[tuple[int, Body]] = [
        (NOW_MS + 10 * (at + 1), CallRecord(step, "26-7")) for at, step in enumerate(steps)
    ]
    opened.take(said(A1.batch(Stream.EVENTS, 2, bodies)))
    (call,) = ledger.open_calls()
    assert [call[f"{step}_ms"] - NOW_MS for step in steps] == [10, 20, 30]


def test_a_record_of_a_kind_of_the_future_is_kept_and_costs_no_other(opened: Opened) -> None:
    rows = [
        Row(1, 777, 1, 5, NOW_MS, 3, 9, pack_body(Alert("a", "b"))),
        Row(2, int(Kind.ALERT), 1, 6, NOW_MS, 3, 9, pack_body(Alert("code", "text"))),
    ]
    payload = encode_batch(BatchHeader("A1", Stream.EVENTS, 7, 1), rows).payload
    heard = opened.take(said((A1.topics.journal(Stream.EVENTS), payload)))
    assert [receipt.through_seq for _, receipt in heard.receipts] == [2]
    found = queries.rare_records(opened.store.connection, since_ms=0, until_ms=NOW_MS + 1)
    assert [one["kind"] for one in found] == ["kind_777", "alert"]


def test_a_test_of_the_emergency_key_is_no_emergency_and_a_repeat_no_second_one(opened: Opened) -> None:
    presses: list[tuple[int, Body]] = [
        (NOW_MS, Emergency(True, "emergency", 1, 1, test=True)),
        (NOW_MS, Emergency(True, "emergency", 2, 1, silent=True)),
        (NOW_MS, Emergency(True, "emergency", 3, 1, repeat=True)),
    ]
    opened.take(said(A1.batch(Stream.EVENTS, 1, presses)))
    alarms = Ledger(opened.store).open_alarms()
    assert [(one["priority"], "Silent" in one["text"]) for one in alarms] == [("low", False), ("high", True)]


def test_a_second_record_under_a_known_number_is_kept_and_told_and_hides_nothing(opened: Opened) -> None:
    """[MDT-R-05], over a restart."""
    opened.take(said(A1.status(1, "available", NOW_MS), A1.status(2, "en_route", NOW_MS)))
    opened.reopen()
    twin = UnitVoice(A1.topics, A1.journal, boot=9)
    heard = opened.take(said(twin.status(1, "transporting", NOW_MS)))
    assert (heard.records, len(heard.conflicts)) == (0, 1)
    assert opened.count("conflicts") == 1
    (alarm,) = Ledger(opened.store).open_alarms()
    assert (alarm["kind"], alarm["priority"]) == ("identity", "medium")
    found = queries.rare_records(opened.store.connection, since_ms=0, until_ms=NOW_MS + 1)
    assert [one["data"]["status"] for one in found] == ["available", "en_route"]


def test_the_offset_of_a_stream_is_stored_with_what_was_read_or_not_at_all(opened: Opened) -> None:
    topic, payload = A1.positions(1, 10, NOW_MS)

    def read_to() -> int | None:
        return opened.store.read_to

    assert read_to() is None
    opened.take([Message(topic, payload, NOW_MS, offset=41)])
    assert read_to() == 41
    opened.reopen()
    assert read_to() == 41
    # What came by another way says nothing about the stream.
    opened.take(said(A1.positions(11, 10, NOW_MS)))
    assert read_to() == 41
    heard = opened.intake.hear([Message(*A1.positions(21, 10, NOW_MS), NOW_MS, offset=42)])
    topics = Topics("boston-ems", "A" * 64)
    heard.cursors.append(replace(heard.cursors[0], unit=topics.unit, highest=1 << 70))
    with pytest.raises((StoreDataError, StoreError)):
        opened.store.write(heard)
    assert read_to() == 41
    opened.reopen()
    assert read_to() == 41
    assert len(opened.rows()) == 20


def test_who_finds_another_service_at_the_store_is_told_so(opened: Opened) -> None:
    with pytest.raises(StoreOwnedError):
        Store(engine_of(opened.url)).open()
