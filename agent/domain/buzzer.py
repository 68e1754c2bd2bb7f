"""When the cab hears something, and what: the buzzer's rules. Nothing here ever sounds for an emergency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GAP_NS: Final = 2_000_000_000
"""A sound that follows another so soon is heard only if it is the more urgent: eight lamps that turn green at
once are one sound."""
Pattern = tuple[int, ...]
"""Milliseconds on and off by turns."""


class Sound(StrEnum):
    """What the crew is told by sound, the more urgent first."""

    CALL = "call"
    """A call came, or something about it changed."""
    REFUSED = "refused"
    """Dispatch refused what was pressed."""
    REMINDER = "reminder"
    """A call is still not acknowledged."""
    DELIVERED = "delivered"
    """What was pressed is where it should be: with the broker, or with receipts at dispatch."""
    DRIVING = "driving"
    """A limit of driving is passed, or a belt is open."""


_URGENCY: Final = tuple(Sound)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A time of day in which little is heard.

    Attributes:
        from_minute: first minute of the day.
        to_minute: first minute after it; before `from_minute` when midnight lies between.
        heard: what is heard all the same.
    """

    from_minute: int
    to_minute: int
    heard: frozenset[Sound]

    def hushes(self, sound: Sound, minute_of_day: int | None) -> bool:
        """Whether a sound is left out. Where nobody knows how late it is, it is heard."""
        if minute_of_day is None or sound in self.heard:
            return False
        if self.from_minute <= self.to_minute:
            return self.from_minute <= minute_of_day < self.to_minute
        return minute_of_day >= self.from_minute or minute_of_day < self.to_minute


class BuzzerRules:
    """Decides what is sounded. Used from one thread.

    Args:
        patterns: of each sound; one without a pattern, or with an empty one, is never heard.
        quiet: None for the same all day.
    """

    def __init__(self, patterns: Mapping[Sound, Pattern], quiet: QuietHours | None = None) -> None:
        self._patterns = dict(patterns)
        self._quiet = quiet
        self._last: tuple[Sound, int] | None = None

    def sound(self, sound: Sound, now_ns: int, minute_of_day: int | None) -> Pattern | None:
        """What is sounded now; None for nothing.

        Args:
            sound: what happened.
            now_ns: CLOCK_BOOTTIME.
            minute_of_day: local time, 0 to 1439; None while nobody knows it.
        """
        pattern = self._patterns.get(sound)
        if not pattern or (self._quiet is not None and self._quiet.hushes(sound, minute_of_day)):
            return None
        if self._last is not None:
            before, at_ns = self._last
            if 0 <= now_ns - at_ns < GAP_NS and _URGENCY.index(sound) >= _URGENCY.index(before):
                return None
        self._last = sound, now_ns
        return pattern
