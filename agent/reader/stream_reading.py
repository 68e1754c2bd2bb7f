"""One stream as a reader has it so far: what came, what is missing, and what to ask for next."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field

from agent.wire.batch import JournalRecord
from agent.wire.interval_set import IntervalSet

MAX_HOLES = 2_000
"""Intervals remembered for each stream; beyond them the oldest is given up, and counted."""
MAX_REQUEST_RECORDS = 5_000
RETRY_MIN_S = 10.0
RETRY_MAX_S = 600.0
REMEMBERED = 512
"""Newest records of which a reader knows what they were; of older ones it knows the boot."""
MAX_BOOTS = 64
_MAX_CONFLICTS = 64


class Witness:
    """What was read under which number, so that the same number with something else is noticed.

    It takes 2 KiB a stream. A record is told from another by its boot, boot time, kind and body; its UTC may
    differ, since a record that is sent again may have got a better one.
    """

    def __init__(self) -> None:
        self._digests = array("I", bytes(4 * REMEMBERED))
        self._highest = 0
        self._boots: list[tuple[int, int, int]] = []
        self._conflicts: dict[tuple[int, int], None] = {}

    def note(self, record: JournalRecord) -> None:
        """Remember a record that was new."""
        seq = record.seq
        if seq > self._highest:
            for passed in range(max(self._highest + 1, seq - REMEMBERED), seq):
                self._digests[passed % REMEMBERED] = 0
            self._highest = seq
        if seq > self._highest - REMEMBERED:
            self._digests[seq % REMEMBERED] = _digest(record)
        self._note_boot(seq, record.boot)

    def contradicts(self, record: JournalRecord) -> bool:
        """Whether another record was read under this number; False when that can not be told."""
        seq = record.seq
        if self._highest - REMEMBERED < seq <= self._highest:
            known = self._digests[seq % REMEMBERED]
            if known:
                return known != _digest(record)
        at = bisect_right(self._boots, seq, key=lambda span: span[0]) - 1
        if at < 0:
            return False
        first, last, boot = self._boots[at]
        return first <= seq <= last and boot != record.boot

    def conflict_is_new(self, record: JournalRecord) -> bool:
        """Whether this contradiction was not handed on before; remembers a bounded number of them."""
        key = record.seq, _digest(record)
        if key in self._conflicts:
            return False
        self._conflicts[key] = None
        if len(self._conflicts) > _MAX_CONFLICTS:
            del self._conflicts[next(iter(self._conflicts))]
        return True

    @property
    def boots(self) -> tuple[tuple[int, int, int], ...]:
        """(first, last, boot) of what was read of each boot."""
        return tuple(self._boots)

    def restore(self, boots: tuple[tuple[int, int, int], ...]) -> None:
        """Go on from exported boots."""
        self._boots = [(first, last, boot) for first, last, boot in boots]

    def _note_boot(self, seq: int, boot: int) -> None:
        spans = self._boots
        at = bisect_right(spans, seq, key=lambda span: span[0]) - 1
        if at >= 0 and spans[at][2] == boot:
            first, last, _ = spans[at]
            spans[at] = first, max(last, seq), boot
        elif at + 1 < len(spans) and spans[at + 1][2] == boot:
            spans[at + 1] = seq, spans[at + 1][1], boot
        elif at < 0 or seq > spans[at][1]:
            spans.insert(at + 1, (seq, seq, boot))
            if len(spans) > MAX_BOOTS:
                del spans[0]


def _digest(record: JournalRecord) -> int:
    return hash((record.boot, record.boottime_ms, record.kind, record.body)) & 0xFFFF_FFFF or 1


@dataclass(slots=True)
class _Asked:
    """The request for holes that is under way."""

    first: int
    last: int
    due_s: float
    wait_s: float


@dataclass(slots=True)
class StreamReading:
    """What a reader knows of one stream of one journal of one unit.

    Attributes:
        ask_from: holes below this sequence number are not asked for; None before the first contact that was
            not an answer to some reader's request.
        highest: highest sequence number seen or told gone.
        holes: what is missing below `highest`.
        witness: what was read under which number.
    """

    ask_from: int | None
    highest: int
    holes: IntervalSet = field(default_factory=IntervalSet)
    witness: Witness = field(default_factory=Witness)
    _asked: _Asked | None = None

    @property
    def missing(self) -> int:
        """How many sequence numbers are missing and wanted."""
        return 0 if self.ask_from is None else self.holes.count(self.ask_from)

    @property
    def through(self) -> int:
        """Nothing that is wanted is missing up to here."""
        hole = self._lowest_hole()
        return self.highest if hole is None else hole[0] - 1

    def take(self, seq: int) -> bool:
        """Whether the record `seq` is new; marks it as seen."""
        if seq > self.highest:
            self.holes.add(self.highest + 1, seq - 1)
            self.highest = seq
            return True
        return self.holes.remove(seq, seq) > 0

    def take_gap(self, seq: int, last_seq: int) -> int:
        """Mark `seq` to `last_seq` as gone for good; returns how many of them were missing until now."""
        told = self.holes.remove(seq, min(last_seq, self.highest))
        if last_seq > self.highest:
            told += last_seq - max(seq - 1, self.highest)
            self.holes.add(self.highest + 1, seq - 1)
            self.highest = last_seq
        return told

    def miss(self, through: int) -> None:
        """Take everything up to `through` that did not come for missing."""
        self.holes.add(self.highest + 1, through)
        self.highest = max(self.highest, through)

    def on_birth(self) -> None:
        """The unit came online: an earlier request may be lost."""
        self._asked = None

    def on_refused(self, now_s: float) -> None:
        """The unit can not answer the request under way: it is not repeated before the longest wait."""
        if self._asked is not None:
            self._asked.due_s, self._asked.wait_s = now_s + RETRY_MAX_S, RETRY_MAX_S

    def next_request(self, now_s: float) -> tuple[int, int] | None:
        """First and last sequence number to ask for now: the lowest hole and what is near it.

        None when nothing is missing, or the answer is awaited.

        Args:
            now_s: any clock that goes forward, in seconds; the same one at every call.
        """
        hole = self._lowest_hole()
        if hole is None:
            self._asked = None
            return None
        asked, wait_s = self._asked, RETRY_MIN_S
        if asked is not None and asked.first == hole[0]:
            if now_s < asked.due_s:
                return None
            wait_s = min(asked.wait_s * 2, RETRY_MAX_S)
        elif asked is not None and hole[0] <= asked.last:
            asked.first, asked.due_s, asked.wait_s = hole[0], now_s + RETRY_MIN_S, RETRY_MIN_S
            return None
        last = self.holes.last_through(hole[0] + MAX_REQUEST_RECORDS - 1)
        assert last is not None
        self._asked = _Asked(hole[0], last, now_s + wait_s, wait_s)
        return hole[0], last

    def bound(self) -> int:
        """Give up the oldest intervals beyond MAX_HOLES; returns how many sequence numbers that were."""
        given_up = 0
        while len(self.holes) > MAX_HOLES:
            first, last = self.holes.pop_lowest()
            given_up += last - first + 1
        return given_up

    def _lowest_hole(self) -> tuple[int, int] | None:
        """The first interval that is missing and wanted."""
        return None if self.ask_from is None else self.holes.first_from(self.ask_from)
