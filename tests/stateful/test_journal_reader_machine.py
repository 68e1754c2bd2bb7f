"""Whatever is lost, repeated or evicted: a reader ends with every record once, or knows that it is gone."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.domain.record import Alert, Gap, Kind, Stream
from agent.domain.state import LinkState
from agent.reader.journal_reader import JournalReader
from agent.wire.body import pack_body
from agent.wire.codec import BatchHeader, JournalRecord, encode_batch, encode_state
from agent.wire.row import Row
from agent.wire.topics import Topics

UNIT = Topics("boston-ems", "A7")


class ReaderMachine(RuleBasedStateMachine):
    """A unit with a journal, a broker that forgets, and a reader that wants everything."""

    def __init__(self) -> None:
        super().__init__()
        self.journal: dict[int, Row] = {}
        self.next_seq = 1
        self.sent_through = 0
        self.reader = JournalReader(want_history=True)
        self.delivered: list[int] = []
        self.told_gone: set[int] = set()
        self.restarted = False
        self.now_s = 0.0

    @rule(count=st.integers(1, 5))
    def append(self, count: int) -> None:
        for _ in range(count):
            self.journal[self.next_seq] = self._row(self.next_seq, None)
            self.next_seq += 1

    @rule(count=st.integers(1, 6), arrives=st.booleans())
    def send(self, count: int, arrives: bool) -> None:
        rows = [row for seq, row in sorted(self.journal.items()) if seq > self.sent_through][:count]
        if rows:
            self.sent_through = max(row.seq for row in rows)
            if arrives:
                self._deliver(rows, replay=False)

    @rule(back=st.integers(1, 8))
    def send_again_after_a_reconnect(self, back: int) -> None:
        rows = [
            row
            for seq, row in sorted(self.journal.items())
            if self.sent_through - back < seq <= self.sent_through
        ]
        if rows:
            self._deliver(rows, replay=False)

    @rule()
    def unit_comes_online(self) -> None:
        self.reader.feed(UNIT.state("link"), self._birth())

    @rule(back=st.integers(1, 10), length=st.integers(1, 6))
    def evict(self, back: int, length: int) -> None:
        first = max(1, self.next_seq - back)
        seqs = range(first, min(first + length, self.next_seq))
        if seqs and all(seq in self.journal and self.journal[seq].kind == Kind.ALERT for seq in seqs):
            for seq in seqs:
                del self.journal[seq]
            self.journal[first] = self._row(first, seqs[-1])

    @rule(seconds=st.integers(0, 700), arrives=st.booleans())
    def answer(self, seconds: int, arrives: bool) -> None:
        self.now_s += seconds
        for ask in self.reader.asks(self.now_s):
            assert ask.request.last < self.next_seq, "nothing is asked for that there never was"
            if arrives:
                self._answer(ask.request.first, ask.request.last)

    @rule()
    def restart_reader(self) -> None:
        self.restarted = True
        cursors = self.reader.export()
        self.reader = JournalReader(want_history=True)
        self.reader.restore(cursors)

    @invariant()
    def nothing_twice(self) -> None:
        assert len(self.delivered) == len(set(self.delivered))

    def teardown(self) -> None:
        self.append(1)
        while self.sent_through < self.next_seq - 1:
            self.send(100, arrives=False)
        self.unit_comes_online()
        self.answer(0, arrives=True)
        for _ in range(200):
            self.now_s += 700
            asks = self.reader.asks(self.now_s)
            if not asks:
                break
            for ask in asks:
                self._answer(ask.request.first, ask.request.last)
        assert self.reader.counts.holes_open == 0
        assert set(self.delivered) | self.told_gone == set(range(1, self.next_seq))
        if not self.restarted:
            assert self.reader.counts.accounted == self.next_seq - 1
        (receipt,) = self.reader.receipts(UNIT)
        assert receipt.through_seq == self.next_seq - 1

    def _birth(self) -> bytes:
        link = LinkState(1, None, 7, True, "0" * 32, 1, 1, "0.1", 5, events_seq=self.sent_through)
        return encode_state(link).payload

    def _answer(self, first: int, last: int) -> None:
        rows = [
            row
            for seq, row in sorted(self.journal.items())
            if first <= seq <= last or (row.kind == Kind.GAP and seq < first <= row.boottime_ms)
        ]
        if rows:
            self._deliver(rows, replay=True)

    def _deliver(self, rows: list[Row], *, replay: bool) -> None:
        payload = encode_batch(BatchHeader("A7", Stream.EVENTS, 1, 1, replay=replay), rows).payload
        for record in self._fed(payload):
            if isinstance(record.body, Gap):
                self.told_gone |= set(range(record.seq, record.body.last_seq + 1))
            else:
                self.delivered.append(record.seq)

    def _fed(self, payload: bytes) -> list[JournalRecord]:
        return self.reader.feed(UNIT.journal(Stream.EVENTS), payload)

    @staticmethod
    def _row(seq: int, gap_to: int | None) -> Row:
        body = Alert("a", "b") if gap_to is None else Gap(gap_to, "evicted", ())
        kind = Kind.ALERT if gap_to is None else Kind.GAP
        return Row(seq, kind, 1, seq if gap_to is None else gap_to, None, 0, None, pack_body(body))


TestReaderMachine = ReaderMachine.TestCase
TestReaderMachine.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
