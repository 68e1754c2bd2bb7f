"""The conformance kit: a scripted unit that says everything a consumer must cope with, and a judge.

The unit plays its steps, answers replay requests as a real one does, and watches what it is asked for and
what is confirmed. In the end the consumer says what it has, as one JSON file, and is judged sentence by
sentence:

    {"records": [[journal, "events", seq, "status"], ...], "online": true, "status": "on_scene"}

`kind` is the token, or `kind_N` for a number that the consumer does not know.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import Alert, Body, Gap, Kind, StatusChange, Stream
from agent.domain.stamp import UtcSource
from agent.wire.batch import BatchHeader, CodecError
from agent.wire.body import pack_body
from agent.wire.codec import encode_batch
from agent.wire.reader_request import decode_receipt, decode_replay_request
from agent.wire.row import Row
from agent.wire.topics import Topics

OLD, NEW = 0x0A11CE01, 0x0B0B0002
"""The unit's journals: the store was replaced on the way."""
UNKNOWN_KIND = 999
FUTURE_MS = 3_471_292_800_000
"""2080-01-01: a receiver with a wrong date."""
MOST_REQUESTS = 40
"""More replay requests than this for a handful of holes are a flood."""

SENTENCES = {
    "once": "A record that came twice counts once. [MDT-R-02]",
    "hole": "Numbers that were passed over are asked for, and kept when they come. [MDT-R-07]",
    "gap": "What a gap record covers is not missing. [MDT-R-03]",
    "trimmed": "What the unit no longer has is answered by a gap record. [MDT-R-03]",
    "opaque": "A record of an unknown kind takes its number and costs no other. [MDT-V-01]",
    "fields": "Trailing fields that are not known are ignored. [MDT-V-02]",
    "malformed": "A payload that is none is refused as a whole and harms no other.",
    "future": "A record with a time of the future is a record.",
    "journal": "Another journal has sequences of its own: its first numbers are no repeats. [MDT-R-01]",
    "head": "A number that a state tells of and that does not come is asked for. [MDT-R-08]",
    "will": "A will whose session is not that of the last birth is old news. [MDT-S-01]",
    "status": "The newest state wins.",
    "receipt": "A receipt never goes beyond what came without holes. [MDT-R-10]",
    "calm": "Asking is not a flood. [MDT-R-07]",
}

NOT_TRIED = "not tried: "
"""How the reason of a judgement begins that is none."""

Send = Callable[[str, bytes, bool], object]
"""Topic, payload and whether it is retained."""
Identity = tuple[int, str, int]


@dataclass(slots=True)
class _Told:
    """One record of the script.

    Attributes:
        kind: its token.
        sentence: by which the consumer must have it.
        row: as it is encoded; None for one that a gap stands for.
    """

    kind: str
    sentence: str
    row: Row | None = None


