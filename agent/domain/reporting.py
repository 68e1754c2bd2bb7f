"""Which fixes are told at once, so that dispatch's picture is right, and which go into the trail."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from agent.domain.fix import Fix
from agent.domain.geodesy import distance_m
from agent.domain.picture import extrapolated, velocity_mps
from agent.domain.record import Position

NS_PER_S = 1_000_000_000
STOPPED_BELOW = 0.6
"""Motion ends below this part of the speed at which it begins, so that noise does not start and stop it."""
ACCELERATION_MPS2 = 4.0
"""How much an ambulance brakes or turns between one fix and the next."""
LATENCY_S = 1.0
"""From an epoch to the drawing of its report: a receiver at 9600 baud takes most of it, the link the rest."""
LONGEST_INTERVAL_S = 2.0
ERROR_M_PER_HDOP = 4.0
"""Metres of horizontal error (one sigma of the distance) for each unit of HDOP, where the receiver estimates
none: what GPS promises a civil user in the open, and no more."""
SIGMAS = 1.73
"""95 % of errors stay within so many of their root mean squares (two equal normal errors)."""
LEAST_BUDGET_M = 8.0
"""Where the fix itself may be off by as much as is allowed, more reports would help nobody."""
TURNS_ABOVE_MPS = 2.0
"""Below it a course is noise."""


class Due(StrEnum):
    """Why a position is told now."""

    FIRST = "first"
    """The first there is, or the first after a loss."""
    REQUESTED = "requested"
    """A status changed, a place was reached or left, or dispatch asked."""
    QUALITY = "quality"
    """Something is wrong with it that was not, or is not any more."""
    ERROR = "error"
    """Dispatch's picture would be off by more than the bound before the next fix."""
    HEADING = "heading"
    MOTION = "motion"
    """It started or stopped."""
    AGE = "age"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What dispatch's picture is held to.

    Attributes:
        max_error_m: how far it may be from where the unit is.
        max_age_s: how old its report may be while the unit moves or is on an incident.
        parked_max_age_s: how old otherwise.
        heading_deg: a turn by more is told.
        moving_above_mps: speed above which the unit moves.
    """

    max_error_m: float = 25.0
    max_age_s: float = 10.0
    parked_max_age_s: float = 60.0
    heading_deg: float = 45.0
    moving_above_mps: float = 0.7


class Motion:
    """Whether the unit moves, by the speeds of its fixes, with hysteresis."""

    def __init__(self, moving_above_mps: float) -> None:
        self._above_mps = moving_above_mps
        self.moving: bool | None = None

    def take(self, speed_mps: float | None) -> bool:
        """Take a speed; True when the unit started or stopped by it, or is seen for the first time."""
        before = self.moving
        if speed_mps is None:
            # Not known: as before, and at the beginning the answer that loses nothing.
            self.moving = before is not False
        elif before:
            self.moving = speed_mps > self._above_mps * STOPPED_BELOW
        else:
            self.moving = speed_mps > self._above_mps
        return self.moving is not before


class LivePolicy:
    """Decides which fixes are told at once. Fed with every fix, in the order of boot time; not thread-safe.

    Dispatch's map draws `agent.domain.picture.extrapolated` of the last report. A fix is told when that
    picture, with the error of the fix itself and what may happen until the next, could leave the bound.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._motion = Motion(bounds.moving_above_mps)
        self._told: Position | None = None
        self._told_ns = 0
        self._last_ns: int | None = None
        self._interval_s = 1.0
        self._requested = False
        self.on_incident = False
        """Set by the unit's status: it decides which age is allowed."""
        self.resting_s: float | None = None
        """Set while the unit parks: the age that is then allowed at rest."""
        self._hurries: dict[str, float] = {}

    def hurry(self, owner: str, max_age_s: float | None) -> None:
        """Let no report be older than `max_age_s` for as long as `owner` wants it; None ends that.

        Of several the shortest holds, and never one longer than the bounds: nobody can slow a unit down.
        """
        if max_age_s is None:
            self._hurries.pop(owner, None)
        else:
            self._hurries[owner] = max_age_s

    def request(self) -> None:
        """Have the next fix told, whatever it says."""
        self._requested = True

    def decide(self, fix: Fix, position: Position, at_ns: int) -> Due | None:
        """Why this fix is to be told now, None when dispatch's picture is good enough without it.

        Args:
            fix: it has a position.
            position: the fix's, as it would be told.
            at_ns: when it was so, in boot time; the epoch's own time where it is known.
        """
        self._pace(at_ns)
        changed = self._motion.take(fix.speed_mps)
        due = self._reason(position, error_m(fix), at_ns, changed=changed)
        if due is not None:
            self._told, self._told_ns, self._requested = position, at_ns, False
        return due

    def lost(self) -> None:
        """There is no fix, and dispatch was told so: the next one is the first again."""
        self._told = self._last_ns = None
        self._motion.moving = None

    def _pace(self, at_ns: int) -> None:
        if self._last_ns is not None and (step_s := (at_ns - self._last_ns) / NS_PER_S) > 0:
            self._interval_s += (min(step_s, LONGEST_INTERVAL_S) - self._interval_s) / 4
        self._last_ns = at_ns

    def _reason(self, position: Position, error: float | None, at_ns: int, *, changed: bool) -> Due | None:
        told = self._told
        if told is None or at_ns < self._told_ns:
            return Due.FIRST
        if self._requested:
            return Due.REQUESTED
        if position.quality != told.quality:
            return Due.QUALITY
        passed_s = (at_ns - self._told_ns) / NS_PER_S
        if self._error_m(told, position, passed_s) > self._budget_m(error):
            return Due.ERROR
        if changed or _turn_deg(told, position) > self._bounds.heading_deg:
            return Due.MOTION if changed else Due.HEADING
        urgent = self._motion.moving or self.on_incident
        limit_s = self._bounds.max_age_s if urgent else self.resting_s or self._bounds.parked_max_age_s
        limit_s = min(limit_s, *self._hurries.values()) if self._hurries else limit_s
        return Due.AGE if passed_s + self._interval_s / 2 >= limit_s else None

    def _budget_m(self, error: float | None) -> float:
        allowed_m = self._bounds.max_error_m
        own_m = SIGMAS * (ERROR_M_PER_HDOP if error is None else error)
        return max(allowed_m - own_m, min(LEAST_BUDGET_M, allowed_m / 2))

    def _error_m(self, told: Position, now: Position, passed_s: float) -> float:
        """How far off the picture may be before the next fix is drawn."""
        lat_deg, lon_deg = extrapolated(told, passed_s)
        off_m = distance_m(lat_deg, lon_deg, now.lat_deg, now.lon_deg)
        ahead_s = self._interval_s + LATENCY_S
        drawn, true = velocity_mps(told), velocity_mps(now)
        drift_mps = math.hypot(true[0] - drawn[0], true[1] - drawn[1])
        accelerating = ACCELERATION_MPS2 if self._motion.moving else 0.0
        return off_m + drift_mps * ahead_s + accelerating * ahead_s * ahead_s / 2


