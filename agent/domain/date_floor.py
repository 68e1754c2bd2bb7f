"""Which dates can be true: a receiver's week counter rolls over, and a dead battery begins in 1980."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MS_PER_DAY = 86_400_000
PERIOD_MS = 1024 * 7 * MS_PER_DAY
"""GPS counts its weeks with ten bits: after 1024 of them a receiver may begin anew."""
MOST_PERIODS = 2
"""Receivers older than forty years do not drive."""
PUT_RIGHT_WITHIN_MS = 3 * 366 * MS_PER_DAY
"""A date that is put right must come this near to the floor: else it was no roll-over, but a default such as
1980-01-06, which some number of periods always brings beyond the floor."""
HORIZON_MS = 12 * 366 * MS_PER_DAY
"""No agent runs so long without an update; receivers have said 2080."""
SLACK_MS = MS_PER_DAY
PATIENCE = 60
"""So many epochs before what is stored is doubted: the store may hold a date that was wrong."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class JudgedDate:
    """What became of a date.

    Attributes:
        utc_ms: the UTC that can be true, None when there is none.
        why: a sentence for a person where it is not what was said, else empty.
    """

    utc_ms: int | None
    why: str = ""


class DateFloor:
    """Judges dates against two floors. Not thread-safe.

    Args:
        built_ms: the UTC at which this program was made; no true date lies before it, and none long after it.
            None takes every date as it comes, as for recordings.
        not_before_ms: an earlier floor, for playing the past; that of the program when None.
    """

    def __init__(self, built_ms: int | None = None, not_before_ms: int | None = None) -> None:
        self._newest_ms = None if built_ms is None else built_ms + HORIZON_MS
        self._built_ms = built_ms if not_before_ms is None else not_before_ms
        self._stored_ms: int | None = None
        self._below_stored = 0

    def learn_stored(self, utc_ms: int) -> None:
        """Take the newest trusted UTC of the store: another floor, but one that can be wrong itself."""
        if self._built_ms is not None and self.possible(utc_ms):
            self._stored_ms = max(utc_ms, self._stored_ms or utc_ms)

    def possible(self, utc_ms: int) -> bool:
        """True for a date that is neither before this program nor far in its future."""
        if self._built_ms is not None and utc_ms < self._built_ms - SLACK_MS:
            return False
        return self._newest_ms is None or utc_ms <= self._newest_ms

    def judge(self, utc_ms: int) -> JudgedDate:
        """A receiver's date: as it is, put right by whole periods of 1024 weeks, or refused."""
        if self.possible(utc_ms):
            return self._against_store(utc_ms)
        if self._built_ms is None:
            return JudgedDate(None, f"the receiver says {date_text(utc_ms)}, which can not be")
        said = date_text(utc_ms)
        periods = -((utc_ms - self._built_ms + SLACK_MS) // PERIOD_MS)
        true_ms = utc_ms + periods * PERIOD_MS
        newest_ms = self._stored_ms or self._built_ms
        if not 0 < periods <= MOST_PERIODS or true_ms - newest_ms > PUT_RIGHT_WITHIN_MS:
            return JudgedDate(None, f"the receiver says {said}, which can not be")
        judged = self._against_store(true_ms)
        return JudgedDate(judged.utc_ms, f"the receiver says {said}, {periods * 1024} weeks before its time")

    def _against_store(self, utc_ms: int) -> JudgedDate:
        if self._stored_ms is None or utc_ms >= self._stored_ms - SLACK_MS:
            self._below_stored = 0
            return JudgedDate(utc_ms)
        self._below_stored += 1
        stored = date_text(self._stored_ms)
        why = f"the receiver says {date_text(utc_ms)}, but the store has records of {stored}"
        if self._below_stored > PATIENCE:
            # It stays with it: then what is stored was wrong.
            self._stored_ms, self._below_stored = utc_ms, 0
            return JudgedDate(utc_ms)
        return JudgedDate(None, why)


def date_text(utc_ms: int) -> str:
    """The day of a UTC as text, also of years that no calendar has."""
    try:
        return f"{_EPOCH + timedelta(milliseconds=utc_ms):%Y-%m-%d}"
    except OverflowError:
        return f"day {utc_ms // MS_PER_DAY} of 1970"
