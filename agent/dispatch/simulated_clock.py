"""A clock for simulated and recorded drives: now is what the units' receivers say."""

from __future__ import annotations

from collections.abc import Callable

from agent.dispatch.intake import Heard
from agent.domain.stamp import UtcSource
from agent.domain.state import LocationState


class SimulatedClock:
    """Runs with the computer's clock, and leaps forward to the newest GNSS time that was heard.

    Args:
        real_ms: the computer's time in Unix milliseconds.
    """

    def __init__(self, real_ms: Callable[[], int]) -> None:
        self._real_ms = real_ms
        self._ahead_ms: int | None = None

    def now_ms(self) -> int:
        """The drive's time; the computer's until a receiver was heard."""
        return self._real_ms() + (self._ahead_ms or 0)

    def hear(self, heard: Heard) -> None:
        """Take the time out of what came."""
        for one in heard.states:
            if isinstance(one.state, LocationState) and one.state.utc is not None:
                utc = one.state.utc
                ahead_ms = utc.unix_ms - self._real_ms()
                if utc.source is UtcSource.GNSS and (self._ahead_ms is None or ahead_ms > self._ahead_ms):
                    self._ahead_ms = ahead_ms