Stamped = TypeVar("Stamped")


class TrailPolicy(Generic[Stamped]):
    """Thins the trail as it goes, within a tolerance. Fed in the order of time; not thread-safe.

    What is left out lies within `tolerance_m` of where the unit would be at that time on the straight way
    between the points that stay. A point is held back until the next one shows whether it is needed, for at
    most `hold_s`: it is then given late, with its own stamp.

    Args:
        tolerance_m: how far off a point may be that is left out.
        moving_interval_s: least time between points in motion.
        stationary_interval_s: time between points at rest.
        moving_above_mps: speed above which the unit moves.
        hold_s: longest time between points in motion, and of holding one back.
    """

    def __init__(
        self,
        *,
        tolerance_m: float,
        moving_interval_s: float,
        stationary_interval_s: float,
        moving_above_mps: float,
        hold_s: float = 10.0,
    ) -> None:
        self._tolerance_m = tolerance_m
        self._moving_ns = round(moving_interval_s * NS_PER_S)
        self._stationary_s = stationary_interval_s
        self._stationary_ns = round(stationary_interval_s * NS_PER_S)
        self._hold_ns = round(hold_s * NS_PER_S)
        self._motion = Motion(moving_above_mps)
        self._kept: tuple[int, Position] | None = None
        self._held: list[tuple[int, Position, Stamped]] = []

    def take(self, position: Position, at_ns: int, stamped: Stamped) -> list[Stamped]:
        """Take a point; return those that are now known to stay, oldest first."""
        changed = self._motion.take(position.speed_mps)
        if self._kept is None or at_ns < self._kept[0]:
            self._held.clear()
            return [self._keep(at_ns, position, stamped)]
        kept_ns = self._held[-1][0] if self._held else self._kept[0]
        interval_ns = self._moving_ns if self._motion.moving else self._stationary_ns
        # A little early is on time: a receiver's jitter must not halve the rate.
        early = at_ns - kept_ns < interval_ns - min(interval_ns, NS_PER_S) // 4
        if not changed and early and not (self._held and not self._motion.moving):
            return []
        stays: list[Stamped] = []
        if self._held and not self._between(at_ns, position):
            stays.append(self._keep(*self._held[-1]))
        if changed or not self._motion.moving or at_ns - self._kept[0] >= self._hold_ns:
            stays.append(self._keep(at_ns, position, stamped))
        else:
            self._held.append((at_ns, position, stamped))
        return stays

    def rest(self, interval_s: float | None) -> None:
        """Take this as the time between points at rest from now on; None for the usual one."""
        self._stationary_ns = round((interval_s or self._stationary_s) * NS_PER_S)

    def flush(self) -> list[Stamped]:
        """Give the newest point that is held back: an event refers to it, or the trail ends here."""
        return [self._keep(*self._held[-1])] if self._held else []

    def _keep(self, at_ns: int, position: Position, stamped: Stamped) -> Stamped:
        self._kept = at_ns, position
        self._held.clear()
        return stamped

    def _between(self, at_ns: int, position: Position) -> bool:
        """True when all that is held back lies near the straight way from the last point to this one."""
        if self._kept is None:
            return False
        kept_ns, kept = self._kept
        for held_ns, held, _ in self._held:
            share = (held_ns - kept_ns) / (at_ns - kept_ns)
            lat_deg = kept.lat_deg + (position.lat_deg - kept.lat_deg) * share
            turn_deg = (position.lon_deg - kept.lon_deg + 180.0) % 360.0 - 180.0
            lon_deg = kept.lon_deg + turn_deg * share
            if distance_m(lat_deg, lon_deg, held.lat_deg, held.lon_deg) > self._tolerance_m:
                return False
        return True


def error_m(fix: Fix) -> float | None:
    """The fix's horizontal error, one sigma of the distance: the receiver's own word, else by HDOP.

    None when nobody can say.
    """
    if fix.error_m is not None:
        return fix.error_m
    return None if fix.hdop is None else fix.hdop * ERROR_M_PER_HDOP


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


def _turn_deg(told: Position, now: Position) -> float:
    if told.course_deg is None or now.course_deg is None:
        return 0.0
    if (told.speed_mps or 0.0) < TURNS_ABOVE_MPS or (now.speed_mps or 0.0) < TURNS_ABOVE_MPS:
        return 0.0
    return abs((now.course_deg - told.course_deg + 180.0) % 360.0 - 180.0)
