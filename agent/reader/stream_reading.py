"""One stream as a reader has it so far: what came, what is missing, and what to ask for next."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.wire.interval_set import IntervalSet

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
    """

    ask_from: int | None
    highest: int
    holes: IntervalSet = field(default_factory=IntervalSet)
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
