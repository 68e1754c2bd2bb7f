"""Which health reasons dispatch is told of, so that one that comes and goes does not become a flood."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.domain.health import HealthReason
from agent.domain.state import HealthState

_S: Final = 1_000_000_000

FORGET_NS: Final = 600 * _S
"""A reason that was away for this long comes as if for the first time."""

FIRST_HOLD_NS: Final = 5 * _S
"""How long a reason that came back once must be away to be told as over; doubles with each return."""

LONGEST_HOLD_NS: Final = 300 * _S

AWAY_NOW: Final = "away at this moment"
"""How the detail begins of a reason that is told to hold although it does not at this moment: it flaps."""

BLIPS_TOLD: Final = 3
"""A reason too short to be seen is told after it came and went this often."""

RECORDS_AT_ONCE: Final = 20
RECORD_EVERY_NS: Final = 90 * _S
"""Beyond `RECORDS_AT_ONCE` one health record in this time: 60 in the worst hour."""


@dataclass(slots=True)
class _Course:
    """How a reason went.

    Attributes:
        held: whether it is told to hold.
        recent: whether it was told within `FORGET_NS`.
        away_since_ns: when it was first seen away, while it is; else None.
        flaps: how often it came back, or came and went unseen, since it was last forgotten.
        hold_ns: how long it must be away before it is told to be over.
        grew_ns: when `hold_ns` last grew.
        raises: the board's count of its raises at the last look.
        blips: how often it came and went between two looks while it was not told.
    """

    held: bool = False
    recent: bool = False
    away_since_ns: int | None = None
    flaps: int = 0
    hold_ns: int = 0
    grew_ns: int = 0
    raises: int = 0
    blips: int = 0

    def is_here(self, new: int, now_ns: int) -> None:
        """It holds, and was raised `new` times since the last look."""
        self._came_back(new if self.recent else new - 1, now_ns)
        self.held, self.recent, self.away_since_ns = True, True, None

    def is_away(self, new: int, now_ns: int) -> None:
        """It does not hold, but was raised `new` times since the last look."""
        if new:
            self.away_since_ns = None
            if self.recent:
                self._came_back(new, now_ns)
            else:
                self.blips += new
        if self.blips >= BLIPS_TOLD:
            self.held = self.recent = True
            self._came_back(self.blips, now_ns)
            self.blips = 0
        if self.away_since_ns is None:
            self.away_since_ns = now_ns
        away_ns = now_ns - self.away_since_ns
        if away_ns >= self.hold_ns:
            self.held = False
        if away_ns >= FORGET_NS:
            self.recent = False
            self.flaps = self.hold_ns = self.blips = 0

    def _came_back(self, times: int, now_ns: int) -> None:
        if times <= 0:
            return
        self.flaps += times
        # Once in a hold: a burst of a thousand flaps is one sign of trouble, not a thousand.
        if self.hold_ns == 0 or now_ns - self.grew_ns >= self.hold_ns:
            self.hold_ns = min(max(FIRST_HOLD_NS, 2 * self.hold_ns), LONGEST_HOLD_NS)
            self.grew_ns = now_ns


@dataclass(slots=True)
class SteadyHealth:
    """Reasons with hysteresis. Used from one thread.

    A reason is told as soon as it is seen, and its end as soon as that is seen: unless it came back within
    ten minutes. Then its end is told only once it stayed away for 5 s, the next time for 10 s, up to 300 s,
    and how often it flapped is counted meanwhile.
    """

    _courses: dict[HealthReason, _Course] = field(default_factory=dict)

    def look(
        self, present: Collection[HealthReason], raises: Mapping[HealthReason, int], now_ns: int
    ) -> frozenset[HealthReason]:
        """Take what holds now; returns what is told to hold.

        Args:
            present: the board's reasons; each was raised at least once.
            raises: how often the board raised each reason in its life.
            now_ns: CLOCK_BOOTTIME in nanoseconds; never less than at the look before.
        """
        for reason, count in raises.items():
            course = self._courses.setdefault(reason, _Course())
            new, course.raises = count - course.raises, count
            if reason in present:
                course.is_here(new, now_ns)
            else:
                course.is_away(new, now_ns)
        return frozenset(reason for reason, course in self._courses.items() if course.held)

    def flaps(self) -> dict[HealthReason, int]:
        """How often each reason that flaps came back since it was last quiet for ten minutes."""
        return {reason: course.flaps for reason, course in self._courses.items() if course.flaps}


def told_reasons(state: HealthState) -> list[str]:
    """The reasons of a unit's health for a person, who may see a fix beside a `gnss_no_fix` that flaps."""
    details = dict(state.details)
    return [
        f"{reason} (on and off)" if details.get(reason, "").startswith(AWAY_NOW) else reason
        for reason in state.reasons
    ]


@dataclass(slots=True)
class HealthRecordBudget:
    """How many health records may still be written, whatever the reasons do. Used from one thread."""

    _left: float = float(RECORDS_AT_ONCE)
    _at_ns: int | None = None

    def take(self, now_ns: int) -> bool:
        """Whether one may be written now; it then counts as written."""
        if self._at_ns is not None:
            self._left = min(float(RECORDS_AT_ONCE), self._left + (now_ns - self._at_ns) / RECORD_EVERY_NS)
        self._at_ns = now_ns
        if self._left < 1:
            return False
        self._left -= 1
        return True
