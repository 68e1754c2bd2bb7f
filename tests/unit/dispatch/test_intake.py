"""What messages amount to: conflicts are told and cost nothing, pictures of the vehicle are merged."""

from __future__ import annotations

from typing import Any

from agent.dispatch.intake import Heard, Intake, Message
from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import Alert, Stream
from agent.domain.state import VehicleState
from agent.wire.codec import encode_state
from agent.wire.topics import Topics

TOPICS = Topics("boston-ems", "A1")
A1 = UnitVoice(TOPICS)
NOW_MS = 1_790_000_000_000


def said(*spoken: tuple[str, bytes]) -> list[Message]:
    return [Message(topic, payload, NOW_MS) for topic, payload in spoken]


def alert(seq: int, text: str) -> tuple[str, bytes]:
    return A1.batch(Stream.EVENTS, seq, [(NOW_MS, Alert("code", text))])


def vehicle(complete: bool, **signals: Any) -> tuple[str, bytes]:
    state = VehicleState(1, None, tuple(sorted(signals.items())), complete)
    return TOPICS.state("vehicle"), encode_state(state).payload


def test_two_records_under_one_number_are_told_and_the_first_is_kept() -> None:
    """[MDT-R-05]"""
    intake = Intake(())
    assert len(intake.hear(said(alert(1, "one"), alert(2, "two"))).batches) == 2
    heard = intake.hear(said(alert(1, "one"), alert(2, "another"), alert(3, "three")))
    assert [record.seq for batch in heard.batches for record in batch.records] == [3]
    (conflict,) = heard.conflicts
    assert (conflict.topics, conflict.record.seq, conflict.record.conflict) == (TOPICS, 2, True)
    assert {receipt.through_seq for _, receipt in heard.receipts} == {3}


def test_changes_of_the_vehicle_are_merged_over_messages_and_within_one_reading() -> None:
    intake = Intake(())
    first = intake.hear(said(vehicle(True, Gear=1, Speed=3), vehicle(False, Speed=4)))
    later = intake.hear(said(vehicle(False, Siren=True)))
    for heard, signals in ((first, {"Gear": 1, "Speed": 4}), (later, {"Gear": 1, "Siren": True, "Speed": 4})):
        (told,) = heard.states
        assert isinstance(told.state, VehicleState)
        assert dict(told.state.signals) == signals
        assert told.state.complete


def test_a_unit_that_invents_journals_is_bounded_and_heard_again_the_next_day() -> None:
    intake = Intake(())

    def heard(journal: int, day: int) -> Heard:
        spoken = UnitVoice(Topics("boston-ems", "A66"), journal).status(1, "available", NOW_MS)
        return intake.hear([Message(*spoken, NOW_MS + day * 86_400_000)])

    told = [heard(journal, 0) for journal in range(1, 151)]
    assert sum(bool(one.batches) for one in told) == 100
    assert "journals in a day" in told[-1].refused[0].reason
    other = intake.hear(
        [Message(*UnitVoice(Topics("boston-ems", "A1")).status(1, "available", NOW_MS), NOW_MS)]
    )
    assert other.batches, "nobody else pays for it"
    assert heard(1000, 1).batches
