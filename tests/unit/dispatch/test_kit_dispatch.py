"""The kit passes a good unit, and names the sentence that each broken one breaks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from agent.dispatch.kit import NOT_TRIED, report
from agent.dispatch.kit_dispatch import SENTENCES, KitDispatch
from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import Alert, Body, CallRecord, Kind, MessageRecord, StatusChange, Stream, Verdict
from agent.wire.batch import BatchHeader
from agent.wire.body import pack_body
from agent.wire.codec import encode_batch
from agent.wire.reader_request import Reply, encode_map
from agent.wire.row import Row
from agent.wire.topics import Topics

K1 = Topics("kit", "K1")
UTC_MS = 1_790_000_000_000
JOURNAL = 7


class Unit:
    """A unit that keeps the contract as far as the kit can see; the broken ones differ in one thing each."""

    def __init__(self, kit: KitDispatch) -> None:
        self.kit = kit
        self.voice = UnitVoice(K1, JOURNAL)
        self.events: list[Body] = []
        self.done: set[str] = set()

    def begin(self) -> None:
        self.say(self.voice.link(3, online=True, events_seq=2), retained=True)
        self.say(self.voice.location(UTC_MS, 42.35, -71.06), retained=True)
        self.tell(Alert("kit", "an older one"), StatusChange("available", None, "k", 1, 1))

    def say(self, spoken: tuple[str, bytes], *, retained: bool = False) -> None:
        self.kit.hear(*spoken, retained=retained)

    def tell(self, *bodies: Body) -> None:
        first = len(self.events) + 1
        self.events += bodies
        self.say(self.batch(first, bodies))

    def batch(self, first: int, bodies: Sequence[Body], *, replay: bool = False) -> tuple[str, bytes]:
        rows = [(UTC_MS, body) for body in bodies]
        return self.voice.batch(Stream.EVENTS, first, rows, replay=replay)

    def reply(self, name: str, outcome: str, asked: str | None = None, **fields: Any) -> None:
        self.say((K1.reply(name), encode_map(Reply(name, outcome, asked, **fields)).payload))

    def take(self, topic: str, payload: bytes) -> None:
        name = topic.rpartition("/")[2]
        if topic == K1.receipt or name not in (
            "replay",
            "ping",
            "report-now",
            "assign",
            "cancel",
            "message",
            "answer",
        ):
            return
        given = self.read(payload)
        if given is None:
            self.malformed(name)
        elif name == "replay":
            self.on_replay(given)
        elif name == "ping":
            self.reply(name, "refused", given["id"], reason="unknown_command")
        elif name == "report-now":
            self.reply(name, "accepted", given["id"])
            self.report()
        elif self.first_time(given["id"]):
            self.order(name, given)

    def read(self, payload: bytes) -> dict[str, Any] | None:
        try:
            given = json.loads(payload) if payload[:1] == b"{" else msgpack.unpackb(payload)
        except (ValueError, msgpack.UnpackException):
            return None
        return given if isinstance(given, dict) else None

    def malformed(self, name: str) -> None:
        self.reply(name, "refused", reason="malformed")

    def report(self) -> None:
        self.say(self.voice.location(UTC_MS + 1, 42.35, -71.06))

    def first_time(self, asked: str) -> bool:
        new = asked not in self.done
        self.done.add(asked)
        return new

    def order(self, name: str, given: dict[str, Any]) -> None:
        if name == "answer":
            self.tell(Verdict(given["seq"], True, given["token"], request=given["id"]))
        elif name == "message":
            self.tell(MessageRecord("received", given["id"]))
        else:
            step = {"assign": "received", "cancel": "cancelled"}[name]
            self.tell(CallRecord(step, given["incident"], request=given["id"]))

    def on_replay(self, given: dict[str, Any]) -> None:
        newest, told = len(self.events), {"asked": given["id"], "stream": "events"}
        if given["journal"] != JOURNAL:
            self.reply("replay", "refused", reason="other_journal", journal=JOURNAL, **told)
        elif given["first"] > newest:
            self.reply("replay", "refused", reason="beyond_end", last=newest, **told)
        else:
            last = min(newest, given["last"])
            whole = last == given["last"]
            reason = None if whole else "beyond_end"
            outcome = "accepted" if whole else "partly"
            self.reply("replay", outcome, first=given["first"], last=last, reason=reason, **told)
            self.again(given["first"], last)

    def again(self, first: int, last: int) -> None:
        self.say(self.batch(first, self.events[first - 1 : last], replay=True))


class NeverBorn(Unit):
    def begin(self) -> None:
        self.tell(Alert("kit", "x"), StatusChange("available", None, "k", 1, 1))


class ForgetsTheId(Unit):
    def reply(self, name: str, outcome: str, asked: str | None = None, **fields: Any) -> None:
        super().reply(name, outcome, None, **fields)


class AnswersNothing(Unit):
    def reply(self, name: str, outcome: str, asked: str | None = None, **fields: Any) -> None:
        pass


class ReplaysWithoutTheFlag(Unit):
    def again(self, first: int, last: int) -> None:
        self.say(self.batch(first, self.events[first - 1 : last]))


class ReplaysSomethingElse(Unit):
    def again(self, first: int, last: int) -> None:
        self.say(self.batch(first, [Alert("kit", "other")] * (last - first + 1), replay=True))


class AcceptsWhatItHasNot(Unit):
    def on_replay(self, given: dict[str, Any]) -> None:
        self.reply("replay", "accepted", given["id"], first=given["first"], last=given["last"])
        self.again(given["first"], min(given["last"], len(self.events)))

    def again(self, first: int, last: int) -> None:
        if first <= last:
            super().again(first, last)


class AnswersForAnyJournal(Unit):
    def on_replay(self, given: dict[str, Any]) -> None:
        super().on_replay(given | {"journal": JOURNAL})


class DiesOfRubbish(Unit):
    dead = False

    def malformed(self, name: str) -> None:
        self.dead = True
        self.say(self.voice.link(3, online=False))

    def take(self, topic: str, payload: bytes) -> None:
        if not self.dead:
            super().take(topic, payload)


class SwallowsRubbish(Unit):
    def malformed(self, name: str) -> None:
        pass


class ReadsOneFormOnly(Unit):
    def read(self, payload: bytes) -> dict[str, Any] | None:
        known = payload[:1] != b"{" or b"by" in payload
        return super().read(payload) if known else None


class KnowsNoLaterKeys(Unit):
    def read(self, payload: bytes) -> dict[str, Any] | None:
        given = super().read(payload)
        return None if given and "later" in given and "first" in given else given


class DoesEverythingTwice(Unit):
    def first_time(self, asked: str) -> bool:
        return True


class InventsAPlace(Unit):
    def begin(self) -> None:
        super().begin()
        self.say(self.voice.no_fix(UTC_MS, 0.0, 0.0, UTC_MS), retained=True)


class RetainsItsJournal(Unit):
    def begin(self) -> None:
        super().begin()
        self.say(self.batch(1, self.events[:1]), retained=True)


class SpeaksForAnother(Unit):
    def begin(self) -> None:
        super().begin()
        row = Row(3, int(Kind.ALERT), 1, 5, UTC_MS, 3, 500, pack_body(Alert("kit", "x")))
        header = BatchHeader("K2", Stream.EVENTS, JOURNAL, 1)
        self.say((K1.journal(Stream.EVENTS), encode_batch(header, [row], encoding="json").payload))


class ReportsNothing(Unit):
    def report(self) -> None:
        pass


class IgnoresOrders(Unit):
    def order(self, name: str, given: dict[str, Any]) -> None:
        pass


def played(kind: type[Unit]) -> dict[str, str]:
    unit: Unit
    kit = KitDispatch(K1, lambda *said: unit.take(*said))  # noqa: PLW0108  # it is made below
    unit = kind(kit)
    unit.begin()
    for step in kit.steps():
        step.seen()
    return kit.judge()


def test_a_unit_that_keeps_the_contract_passes() -> None:
    problems = played(Unit)
    assert problems == {}
    assert report(problems, SENTENCES).count("pass  ") == len(SENTENCES)


@pytest.mark.parametrize(
    ("kind", "sentences"),
    [
        (NeverBorn, {"birth"}),
        (ForgetsTheId, {"replay"}),
        (AnswersNothing, {"replay", "answer", "report"}),
        (ReplaysWithoutTheFlag, {"flag"}),
        (ReplaysSomethingElse, {"number"}),
        (AcceptsWhatItHasNot, {"partly", "beyond", "journal"}),
        (AnswersForAnyJournal, {"journal"}),
        (DiesOfRubbish, {"malformed", "unknown"}),
        (SwallowsRubbish, {"malformed"}),
        (ReadsOneFormOnly, {"forms"}),
        (KnowsNoLaterKeys, {"later"}),
        (DoesEverythingTwice, {"twice"}),
        (InventsAPlace, {"place"}),
        (RetainsItsJournal, {"kept"}),
        (SpeaksForAnother, {"readable"}),
        (ReportsNothing, {"report"}),
        (IgnoresOrders, {"assign", "cancel", "message", "verdict"}),
    ],
)
def test_a_broken_unit_fails_by_the_sentence_that_it_breaks(kind: type[Unit], sentences: set[str]) -> None:
    problems = played(kind)
    assert sentences <= problems.keys()
    for sentence in sentences:
        assert f"FAIL  {sentence}" in report(problems, SENTENCES)


def test_a_unit_without_a_press_is_told_what_was_not_tried() -> None:
    class Silent(Unit):
        def begin(self) -> None:
            self.say(self.voice.link(3, online=True, events_seq=0), retained=True)

    problems = played(Silent)
    assert problems
    assert all(why.startswith(NOT_TRIED) for why in problems.values())
    assert "FAIL" not in report(problems, SENTENCES)
