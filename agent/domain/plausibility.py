"""Whether a fix can be where the vehicle is, given where it was."""

from __future__ import annotations

import math

from agent.domain.fix import Fix

FASTEST_MPS = 100.0
"""No ambulance drives 360 km/h."""
SLACK_M = 500.0
"""A receiver that comes out of a tunnel or a garage corrects itself by this much without having lied."""
AGREEING = 3
"""So many fixes in a row that agree with each other are believed, wherever they are."""
_EARTH_RADIUS_M = 6_371_000.0


class FixGate:
    """Tells fixes that lie impossibly far from the last one. Not thread-safe.

    A reflection between high buildings throws a receiver kilometres away for a second; the nearest unit
    must not be chosen by it. A receiver that stays at its new place is believed after `AGREEING` fixes: then
    the old place was wrong.
    """

    def __init__(self) -> None:
        self._believed: Fix | None = None
        self._candidate: Fix | None = None
        self._agreeing = 0
        self.jumped_m: float | None = None
        """How far away the fix is that was just believed, where nothing drives so fast; else None."""

    def admits(self, fix: Fix) -> bool:
        """True when the fix can be where the vehicle is; one without a position always can."""
        self.jumped_m = None
        if not fix.has_position:
            return True
        if self._believed is None or _reachable(self._believed, fix):
            self._believe(fix)
            return True
        agrees = self._candidate is not None and _reachable(self._candidate, fix)
        self._agreeing = self._agreeing + 1 if agrees else 1
        self._candidate = fix
        if self._agreeing < AGREEING:
            return False
        self.jumped_m = _distance_m(self._believed, fix)
        self._believe(fix)
        return True

    def _believe(self, fix: Fix) -> None:
        self._believed, self._candidate, self._agreeing = fix, None, 0


def _reachable(before: Fix, after: Fix) -> bool:
    passed_s = abs(after.received_boottime_ns - before.received_boottime_ns) / 1e9
    if before.utc_ms is not None and after.utc_ms is not None:
        # A recording that is played faster than life moves at the speed of its own times.
        passed_s = max(passed_s, abs(after.utc_ms - before.utc_ms) / 1000)
    return _distance_m(before, after) <= FASTEST_MPS * passed_s + SLACK_M


def _distance_m(one: Fix, other: Fix) -> float:
    """Great-circle distance by the haversine formula."""
    if one.lat_deg is None or one.lon_deg is None or other.lat_deg is None or other.lon_deg is None:
        raise ValueError("a fix without a position has no distance")
    lat_1, lat_2 = math.radians(one.lat_deg), math.radians(other.lat_deg)
    half_lat = (lat_2 - lat_1) / 2
    half_lon = math.radians(other.lon_deg - one.lon_deg) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat_1) * math.cos(lat_2) * math.sin(half_lon) ** 2
    return 2 * _EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, chord)))
