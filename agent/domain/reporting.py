"""Which fixes become position records."""

from __future__ import annotations

from agent.domain.fix import Fix
from agent.domain.record import Position

NS_PER_S = 1_000_000_000
JITTER_NS = NS_PER_S // 4
"""How early a fix may be and still be the one that is due; or a quarter of the interval if that is less."""
STOPPED_BELOW = 0.6
"""Motion ends below this part of the speed at which it begins, so that noise does not start and stop it."""


class PositionPolicy:
    """Reports the first fix, every start and stop, and then by interval: short in motion, long at rest.

    A fix may be a little early, so that a receiver's jitter does not halve the rate; the schedule follows
    the fixes slowly, so that the mean rate stays the one that was asked for.

    Args:
        moving_interval_s: time between positions in motion.
        stationary_interval_s: time between positions at rest.
        moving_above_mps: speed above which the vehicle is in motion.
    """

    def __init__(
        self, *, moving_interval_s: float, stationary_interval_s: float, moving_above_mps: float
    ) -> None:
        self._moving_interval_ns = round(moving_interval_s * NS_PER_S)
        self._stationary_interval_ns = round(stationary_interval_s * NS_PER_S)
        self._moving_above_mps = moving_above_mps
        self._moving: bool | None = None
        self._due_ns = 0

    def decide(self, fix: Fix) -> Position | None:
        """The position to record now, or None. Fixes are given in the order of their boot time."""
        position = position_of(fix)
        if position is None:
            return None
        moving = self._is_moving(fix.speed_mps)
        changed = moving is not self._moving
        self._moving = moving
        interval_ns = self._moving_interval_ns if moving else self._stationary_interval_ns
        now_ns, slack_ns = fix.received_boottime_ns, min(interval_ns // 4, JITTER_NS)
        if changed or now_ns > self._due_ns + slack_ns:
            self._due_ns = now_ns + interval_ns
            return position
        if now_ns < self._due_ns - slack_ns:
            return None
        # An eighth of the deviation is adopted: jitter averages out, and the schedule keeps up with the
        # drift between the receiver's second and ours.
        self._due_ns += interval_ns + (now_ns - self._due_ns) // 8
        return position

    def _is_moving(self, speed_mps: float | None) -> bool:
        if speed_mps is None:
            # Not known: as before, and at the beginning the answer that loses nothing.
            return self._moving is not False
        if self._moving:
            return speed_mps > self._moving_above_mps * STOPPED_BELOW
        return speed_mps > self._moving_above_mps


def position_of(fix: Fix) -> Position | None:
    """The fix's position, None without one."""
    if not fix.has_position or fix.lat_deg is None or fix.lon_deg is None:
        return None
    return Position(
        lat_deg=fix.lat_deg,
        lon_deg=fix.lon_deg,
        alt_m=fix.alt_m,
        speed_mps=fix.speed_mps,
        course_deg=fix.course_deg,
        mode=fix.mode,
        satellites=fix.satellites,
        hdop=fix.hdop,
    )
