"""How fast the backlog may go: a token bucket of bytes."""

from __future__ import annotations

BURST_S = 0.25
"""What may go at once after a pause, in seconds of the rate: little, so that pacing shows within a second."""

RESOLUTION_S = 0.001
"""A wait shorter than this is none: timers are no finer, and the debt stays on the books."""


class TokenBucket:
    """A bucket that fills at a rate and may be overdrawn by one send, which later sends wait for.

    Overdrawing lets a message be larger than the bucket, and the mean rate still holds. Times are seconds of
    any monotonic clock.
    """

    def __init__(self, bytes_per_s: float) -> None:
        self._rate = bytes_per_s
        self._level = bytes_per_s * BURST_S
        self._filled_at: float | None = None

    def delay_s(self, now: float) -> float:
        """How long to wait before the next send; 0.0 when it may go now."""
        self._fill(now)
        wait_s = -self._level / self._rate
        return wait_s if wait_s > RESOLUTION_S else 0.0

    def take(self, count: int, now: float) -> None:
        """Account for `count` bytes that were sent."""
        self._fill(now)
        self._level -= count

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            gained = max(0.0, now - self._filled_at) * self._rate
            self._level = min(self._rate * BURST_S, self._level + gained)
        self._filled_at = now
