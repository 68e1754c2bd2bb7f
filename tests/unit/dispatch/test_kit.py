"""The kit passes a good consumer, and names the sentence that each broken one breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.dispatch.kit import SENTENCES, KitUnit, report
from agent.domain.record import Gap, Stream
from agent.domain.state import LinkState, StatusState
from agent.reader.journal_reader import JournalReader
from agent.wire.batch import CodecError, JournalRecord
from agent.wire.codec import decode_batch, decode_state
from agent.wire.reader_request import Receipt, ReplayRequest, encode_map
from agent.wire.topics import Topics, parse_topic

K1 = Topics("kit", "K1")
NOW_MS = 1_790_000_000_000


class Consumer:
    """A consumer on `agent.reader`; the broken ones differ in one thing each."""

    def __init__(self, tell: Callable[[str, bytes], None]) -> None:
        self.tell = tell
        self.reader = JournalReader(want_history=True)
        self.records: list[list[Any]] = []
        self.session: int | None = None
        self.online: bool | None = None
        self.status: str | None = None
        self.now_s = 0.0

    def take(self, topic: str, payload: bytes) -> None:
        parsed = parse_topic(topic)
        assert parsed is not None
        try:
            self.keep(self.reader.feed(topic, payload))
        except CodecError:
            return
        if parsed.area.value == "state":
            self.learn(decode_state(parsed.name, payload))

    def keep(self, records: list[JournalRecord]) -> None:
        self.records += [[one.journal, one.stream.value, one.seq, one.token] for one in records]

    def learn(self, state: Any) -> None:
        if isinstance(state, LinkState):
            if state.online:
                self.session = state.session
            if state.session == self.session:
                self.online = state.online
        elif isinstance(state, StatusState):
            self.status = state.status

    def tick(self) -> None:
        self.now_s += 11
        for ask in self.reader.asks(self.now_s):
            self.tell(ask.topic, encode_map(ask.request).payload)
        for receipt in self.reader.receipts(K1):
            self.tell(K1.receipt, encode_map(receipt).payload)

    @property
    def have(self) -> dict[str, Any]:
        return {"records": self.records, "online": self.online, "status": self.status}


class Doubles(Consumer):
    def take(self, topic: str, payload: bytes) -> None:
        parsed = parse_topic(topic)
        if parsed is not None and parsed.area.value == "journal":
            try:
                self.keep(decode_batch(payload, "K1").records)
            except CodecError:
                return
        super().take(topic, payload)


class NeverAsks(Consumer):
    def tick(self) -> None:
        pass


class IgnoresStates(Consumer):
    def take(self, topic: str, payload: bytes) -> None:
        parsed = parse_topic(topic)
        if parsed is None or parsed.area.value != "state":
            super().take(topic, payload)
        else:
            self.learn(decode_state(parsed.name, payload))


class BelievesEveryWill(Consumer):
    def learn(self, state: Any) -> None:
        super().learn(state)
        if isinstance(state, LinkState):
            self.online = state.online


class OneSequenceForAll(Consumer):
    def __init__(self, tell: Callable[[str, bytes], None]) -> None:
        super().__init__(tell)
        self.seen: set[tuple[str, int]] = set()

    def keep(self, records: list[JournalRecord]) -> None:
        fresh = [one for one in records if (one.stream.value, one.seq) not in self.seen]
        self.seen |= {(one.stream.value, one.seq) for one in fresh}
        super().keep(fresh)


class DropsTheFuture(Consumer):
    def keep(self, records: list[JournalRecord]) -> None:
        super().keep([one for one in records if (one.utc_ms or 0) < NOW_MS + 10**10])


class DropsUnknownKinds(Consumer):
    def keep(self, records: list[JournalRecord]) -> None:
        super().keep([one for one in records if one.token != "kind_999"])


class RefusesWholeBatches(Consumer):
    def take(self, topic: str, payload: bytes) -> None:
        parsed = parse_topic(topic)
        if parsed is not None and parsed.area.value == "journal":
            try:
                if any(one.token.startswith("kind_") for one in decode_batch(payload, "K1").records):
                    return
            except CodecError:
                return
        super().take(topic, payload)


class ForgetsGaps(Consumer):
    def keep(self, records: list[JournalRecord]) -> None:
        super().keep([one for one in records if not isinstance(one.body, Gap)])


class ConfirmsTooMuch(Consumer):
    def tick(self) -> None:
        highest = [one.highest for one in self.reader.export() if one.stream == "trail"]
        if highest:
            receipt = Receipt(Stream.TRAIL, max(highest), self.records[0][0])
            self.tell(K1.receipt, encode_map(receipt).payload)
        super().tick()


class Floods(Consumer):
    def tick(self) -> None:
        for _ in range(10):
            self.tell(K1.command("replay"), encode_map(ReplayRequest(Stream.TRAIL, 1, 5)).payload)
        super().tick()


class NoticesNoNewStatus(Consumer):
    def learn(self, state: Any) -> None:
        if not isinstance(state, StatusState):
            super().learn(state)


class Invents(Consumer):
    @property
    def have(self) -> dict[str, Any]:
        good = super().have
        return good | {"records": [*good["records"], [1, "events", 1, "status"]]}


def played(kind: type[Consumer]) -> dict[str, str]:
    consumer: Consumer
    kit = KitUnit(K1, lambda topic, payload, _: consumer.take(topic, payload), NOW_MS)
    consumer = kind(kit.hear)
    for _ in kit.steps():
        consumer.tick()
    for _ in range(8):
        consumer.tick()
    return kit.judge(consumer.have)


def test_the_projects_own_reader_passes() -> None:
    problems = played(Consumer)
    assert problems == {}
    assert report(problems).count("pass  ") == len(SENTENCES)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Doubles, "once"),
        (NeverAsks, "hole"),
        (IgnoresStates, "head"),
        (BelievesEveryWill, "will"),
        (OneSequenceForAll, "journal"),
        (DropsTheFuture, "future"),
        (DropsUnknownKinds, "opaque"),
        (RefusesWholeBatches, "opaque"),
        (ForgetsGaps, "gap"),
        (ConfirmsTooMuch, "receipt"),
        (Floods, "calm"),
        (NoticesNoNewStatus, "status"),
        (Invents, "malformed"),
    ],
)
def test_a_broken_consumer_fails_by_the_sentence_that_it_breaks(kind: type[Consumer], sentence: str) -> None:
    problems = played(kind)
    assert sentence in problems
    assert f"FAIL  {sentence}" in report(problems)


@pytest.mark.parametrize("have", [None, [], {"records": 5}, {"records": [[1]]}])
def test_a_file_of_another_form_fails(have: Any) -> None:
    assert KitUnit(K1, lambda *_: None, NOW_MS).judge(have)
