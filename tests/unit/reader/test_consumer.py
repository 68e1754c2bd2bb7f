"""What consumers share: states by the rule of sessions, pictures that are merged, requests and receipts."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.record import Alert, Kind, Stream
from agent.domain.state import LinkState, State, VehicleState
from agent.reader.consumer import Consumer
from agent.wire.body import pack_body
from agent.wire.codec import BatchHeader, encode_batch, encode_state
from agent.wire.reader_request import (
    JournalRequest,
    Receipt,
    Reply,
    decode_journal_request,
    decode_map,
    decode_receipt,
    encode_map,
)
from agent.wire.row import Row
from agent.wire.topics import Topics

A7 = Topics("boston-ems", "A7")


def told(consumer: Consumer, state: State) -> State | None:
    arrival = consumer.take(A7.state(state.name), encode_state(state).payload, 0)
    return None if arrival is None else arrival.state


def link(session: int, *, online: bool) -> LinkState:
    return LinkState(1, None, session, online, "0" * 32, 1, 9, "0.1")


def vehicle(complete: bool | None, **signals: Any) -> VehicleState:
    return VehicleState(1, None, tuple(sorted(signals.items())), complete)


def batch(*seqs: int, text: str = "text") -> bytes:
    rows = [Row(seq, Kind.ALERT, 1, seq, None, 0, None, pack_body(Alert("code", text))) for seq in seqs]
    return encode_batch(BatchHeader("A7", Stream.EVENTS, 9, 1), rows).payload


def test_a_will_of_a_connection_that_was_replaced_is_old_news() -> None:
    """[MDT-S-01]"""
    consumer = Consumer()
    assert told(consumer, link(1, online=True)) is not None
    assert told(consumer, link(2, online=True)) is not None
    assert told(consumer, link(1, online=False)) is None
    assert consumer.states(A7)["link"] == link(2, online=True)
    assert told(consumer, link(2, online=False)) is not None
    assert consumer.states(A7)["link"] == link(2, online=False)


def test_changes_of_the_vehicle_are_merged_into_the_picture() -> None:
    """[MDT-S-04]"""
    consumer = Consumer()
    assert told(consumer, vehicle(complete=True, Speed=3, Gear=1)) == vehicle(complete=True, Speed=3, Gear=1)
    assert told(consumer, vehicle(complete=False, Speed=5)) == vehicle(complete=True, Speed=5, Gear=1)
    assert told(consumer, vehicle(complete=False, Siren=None)) == vehicle(
        complete=True, Speed=5, Gear=1, Siren=None
    )
    assert told(consumer, vehicle(complete=True, Gear=2)) == vehicle(complete=True, Gear=2)


def test_a_state_that_is_taken_back_is_not_known() -> None:
    consumer = Consumer()
    told(consumer, vehicle(complete=True, Speed=3))
    arrival = consumer.take(A7.state("vehicle"), b"", 0)
    assert arrival is not None
    assert arrival.state is None
    assert consumer.states(A7) == {}
    assert consumer.units == (A7,)


def test_receipts_tell_what_is_complete_and_requests_what_is_not() -> None:
    """[MDT-R-10]"""
    consumer = Consumer(want_history=True)
    consumer.take(A7.journal(Stream.EVENTS), batch(1, 2, 5), 0)
    (receipt,) = consumer.receipts(A7)
    assert receipt.topic == A7.receipt
    assert decode_receipt(receipt.encoded.payload) == Receipt(Stream.EVENTS, 2, 9)
    (ask,) = consumer.due(0)
    assert ask.topic == A7.command("replay")
    consumer.take(A7.journal(Stream.EVENTS), batch(3, 4), 1)
    assert decode_receipt(consumer.receipts(A7)[0].encoded.payload).through_seq == 5


def test_after_a_conflict_a_new_journal_can_be_asked_for() -> None:
    """[MDT-R-05] [MDT-R-06]"""
    consumer = Consumer()
    consumer.take(A7.journal(Stream.EVENTS), batch(1, 2), 0)
    arrival = consumer.take(A7.journal(Stream.EVENTS), batch(2, text="another"), 0)
    assert arrival is not None
    assert [record.conflict for record in arrival.records] == [True]
    request = consumer.request_new_journal(A7, 9, "two records under one number")
    assert request.topic == "ems/v1/boston-ems/A7/command/new-journal"
    assert decode_journal_request(request.encoded.payload) == JournalRequest(
        9, "two records under one number"
    )


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_answers_of_units_arrive(encoding: Any) -> None:
    consumer = Consumer()
    reply = Reply("replay", "refused", reason="busy", text="Later.")
    arrival = consumer.take(A7.reply("replay"), encode_map(reply, encoding).payload, 0)
    assert arrival is not None
    assert arrival.reply == decode_map(Reply, encode_map(reply).payload) == reply


def test_what_can_not_be_read_is_told_and_hurts_nothing() -> None:
    consumer = Consumer()
    for topic in (A7.journal(Stream.EVENTS), A7.state("link"), A7.reply("replay")):
        arrival = consumer.take(topic, b"\xc1", 0)
        assert arrival is not None
        assert topic in arrival.problem
    assert consumer.take("somebody/else", b"", 0) is None
    assert consumer.take(A7.command("replay"), b"", 0) is None
    assert consumer.reader.counts.refused == 2
