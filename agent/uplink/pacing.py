"""How fast things may go: a token bucket of bytes for the backlog, an allowance for what is asked of us."""

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


class Allowance:
    """How many things may be done: so many a second, and so many at once after a pause."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more may be done now; then it counts as done."""
        if self._at is not None:
            self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
