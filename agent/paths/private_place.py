"""Between the paths and what leaves the vehicle: off duty its place is made coarse or left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.domain.privacy import Privacy, without_place
from agent.domain.record import Draft, Emergency, RecordingKept
from agent.domain.state import LocationState, State
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.paths.state_sink import StateSink

IMPACT = "impact"
"""The trigger of a recording that an impact had kept."""
ALIKE_NS = 60 * 1_000_000_000
"""A place that did not change is told no more often: how often it is told would tell how the unit moves."""


class PrivatePlace:
    """A sink of states, and what a draft passes before it is stored. Used from the event loop.

    Args:
        privacy: the rule, which is told of the status elsewhere.
        sink: gets the states.
        time_base: tells the time, for a schedule.
        clock: boot time.
    """

    def __init__(self, privacy: Privacy, sink: StateSink, time_base: TimeBase, clock: Clock) -> None:
        self._privacy = privacy
        self._sink = sink
        self._time_base = time_base
        self._clock = clock
        self._told: LocationState | None = None
        self._told_ns = 0

    @property
    def holds(self) -> bool:
        """Whether the place is not to be told as it is, now."""
        if self._privacy.is_open:
            return False
        now_ns = self._clock.boottime_ns()
        utc = self._time_base.utc(now_ns)
        return self._privacy.holds(None if utc is None else utc.unix_ms, now_ns)

    def set_state(self, state: State) -> None:
        """Pass on what of a state may be told."""
        if not self.holds:
            self._told = None
            self._sink.set_state(state)
            return
        shown = self._privacy.state(state)
        if isinstance(shown, LocationState):
            now_ns = self._clock.boottime_ns()
            if self._told is not None and _alike(shown, self._told) and now_ns - self._told_ns < ALIKE_NS:
                return
            self._told, self._told_ns = shown, now_ns
        self._sink.set_state(shown)

    def signals(self, signals: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of the vehicle's signals may be told, by name."""
        return without_place(signals) if self.holds else signals

    def before_store(self, draft: Draft) -> Draft | None:
        """What of a draft may be stored; None for nothing."""
        body = draft.body
        if (isinstance(body, Emergency) and body.active) or (
            isinstance(body, RecordingKept) and body.trigger == IMPACT
        ):
            # Now somebody is to be found.
            self._privacy.lift(self._clock.boottime_ns())
        if not self.holds:
            return draft
        shown = self._privacy.body(body)
        return None if shown is None else replace(draft, body=shown)


def _alike(one: LocationState, other: LocationState) -> bool:
    """Whether two states tell the same place."""
    return (one.position, one.last_known, one.withheld) == (other.position, other.last_known, other.withheld)
