"""What of the unit's place is told while it is off duty."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Literal

from pydantic import Field, field_validator

from agent.config.section import Section
from agent.domain.privacy import OffDuty, PrivacyRule
from agent.domain.status import UnitStatus

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = "|".join(DAYS)
_HOURS = re.compile(rf"({_DAY})(?:-({_DAY}))? ([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
DAY_MINUTES = 1440


class Privacy(Section):
    """The unit's place off duty. As shipped, all of it is told."""

    off_duty: Literal["tell", "blur", "withhold"] = "tell"
    """What is told of the place: all, the middle of a square, or nothing."""
    blur_m: float = Field(1000, ge=100, le=50_000)
    """Side of the square."""
    statuses: tuple[UnitStatus, ...] = Field((UnitStatus.OUT_OF_SERVICE,), max_length=16)
    """In which statuses the unit is off duty."""
    hours: tuple[str, ...] = Field((), max_length=32)
    """When it is off duty whatever its status, unless it is on an incident: "Mon-Fri 19:00-07:00"."""
    time_zone: str = "UTC"
    """Of `hours`, as the system knows it, e.g. "America/New_York"."""

    @field_validator("hours")
    @classmethod
    def _readable(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        for text in hours:
            if _minutes(text) is None:
                raise ValueError(f'"{text}" is not of the form "Mon-Fri 19:00-07:00"')
        return hours

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            _zone(name)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f'the system knows no time zone "{name}"') from error
        return name

    def rule(self) -> PrivacyRule:
        """The same for the domain."""
        return PrivacyRule(
            off_duty=OffDuty(self.off_duty),
            blur_m=self.blur_m,
            statuses=frozenset(map(str, self.statuses)),
            by_schedule=self._by_schedule(),
        )

    def _by_schedule(self) -> Callable[[int], bool]:
        zone = _zone(self.time_zone)
        spans = [span for text in self.hours for span in _minutes(text) or ()]

        def holds(utc_ms: int) -> bool:
            if not spans:
                return False
            now = datetime.fromtimestamp(utc_ms / 1000, UTC).astimezone(zone)
            minute = (now.weekday() * 24 + now.hour) * 60 + now.minute
            return any((minute - begin) % (7 * DAY_MINUTES) < length for begin, length in spans)

        return holds


def _zone(name: str) -> tzinfo:
    """A time zone of the system. Raises OSError, ValueError, KeyError."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # only who has a schedule pays for it

    return ZoneInfo(name)


def _minutes(text: str) -> list[tuple[int, int]] | None:
    """Begin, in minutes of the week, and length of each span; None when the text can not be read."""
    match = _HOURS.fullmatch(text)
    if match is None:
        return None
    first, last = DAYS.index(match[1]), DAYS.index(match[2] or match[1])
    begin, end = int(match[3]) * 60 + int(match[4]), int(match[5]) * 60 + int(match[6])
    if max(begin, end) > DAY_MINUTES:
        return None
    length = (end - begin) % DAY_MINUTES or DAY_MINUTES
    days = [(first + number) % 7 for number in range((last - first) % 7 + 1)]
    return [(day * DAY_MINUTES + begin, length) for day in days]
