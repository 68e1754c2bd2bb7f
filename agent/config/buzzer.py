"""What the cab hears."""

from __future__ import annotations

from datetime import tzinfo
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from agent.config.section import Section, matching
from agent.domain.buzzer import Pattern, QuietHours, Sound

Milliseconds = Annotated[int, Field(ge=10, le=2000)]
PatternOf = Annotated[tuple[Milliseconds, ...], Field(max_length=8)]
TimeOfDay = Annotated[str, matching(r"([01]\d|2[0-3]):[0-5]\d", 'a time of day is expected, such as "22:00"')]


class Buzzer(Section):
    """What the cab hears, by every buzzer there is; without this table nothing but the page's own call sound.

    An emergency is never heard, whatever stands here.
    """

    call: PatternOf = (400, 150, 400, 150, 400)
    """A call came: milliseconds on and off by turns; empty for silence."""
    refused: PatternOf = (800, 200, 800)
    """Dispatch refused what was pressed."""
    reminder: PatternOf = (300, 150, 300)
    """A call is still not acknowledged; how often is `[crew] remind_after_s`."""
    delivered: PatternOf = (60,)
    """What was pressed is with the broker, or at dispatch where it sends receipts."""
    driving: PatternOf = (80, 80, 80)
    """A limit of driving is passed, or a belt is open."""
    quiet_from: TimeOfDay | None = None
    """Local time from which on less is heard."""
    quiet_to: TimeOfDay | None = None
    """Local time at which that ends."""
    quiet_heard: tuple[Sound, ...] = (Sound.CALL, Sound.REMINDER, Sound.REFUSED, Sound.DRIVING)
    """What is heard in quiet hours all the same."""
    time_zone: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Such as "America/New_York"; the computer's own when left out."""
    page: bool = True
    """The crew's page sounds, too."""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        if name is not None:
            from zoneinfo import ZoneInfo  # only where a zone is named

            try:
                ZoneInfo(name)
            except (KeyError, ValueError, OSError) as error:
                raise ValueError(f"this computer knows no time zone {name!r}") from error
        return name

    @model_validator(mode="after")
    def _both_ends(self) -> Buzzer:
        if (self.quiet_from is None) != (self.quiet_to is None):
            raise ValueError("quiet_from and quiet_to go together")
        if self.quiet_from is not None and self.quiet_from == self.quiet_to:
            raise ValueError("quiet_from and quiet_to are the same; for silence all day give empty patterns")
        return self

    def patterns(self) -> dict[Sound, Pattern]:
        """The pattern of each sound."""
        return {sound: getattr(self, sound.value) for sound in Sound}

    def quiet(self) -> QuietHours | None:
        """The quiet hours, None without."""
        if self.quiet_from is None or self.quiet_to is None:
            return None
        return QuietHours(_minute(self.quiet_from), _minute(self.quiet_to), frozenset(self.quiet_heard))

    def zone(self) -> tzinfo | None:
        """The zone of the quiet hours; None for the computer's own."""
        if self.time_zone is None:
            return None
        from zoneinfo import ZoneInfo

        return ZoneInfo(self.time_zone)


def _minute(time_of_day: str) -> int:
    hours, minutes = time_of_day.split(":")
    return int(hours) * 60 + int(minutes)
