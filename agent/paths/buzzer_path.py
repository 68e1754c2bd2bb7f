"""From lamps and calls to what the cab hears, by every buzzer there is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Protocol

from agent.config.buzzer import Buzzer
from agent.domain.buzzer import BuzzerRules, Pattern, Sound
from agent.domain.call import CallNews
from agent.domain.crew import ButtonEdge
from agent.domain.record import CallStep
from agent.domain.stamp import UtcSource
from agent.domain.time_base import TimeBase
from agent.hal.buttons import Lamp
from agent.hal.clock import Clock

_ON_THE_WAY = (Lamp.NOT_STORED, Lamp.STORED)
_ARRIVED = (Lamp.DELIVERED, Lamp.RECEIVED)


class Speaker(Protocol):
    """Something with a buzzer; nobody waits for it."""

    def sound(self, pattern_ms: Sequence[int]) -> None:
        """Sound once."""
        ...


class BuzzerPath:
    """Hears what lamps show and what becomes of calls. A `Voice` of the presses; used from the event loop.

    Args:
        settings: what sounds how, and when not.
        silent_keys: keys of the emergency: whatever becomes of them, nothing is heard.
        clock: boot time.
        time_base: how late it is.
    """

    def __init__(
        self, settings: Buzzer, silent_keys: Collection[str], clock: Clock, time_base: TimeBase
    ) -> None:
        self._rules = BuzzerRules(settings.patterns(), settings.quiet())
        self._silent_keys = frozenset(silent_keys)
        self._clock = clock
        self._time_base = time_base
        self._zone = settings.zone()
        self._lamps: dict[str, Lamp] = {}
        self._speakers: list[Speaker] = []
        self._on_page = settings.page
        self._sounded = 0
        self._pattern: Pattern = ()

    def attach(self, speaker: Speaker) -> None:
        """From now on it sounds, too."""
        self._speakers.append(speaker)

    def page(self) -> dict[str, Any] | None:
        """What the crew's page is to sound, with its number, JSON-able; None when it is to be silent."""
        if not self._on_page:
            return None
        return {"number": self._sounded, "pattern_ms": list(self._pattern)}

    # ------------------------------------------------------------------ a voice of the presses

    def show(self, key: str, lamp: Lamp) -> None:
        """A lamp shows something. What it shows first is no news: it was so before a restart."""
        before, self._lamps[key] = self._lamps.get(key), lamp
        if key in self._silent_keys or before is None or before is lamp:
            return
        if lamp is Lamp.REFUSED:
            self._sound(Sound.REFUSED)
        elif lamp in _ARRIVED and before in _ON_THE_WAY:
            self._sound(Sound.DELIVERED)

    def acknowledge(self, edge: ButtonEdge) -> None:
        """Nothing to hear."""

    # ------------------------------------------------------------------ calls

    def call(self, news: CallNews) -> None:
        """Something about a call that asks for the crew's attention."""
        if news.sound:
            reminder = "again" in news.changed or news.event is CallStep.UNACKNOWLEDGED
            self._sound(Sound.REMINDER if reminder else Sound.CALL)

    # ------------------------------------------------------------------ driving

    def driving(self) -> None:
        """Something about the driving that the driver is to hear; when, its own rule decides."""
        self._sound(Sound.DRIVING)

    def _sound(self, sound: Sound) -> None:
        pattern = self._rules.sound(sound, self._clock.boottime_ns(), self._minute_of_day())
        if pattern is None:
            return
        self._sounded, self._pattern = self._sounded + 1, pattern
        for speaker in self._speakers:
            speaker.sound(pattern)

    def _minute_of_day(self) -> int | None:
        utc = self._time_base.utc(self._clock.boottime_ns())
        if utc is None or utc.source <= UtcSource.LAST_KNOWN:
            return None
        return minute_of_day(utc.unix_ms, self._zone)


def minute_of_day(unix_ms: int, zone: tzinfo | None) -> int:
    """Local time in minutes since midnight; of the computer's own zone when none is given."""
    local = datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone(zone)
    return local.hour * 60 + local.minute