@dataclass(slots=True)
class KitUnit:
    """The unit. `steps` yields between messages, so that a consumer may act in between.

    Attributes:
        topics: whose it plays.
        requests: replay requests that came: journal, stream, first, last.
        problems: what was wrong already while it played, by sentence.
    """

    topics: Topics
    send: Send
    now_ms: int
    requests: list[tuple[int | None, str, int, int]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    _told: dict[Identity, _Told] = field(default_factory=dict)
    _sent: set[Identity] = field(default_factory=set)
    _gone: dict[Identity, int] = field(default_factory=dict)
    _journal: int = OLD

    def steps(self) -> Iterator[str]:
        """Play; yields the name of each step after it was sent."""
        old, new = UnitVoice(self.topics, OLD), UnitVoice(self.topics, NEW)
        self._say(old.link(1, online=True), retain=True)
        self._events(
            1,
            [("status", StatusChange("available", None, "k", 1, 1)), ("alert", Alert("kit", "one"))],
            "once",
        )
        yield "a birth and two events"
        self._again(Stream.EVENTS, 1, 2)
        self._again(Stream.EVENTS, 2, 2)
        yield "the same again, as after a broken connection"
        self._trail(1, 10, "once")
        self._trail(11, 5, "hole", silent=True)
        self._trail(16, 5, "once")
        yield "a trail with a hole of five"
        self._gap(21, 25)
        self._trail(26, 2, "gap")
        yield "a gap record for five, and what follows"
        self._future_kinds(3)
        yield "a kind and fields of a later version"
        self._say((self.topics.journal(Stream.EVENTS), b"\x1fnot a batch"))
        self._say((self.topics.journal(Stream.EVENTS), b'{"version":1,"records":[[[[[['))
        self._events(6, [("alert", Alert("kit", "after rubbish"))], "malformed")
        yield "two malformed payloads and a good one"
        self._events(
            7, [("status", StatusChange("en_route", "available", "k", 2, 1))], "future", utc_ms=FUTURE_MS
        )
        self._gone[OLD, "events", 8] = 8
        self._told[OLD, "events", 8] = _Told("gap", "trimmed")
        self._events(9, [("alert", Alert("kit", "after what is trimmed"))], "trimmed")
        yield "a record of the future, and a hole that can not be filled"
        self._journal = NEW
        self._say(new.link(2, online=True), retain=True)
        self._events(1, [("status", StatusChange("on_scene", None, "k", 1, 2))], "journal")
        self._events(2, [("alert", Alert("kit", "new journal"))], "journal")
        yield "a new journal from 1 on"
        self._say(old.link(1, online=False), retain=True)
        self._say(new.link(2, online=True), retain=True)
        self._say(old.link(1, online=False))
        yield "a late will of the connection before"
        self._events(
            3, [("status", StatusChange("transporting", "on_scene", "k", 2, 2))], "head", silent=True
        )
        self._say(new.status_state("transporting", self.now_ms, 3), retain=True)
        yield "a state that tells of a press that never came"

    def hear(self, topic: str, payload: bytes) -> None:
        """A message for the unit."""
        try:
            if topic == self.topics.receipt:
                self._check_receipt(payload)
            elif topic == self.topics.command("replay"):
                self._replay(payload)
        except CodecError as error:
            self.problems.setdefault("calm", f"a request that can not be read: {error}")

    @property
    def expected(self) -> dict[str, Any]:
        """What a consumer has in the end."""
        records = [
            [journal, stream, seq, told.kind] for (journal, stream, seq), told in sorted(self._told.items())
        ]
        return {"records": records, "online": True, "status": "transporting"}

    def complete(self) -> bool:
        """Whether everything was sent, asked for or not: nothing is left that a good consumer waits for."""
        return all(key in self._sent for key in self._told)

    def judge(self, have: Any) -> dict[str, str]:
        """What is wrong, by sentence; every sentence that is not there passed."""
        found = dict(self.problems)
        try:
            records = Counter((int(j), str(s), int(q), str(k)) for j, s, q, k in have["records"])
        except (KeyError, TypeError, ValueError):
            return dict.fromkeys(SENTENCES, "the file is not of the form that is asked for")
        for one, times in records.items():
            if times > 1:
                found.setdefault("once", f"{one} is there {times} times")
        there = set(records)
        for (journal, stream, seq), told in sorted(self._told.items()):
            if (journal, stream, seq, told.kind) not in there:
                found.setdefault(
                    told.sentence, f"journal {journal:#x} {stream} {seq} ({told.kind}) is not there"
                )
        known = {(journal, stream, seq, told.kind) for (journal, stream, seq), told in self._told.items()}
        for one in sorted(there - known):
            found.setdefault("malformed", f"{one} was never said")
        if have.get("online") is not True:
            found.setdefault("will", "the unit counts as offline")
        if have.get("status") != "transporting":
            found.setdefault("status", f"its status counts as {have.get('status')!r}")
        if len(self.requests) > MOST_REQUESTS:
            found.setdefault("calm", f"{len(self.requests)} replay requests")
        return found

    # ------------------------------------------------------------------ saying

    def _events(
        self,
        first: int,
        bodies: list[tuple[str, Body]],
        sentence: str,
        *,
        utc_ms: int = 0,
        silent: bool = False,
    ) -> None:
        rows = [
            Row(
                first + at,
                int(Kind[kind.upper()]),
                1,
                1000 * (first + at),
                utc_ms or self.now_ms,
                3,
                500,
                pack_body(body),
            )
            for at, (kind, body) in enumerate(bodies)
        ]
        for row, (kind, _) in zip(rows, bodies, strict=True):
            self._told[self._journal, "events", row.seq] = _Told(kind, sentence, row)
        if not silent:
            self._send_rows(Stream.EVENTS, rows)

    def _trail(self, first: int, count: int, sentence: str, *, silent: bool = False) -> None:
        rows = [
            Row(
                seq,
                int(Kind.TELEMETRY),
                1,
                1000 * seq,
                self.now_ms,
                int(UtcSource.GNSS),
                500,
                b"\x91\x81\xa5Speed\x05",
            )
            for seq in range(first, first + count)
        ]
        for row in rows:
            self._told[self._journal, "trail", row.seq] = _Told("telemetry", sentence, row)
        if not silent:
            self._send_rows(Stream.TRAIL, rows)

    def _gap(self, first: int, last: int) -> None:
        body = pack_body(Gap(last, "thinned", (("telemetry", last - first + 1),)))
        row = Row(first, int(Kind.GAP), 1, 1, self.now_ms, int(UtcSource.GNSS), 500, body)
        self._told[self._journal, "trail", first] = _Told("gap", "gap", row)
        self._send_rows(Stream.TRAIL, [row])

    def _future_kinds(self, first: int) -> None:
        status = pack_body(StatusChange("available", None, "k", 5, 1))
        count = (status[0] & 0x0F) + 1
        more_fields = bytes([0x90 | 12]) + status[1:] + b"\xc0" * (12 - count) + b"\xa5later"
        rows = [
            Row(first, UNKNOWN_KIND, 1, 3, self.now_ms, 3, 500, b"\x92\x01\xa3new"),
            Row(first + 1, int(Kind.STATUS), 1, 4, self.now_ms, 3, 500, more_fields),
            Row(first + 2, int(Kind.ALERT), 1, 5, self.now_ms, 3, 500, pack_body(Alert("kit", "beside it"))),
        ]
        kinds = ((f"kind_{UNKNOWN_KIND}", "opaque"), ("status", "fields"), ("alert", "opaque"))
        for row, (kind, sentence) in zip(rows, kinds, strict=True):
            self._told[self._journal, "events", row.seq] = _Told(kind, sentence, row)
        self._send_rows(Stream.EVENTS, rows)

    def _again(self, stream: Stream, first: int, last: int) -> None:
        rows = [
            told.row
            for (_, s, seq), told in sorted(self._told.items())
            if s == stream.value and first <= seq <= last
        ]
        self._send_rows(stream, [row for row in rows if row is not None])

    def _send_rows(
        self, stream: Stream, rows: list[Row], *, journal: int | None = None, replay: bool = False
    ) -> None:
        journal = self._journal if journal is None else journal
        header = BatchHeader(self.topics.unit, stream, journal, 1, replay=replay)
        self._sent |= {(journal, stream.value, row.seq) for row in rows}
        self._say((self.topics.journal(stream), encode_batch(header, rows).payload))

    def _say(self, spoken: tuple[str, bytes], *, retain: bool = False) -> None:
        self.send(*spoken, retain)

    # ------------------------------------------------------------------ hearing

    def _replay(self, payload: bytes) -> None:
        request = decode_replay_request(payload)
        journal = self._journal if request.journal is None else request.journal
        stream = request.stream
        self.requests.append((request.journal, stream.value, request.first, request.last))
        if journal != self._journal:
            return  # of a store that is gone: nobody can answer
        rows = [
            told.row
            for (j, s, seq), told in sorted(self._told.items())
            if (j, s) == (journal, stream.value)
            and request.first <= seq <= request.last
            and told.row is not None
        ]
        for (j, s, seq), last in self._gone.items():
            if (j, s) == (journal, stream.value) and request.first <= seq <= request.last:
                body = pack_body(Gap(last, "trimmed", (("alert", 1),)))
                rows.append(Row(seq, int(Kind.GAP), 1, 1, None, 0, None, body))
        if rows:
            self._send_rows(stream, sorted(rows, key=lambda row: row.seq), journal=journal, replay=True)

    def _check_receipt(self, payload: bytes) -> None:
        receipt = decode_receipt(payload)
        if receipt.journal is None:
            return
        for journal, stream, seq in self._told:
            if (journal, stream) != (receipt.journal, receipt.stream.value) or seq > receipt.through_seq:
                continue
            if (journal, stream, seq) not in self._sent:
                self.problems.setdefault(
                    "receipt", f"{stream} through {receipt.through_seq}, but {seq} was never sent"
                )


def report(problems: dict[str, str], sentences: Mapping[str, str] = SENTENCES) -> str:
    """A line a sentence."""
    lines = []
    for name, sentence in sentences.items():
        why = problems.get(name)
        word = "pass" if why is None else "  - " if why.startswith(NOT_TRIED) else "FAIL"
        lines.append(f"{word}  {name:9}  {sentence}" + ("" if why is None else f"\n      {why}"))
    return "\n".join(lines) + "\n"


def read_have(text: str) -> Any:
    """What a consumer has. Raises ValueError when it is no JSON."""
    return json.loads(text)
