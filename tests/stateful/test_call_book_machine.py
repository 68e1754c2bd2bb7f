"""The calls of a unit against a plain model: whatever dispatch and crew do, in whatever order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.domain.call import (
    ENDING,
    MOST_CALLS,
    MOST_COMMANDS,
    Call,
    CallBook,
    CallNews,
    Refusal,
    call_fields,
    call_from,
)
from agent.domain.record import CallStep
from agent.domain.status import UnitStatus

S = 1_000_000_000
INCIDENTS = st.sampled_from([f"I-{n}" for n in range(5)])


class Calls(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = CallBook(remind_after_s=30, keep_s=600)
        self.now_ns = 0
        self.commands = 0
        self.current: str | None = None
        self.open: set[str] = set()
        self.acknowledged: set[str] = set()
        self.taken_back: dict[str, int] = {}
        """By dispatch, and when: while that is remembered no correction of the crew gives it back."""

    def command(self) -> str:
        self.commands += 1
        return f"c{self.commands}"

    @rule(incident=INCIDENTS, nature=st.sampled_from([None, "fall", "chest pain"]))
    def assign(self, incident: str, nature: str | None) -> None:
        command, call = self.command(), Call(incident, nature=nature)
        before, known = self.current, self.current == incident
        news = self.book.assign(command, call, self.now_ns)
        assert not isinstance(news, Refusal)
        if not known:
            events = [one.event for one in news]
            assert events == ([] if before is None else [CallStep.DIVERTED]) + [CallStep.RECEIVED]
            self.open.discard(before or "")
            self.open.add(incident)
            self.taken_back.pop(incident, None)
            self.acknowledged.discard(incident)
            self.current = incident
        # Sent twice, it is done once.
        assert self.book.assign(command, call, self.now_ns) is Refusal.REPEATED

    @rule(incident=INCIDENTS)
    def cancel(self, incident: str) -> None:
        news = self.book.cancel(self.command(), incident, self.now_ns)
        if incident in self.open:
            assert [one.event for one in news if isinstance(one, CallNews)] == [CallStep.CANCELLED]
            self.open.discard(incident)
            self.taken_back[incident] = self.now_ns
            self.current = None if self.current == incident else self.current
        else:
            assert news in (Refusal.UNKNOWN_INCIDENT, Refusal.INCIDENT_CLOSED)

    @rule(incident=INCIDENTS, notes=st.text(max_size=20))
    def update(self, incident: str, notes: str) -> None:
        news = self.book.update(self.command(), incident, {"notes": notes}, self.now_ns)
        if incident not in self.open:
            assert news in (Refusal.UNKNOWN_INCIDENT, Refusal.INCIDENT_CLOSED)
        elif news:
            assert [one.event for one in news if isinstance(one, CallNews)] == [CallStep.UPDATED]

    @rule(status=st.sampled_from(list(UnitStatus)))
    def press(self, status: UnitStatus) -> None:
        news = self.book.status_set(status, self.now_ns)
        if self.current is None:
            assert news == ()
        elif status in ENDING:
            assert [one.event for one in news] == [CallStep.ENDED]
            self.open.discard(self.current)
            self.current = None
        elif status not in (UnitStatus.TALK_REQUEST, UnitStatus.DISPATCHED):
            expected = [] if self.current in self.acknowledged else [CallStep.ACKNOWLEDGED]
            assert [one.event for one in news] == expected
            self.acknowledged.add(self.current)

    @rule()
    def take_the_press_back(self) -> None:
        news = self.book.reopen()
        if news:
            assert self.current is None
            self.reopened(news)

    @rule(incident=INCIDENTS)
    def correct_a_press_that_ended(self, incident: str) -> None:
        news = self.book.reopen_amended(incident, self.now_ns)
        if self.current is not None or incident in self.taken_back:
            assert news == ()
        elif news:
            assert news[0].call.incident == incident
            self.reopened(news)

    def reopened(self, news: tuple[CallNews, ...]) -> None:
        assert [one.event for one in news] == [CallStep.REOPENED]
        self.current = news[0].call.incident
        self.open.add(self.current)
        if self.book.acknowledged:
            self.acknowledged.add(self.current)

    @rule(seconds=st.sampled_from([1, 29, 31, 700]))
    def wait(self, seconds: int) -> None:
        self.now_ns += seconds * S
        news = self.book.due(self.now_ns)
        kept = {name: at for name, at in self.taken_back.items() if self.now_ns - at < 600 * S}
        self.taken_back = kept
        for one in news:
            assert one.event is CallStep.UNACKNOWLEDGED
            assert one.call.incident == self.current
            assert self.current not in self.acknowledged

    @invariant()
    def what_the_unit_belongs_to_is_the_models(self) -> None:
        assert self.book.incident == self.current
        assert (self.book.current is None) == (self.current is None)


TestCalls = Calls.TestCase


def test_shown_and_acknowledged_are_said_once() -> None:
    book = CallBook()
    book.assign("1", Call("I"), 0)
    assert [news.event for news in book.shown("I")] == [CallStep.SHOWN]
    assert book.shown("I") == ()
    assert [news.event for news in book.acknowledge()] == [CallStep.ACKNOWLEDGED]
    assert book.acknowledge() == ()
    assert book.shown("nobody") == ()


def test_an_unacknowledged_call_asks_again_and_is_told_to_dispatch_once() -> None:
    book = CallBook(remind_after_s=30)
    book.assign("1", Call("I"), 0)
    assert book.due(29 * S) == ()
    (first,) = book.due(30 * S)
    assert (first.event, first.changed, first.sound) == (CallStep.UNACKNOWLEDGED, (), True)
    assert book.due(31 * S) == ()
    (second,) = book.due(60 * S)
    assert second.changed == ("again",)


def test_call_data_is_erased_after_its_time() -> None:
    book = CallBook(keep_s=600)
    book.assign("1", Call("I", notes="private"), 0)
    book.status_set("available", 10 * S)
    book.due(611 * S)
    assert book.update("2", "I", {}, 612 * S) is Refusal.UNKNOWN_INCIDENT


def test_ten_thousand_calls_and_commands_are_bounded() -> None:
    book = CallBook()
    for number in range(10_000):
        book.assign(f"a{number}", Call(f"I-{number}"), number)
    assert book.incident == "I-9999"
    assert len(book._entries) <= MOST_CALLS
    assert len(book._commands) <= MOST_COMMANDS


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"incident": " "},
        {"incident": 7},
        {"incident": "I", "lat_deg": 42.0},
        {"incident": "I", "lat_deg": 91, "lon_deg": 0},
        {"incident": "I", "lat_deg": True, "lon_deg": 0},
        {"incident": "I", "lat_deg": float("nan"), "lon_deg": 0},
        {"incident": "I", "alternates": "A2"},
    ],
)
def test_a_malformed_call_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        call_from(given)


def test_long_texts_are_cut_visibly_and_unknown_fields_ignored() -> None:
    call = call_from({"incident": "I", "notes": "x" * 5_000, "future": 1, "alternates": ["A2"] * 50})
    assert call.notes is not None
    assert (len(call.notes), call.notes[-1]) == (800, "…")
    assert len(call.alternates) == 12
    assert "incident" not in call_fields({"notes": "n"})
