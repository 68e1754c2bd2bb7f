"""One stream as a reader has it so far: what came, what is missing, and what to ask for next."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.domain.record import TOO_LARGE, Gap
from agent.uplink.interval_set import IntervalSet

MAX_HOLES = 10_000
"""Intervals remembered for each stream; beyond them the oldest is given up, and counted."""
MAX_REQUEST_RECORDS = 5_000
RETRY_MIN_S = 10.0
RETRY_MAX_S = 600.0


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
        withheld: what the unit has, but was too large for its broker.
    """

    ask_from: int | None
    highest: int
    holes: IntervalSet = field(default_factory=IntervalSet)
    withheld: IntervalSet = field(default_factory=IntervalSet)
    _asked: _Asked | None = None
    _withheld_asked: int | None = None

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
        if self._take(seq):
            return True
        return bool(self.withheld) and self.withheld.remove(seq, seq) > 0

    def take_gap(self, seq: int, gap: Gap) -> tuple[bool, int]:
        """Mark what a gap record at `seq` covers.

        Returns:
            Whether it tells anything new, and how many sequence numbers after its own it told gone that were
            missing or withheld until now.
        """
        if gap.reason == TOO_LARGE:
            # What was read before, or is known to be withheld, is as it was.
            new = self._take(seq)
            if new:
                self.withheld.add(seq, seq)
            return new, 0
        own_withheld = self.withheld.remove(seq, seq)
        new = self._take(seq) or own_withheld > 0
        first, last = seq + 1, gap.last_seq
        told = self.withheld.remove(first, last) + self.holes.remove(first, min(last, self.highest))
        if last > self.highest:
            told += last - max(first - 1, self.highest)
            self.holes.add(self.highest + 1, first - 1)
            self.highest = last
        return new or told > 0, told

    def miss(self, through: int) -> None:
        """Take everything up to `through` that did not come for missing."""
        self.holes.add(self.highest + 1, through)
        self.highest = max(self.highest, through)

    def on_birth(self) -> None:
        """The unit came online: an earlier request may be lost, the new broker may take what was withheld."""
        self._asked = None
        self._withheld_asked = 0

    def next_request(self, now_s: float) -> tuple[int, int] | None:
        """First and last sequence number to ask for now; None when nothing is missing, or awaited.

        Args:
            now_s: any clock that goes forward, in seconds; the same one at every call.
        """
        return self._holes_due(now_s) or self._withheld_due()

    def bound(self) -> int:
        """Give up the oldest intervals beyond MAX_HOLES; returns how many sequence numbers that were."""
        given_up = 0
        for intervals in (self.holes, self.withheld):
            while len(intervals) > MAX_HOLES:
                first, last = intervals.pop_lowest()
                given_up += last - first + 1
        return given_up

    def _take(self, seq: int) -> bool:
        if seq > self.highest:
            self.holes.add(self.highest + 1, seq - 1)
            self.highest = seq
            return True
        return self.holes.remove(seq, seq) > 0

    def _lowest_hole(self) -> tuple[int, int] | None:
        """The first interval that is missing and wanted."""
        return None if self.ask_from is None else self.holes.first_from(self.ask_from)

    def _holes_due(self, now_s: float) -> tuple[int, int] | None:
        """The lowest hole and what is near it, unless its answer is awaited."""
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

    def _withheld_due(self) -> tuple[int, int] | None:
        """What is withheld, once after each birth: it may be that of a broker which takes more."""
        if self._withheld_asked is None:
            return None
        due = self.withheld.first_from(self._withheld_asked + 1)
        if due is None:
            self._withheld_asked = None
            return None
        self._withheld_asked = min(due[1], due[0] + MAX_REQUEST_RECORDS - 1)
        return due[0], self._withheld_asked
