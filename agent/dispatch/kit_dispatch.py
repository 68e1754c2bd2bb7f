"""The conformance kit's other half: plays dispatch against somebody's unit, and judges what it does.

Each step says something to the unit and names what must be seen before the next one. Whatever the unit says
at any time is read as a reader does: what can not be read, contradicts itself, or is kept by the broker
although it must not be, fails the sentence that forbids it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack

from agent.dispatch.kit import NOT_TRIED
from agent.domain.record import CallRecord, Gap, MessageRecord, Outcome, StatusChange, Stream, Verdict
from agent.domain.state import LinkState, LocationState, StatusState
from agent.wire.batch import CodecError, JournalRecord
from agent.wire.codec import decode_batch, decode_state
from agent.wire.reader_request import RefusalReason, ReplayRequest, Reply, decode_reply, encode_map
from agent.wire.topics import REPLAY, REPORT_NOW, Area, Topics, parse_topic

SENTENCES = {
    "birth": "A retained `state/link` says online, its session and the journal. [MDT-S-01]",
    "readable": "Every payload is what its topic promises, and names its own unit. [MDT-B-02]",
    "kept": "States are retained; journal and answers never are.",
    "place": "Without a fix there is no position; it is never 0/0. [MDT-S-03]",
    "number": "A number stands for one record for ever. [MDT-R-05]",
    "replay": "A replay of what it has is accepted with first, last and its id. [MDT-Q-02] [MDT-Q-03]",
    "flag": "What comes by request is flagged `replay`, and is what was sent before. [MDT-Q-03]",
    "forms": "A request is taken as msgpack and as JSON. [MDT-F-01]",
    "later": "Unknown keys of a request are ignored. [MDT-Q-01]",
    "partly": "A replay beyond the newest record is answered `partly` with its last. [MDT-Q-04]",
    "beyond": "A replay wholly beyond it is refused as `beyond_end`, with the newest. [MDT-Q-04]",
    "journal": "A replay of another journal is refused as `other_journal`, naming its own. [MDT-Q-05]",
    "malformed": "What can not be read is refused as `malformed`. [MDT-Q-06]",
    "answer": "A command that it does not do is answered, too. [MDT-Q-02]",
    "unknown": "A command and a receipt of a later version harm nothing. [MDT-T-02] [MDT-Q-07]",
    "report": "A report is answered, and the states come anew.",
    "assign": "A call that came is told by a `call` record with the command's id.",
    "twice": "A command that comes twice is done once.",
    "cancel": "A call that is taken back is told by a `call` record.",
    "message": "A message that came is told by a `message` record with its id.",
    "verdict": "Dispatch's answer to a status is kept as an `answer` record.",
}
INCIDENT = "KIT-1"
RUBBISH = (b"", b"\x1f\x8b rubbish", b'{"stream":"trail"', b"\x93\x01\x02\x03", b"[" * 9_000, b"\xc1" * 5000)
_BEYOND = 1_000

Send = Callable[[str, bytes], object]


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was said, and what is to be seen.

    Attributes:
        name: for whoever watches.
        seen: whether it was; asked again and again until a time is over.
    """

    name: str
    seen: Callable[[], bool]


@dataclass(slots=True)
class KitDispatch:
    """Dispatch. `steps` yields what was said; `hear` takes what the unit says.

    Attributes:
        topics: of the unit that is tried.
        send: topic and payload, at QoS 1.
        problems: what is wrong so far, by sentence.
    """

    topics: Topics
    send: Send
    problems: dict[str, str] = field(default_factory=dict)
    _link: LinkState | None = None
    _retained: set[str] = field(default_factory=set)
    _records: dict[tuple[int, str, int], JournalRecord] = field(default_factory=dict)
    _again: set[tuple[str, int]] = field(default_factory=set)
    _replies: list[Reply] = field(default_factory=list)
    _states: dict[str, int] = field(default_factory=dict)
    _pressed: int = 0
    _pressed_in: int | None = None
    _next: int = 0

    # ------------------------------------------------------------------ saying

    def steps(self) -> Iterator[Step]:
        """Play; the caller waits after each step until it is seen, or no longer."""
        yield Step("look at what the broker keeps", lambda: self._link is not None)
        if self._link is None or not self._link.online:
            self._fail("birth", "there is no retained state/link that says online")
            return
        yield Step("wait for a record", lambda: bool(self._newest(Stream.EVENTS)))
        yield from self._replays()
        yield from self._refusals()
        yield from self._harmless()
        yield from self._orders()

    def _replays(self) -> Iterator[Step]:
        newest = self._newest(Stream.EVENTS)
        if not newest:
            for name in ("replay", "flag", "forms", "later", "partly", "verdict"):
                self._fail(name, f"{NOT_TRIED}the unit has no record of the events")
            return
        first = max(1, newest - 4)
        for name, as_json, more in (
            ("replay", False, {}),
            ("forms", True, {}),
            ("later", False, {"later": [1]}),
        ):
            self._again.clear()
            asked = self._ask_replay(first, newest, as_json=as_json, more=more)
            wanted = {("events", seq) for seq in range(first, newest + 1)}
            yield Step(
                f"ask for events {first} to {newest} again ({name})",
                lambda one=asked, them=wanted: self._reply_to(one) is not None and them <= self._again,  # type: ignore[misc]
            )
            self._check_replay(name, asked, first, newest)
            if not wanted <= self._again:
                missing = min(wanted - self._again)[1]
                self._fail("flag" if name == "replay" else name, f"events {missing} did not come flagged")
        asked = self._ask_replay(newest, newest + _BEYOND)
        yield Step("ask beyond the newest record", lambda: self._reply_to(asked) is not None)
        self._check(
            "partly", asked, (Outcome.PARTLY,), None, lambda one: one.last is not None and one.last >= newest
        )

    def _refusals(self) -> Iterator[Step]:
        assert self._link is not None
        beyond = self._newest(Stream.EVENTS) + _BEYOND * 1000
        asked = self._ask_replay(beyond, beyond + 5)
        yield Step("ask wholly beyond it", lambda: self._reply_to(asked) is not None)
        refused = (Outcome.REFUSED,)
        self._check("beyond", asked, refused, RefusalReason.BEYOND_END, lambda one: one.last is not None)
        journal = self._link.journal
        asked = self._ask_replay(1, 2, journal=(journal or 0) ^ 1)
        yield Step("ask for another journal", lambda: self._reply_to(asked) is not None)
        self._check(
            "journal", asked, refused, RefusalReason.OTHER_JOURNAL, lambda one: one.journal == journal
        )
        before = self._refused_as(RefusalReason.MALFORMED)
        for payload in RUBBISH:
            self.send(self.topics.command(REPLAY), payload)
        yield Step(
            "say what is no request",
            lambda: self._refused_as(RefusalReason.MALFORMED) >= before + len(RUBBISH),
        )
        answered = self._refused_as(RefusalReason.MALFORMED) - before
        if answered < len(RUBBISH):
            self._fail("malformed", f"{answered} of {len(RUBBISH)} requests were refused as malformed")

    def _harmless(self) -> Iterator[Step]:
        asked = self._command("ping")
        yield Step("ask whether it is there", lambda: self._reply_to(asked, "ping") is not None)
        if self._reply_to(asked, "ping") is None:
            self._fail("answer", "command/ping was not answered, not even refused")
        root = self.topics.receipt.rpartition("/")[0]
        self.send(f"{root}/command/of-a-later-version", b'{"id":"kit"}')
        for receipt in (
            {"stream": "events", "through_seq": 1 << 40},
            {"stream": "events", "through_seq": 1 << 40, "journal": 1},
            {"stream": "later", "through_seq": 1, "journal": 1},
        ):
            self.send(self.topics.receipt, msgpack.packb(receipt))
        self.send(self.topics.receipt, b"\xc1\xc1")
        before, session = dict(self._states), None if self._link is None else self._link.session
        asked = self._command(REPORT_NOW)
        yield Step(
            "ask for a report",
            lambda: self._reply_to(asked, REPORT_NOW) is not None and self._states != before,
        )
        reply = self._reply_to(asked, REPORT_NOW)
        if self._link is None or not self._link.online or self._link.session != session:
            self._fail("unknown", "it left, or began anew, after what a later version may say")
        if reply is None or self._states == before:
            self._fail("report", "no answer" if reply is None else "no state came after it")

    def _orders(self) -> Iterator[Step]:
        call = {"incident": INCIDENT, "priority": "1", "address": "Kit street 1", "later": {"a": [1]}}
        asked = self._command("assign", call)
        yield Step("assign a call", lambda: bool(self._calls("received", asked)))
        if not self._calls("received", asked):
            self._fail("assign", f"no call record, step received, with request {asked}")
        self._command("assign", call, asked)
        text = self._command("message", {"text": "kit"})
        yield Step("assign it again, and send a message", lambda: bool(self._messages(text)))
        if not self._messages(text):
            self._fail("message", f"no message record of {text}")
        if len(self._calls("received", asked)) > 1:
            self._fail("twice", f"{len(self._calls('received', asked))} call records of one command")
        cancel = self._command("cancel", {"incident": INCIDENT, "reason": "kit"})
        yield Step("take the call back", lambda: bool(self._calls("cancelled", cancel)))
        if not self._calls("cancelled", cancel):
            self._fail("cancel", f"no call record, step cancelled, with request {cancel}")
        status = max(
            (one for one in self._records.values() if isinstance(one.body, StatusChange)),
            key=lambda one: one.seq,
            default=None,
        )
        if status is None:
            self._fail("verdict", f"{NOT_TRIED}no status was pressed")
            return
        fields = {"journal": status.journal, "stream": "events", "seq": status.seq, "verdict": "accepted"}
        token = f"kit{self._next}"
        self._command("answer", fields | {"token": token})
        yield Step("accept a status", lambda: self._verdict(status.seq, token))
        if not self._verdict(status.seq, token):
            self._fail("verdict", f"no answer record of events {status.seq}")

    def _ask_replay(
        self,
        first: int,
        last: int,
        *,
        journal: int | None = None,
        as_json: bool = False,
        more: dict[str, Any] | None = None,
    ) -> str:
        asked = self._new_id()
        present = None if self._link is None else self._link.journal
        request = ReplayRequest(Stream.EVENTS, first, last, present if journal is None else journal, asked)
        payload = encode_map(request, "json" if as_json else "msgpack").payload
        if more:
            payload = msgpack.packb(msgpack.unpackb(payload) | more)
        self.send(self.topics.command(REPLAY), payload)
        return asked

    def _command(self, name: str, fields: dict[str, Any] | None = None, given: str | None = None) -> str:
        asked = given or self._new_id()
        told = {"id": asked, "by": "kit"} | (fields or {})
        self.send(self.topics.command(name), json.dumps(told).encode())
        return asked

    def _new_id(self) -> str:
        self._next += 1
        return f"kit-{self._link.session if self._link else 0}-{self._next}"

    # ------------------------------------------------------------------ hearing

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """A message of the unit's topics."""
        parsed = parse_topic(topic)
        if parsed is None or parsed.topics != self.topics:
            return
        if retained and parsed.area in (Area.JOURNAL, Area.REPLY):
            self._fail("kept", f"{topic} is retained")
        try:
            if parsed.area is Area.STATE:
                self._state(parsed.name, payload, retained=retained)
            elif parsed.area is Area.JOURNAL:
                self._batch(parsed.name, payload)
            elif parsed.area is Area.REPLY:
                reply = decode_reply(payload)
                if reply.command != parsed.name:
                    self._fail("readable", f"{topic} answers {reply.command!r:.40}")
                self._replies.append(reply)
        except CodecError as error:
            self._fail("readable", f"{topic}: {error}")

    def _state(self, name: str, payload: bytes, *, retained: bool) -> None:
        self._states[name] = self._states.get(name, 0) + 1
        if retained:
            self._retained.add(name)
        if not payload:
            return
        state = decode_state(name, payload)
        if isinstance(state, LinkState):
            if self._link is None and not retained:
                self._fail("kept", "state/link is not retained")
            if state.online or self._link is None or self._link.session == state.session:
                self._link = state
        elif isinstance(state, StatusState):
            self._pressed = max(state.seq or 0, state.emergency_seq or 0)
            self._pressed_in = state.journal
        elif isinstance(state, LocationState):
            for position in (state.position, state.last_known):
                if position is not None and position.lat_deg == 0 and position.lon_deg == 0:
                    self._fail("place", "state/location says 0/0")

    def _batch(self, name: str, payload: bytes) -> None:
        batch = decode_batch(payload, self.topics.unit)
        if batch.header.stream.value != name:
            self._fail("readable", f"a batch of {batch.header.stream.value} on the topic of {name}")
        for record in batch.records:
            key = record.journal, name, record.seq
            known = self._records.setdefault(key, record)
            if isinstance(known.body, Gap) or isinstance(record.body, Gap):
                self._records[key] = record
            elif _identity(known) != _identity(record):
                self._fail("number", f"{name} {record.seq} was something else before")
            if record.replay:
                covered = record.body.last_seq if isinstance(record.body, Gap) else record.seq
                self._again |= {(name, seq) for seq in range(record.seq, min(covered, record.seq + 5000) + 1)}

    # ------------------------------------------------------------------ judging

    def judge(self) -> dict[str, str]:
        """What is wrong or was not tried, by sentence; every sentence that is not there passed."""
        if not self._replies:
            self._fail("answer", "nothing at all was answered")
        return dict(self.problems)

    def _fail(self, sentence: str, why: str) -> None:
        self.problems.setdefault(sentence, why)

    def _check_replay(self, name: str, asked: str, first: int, last: int) -> None:
        self._check(
            name, asked, (Outcome.ACCEPTED,), None, lambda one: (one.first, one.last) == (first, last)
        )

    def _check(
        self,
        name: str,
        asked: str,
        outcomes: tuple[Outcome, ...],
        reason: RefusalReason | None,
        more: Callable[[Reply], bool],
    ) -> None:
        reply = self._reply_to(asked)
        if reply is None:
            self._fail(name, "no answer with the request's id on reply/replay")
        elif (
            reply.outcome not in outcomes
            or (reason is not None and reply.reason != reason)
            or not more(reply)
        ):
            said = json.loads(encode_map(reply, "json").payload)
            self._fail(name, f"the answer is {said}")

    def _reply_to(self, asked: str, name: str = REPLAY) -> Reply | None:
        return next((one for one in self._replies if (one.id, one.command) == (asked, name)), None)

    def _refused_as(self, reason: RefusalReason) -> int:
        return sum(one.outcome == Outcome.REFUSED and one.reason == reason for one in self._replies)

    def _newest(self, stream: Stream) -> int:
        journal = None if self._link is None else self._link.journal
        seen = [seq for j, name, seq in self._records if (j, name) == (journal, stream.value)]
        told = 0
        if stream is Stream.EVENTS and self._link is not None:
            told = max(self._link.events_seq or 0, self._pressed if self._pressed_in == journal else 0)
        return max([told, *seen])

    def _calls(self, step: str, asked: str) -> list[CallRecord]:
        bodies = [one.body for one in self._records.values()]
        return [
            one for one in bodies if isinstance(one, CallRecord) and (one.step, one.request) == (step, asked)
        ]

    def _messages(self, asked: str) -> bool:
        bodies = (one.body for one in self._records.values())
        return any(isinstance(one, MessageRecord) and one.message == asked for one in bodies)

    def _verdict(self, seq: int, token: str) -> bool:
        bodies = (one.body for one in self._records.values())
        return any(isinstance(one, Verdict) and (one.of_seq, one.reason) == (seq, token) for one in bodies)


def _identity(record: JournalRecord) -> tuple[Any, ...]:
    """What a number stands for; its UTC may become a better one."""
    return record.boot, record.boottime_ms, record.kind, record.body
