"""How far dispatch's map was off, second by second: it draws each unit straight on from its last report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agent.domain.geodesy import distance_m
from agent.domain.picture import extrapolated
from agent.domain.stamp import UtcSource
from agent.domain.state import LocationState
from hil.scenario.observation import Observation

STEPS = 4
"""The picture is looked at so often a second: it is at its worst just before a report."""


@dataclass(frozen=True, slots=True)
class PictureError:
    """What a drive's picture was worth.

    Attributes:
        errors_m: of each look while there was a picture and a fix, ascending.
        reports: positions told.
        fix_s: seconds with a fix.
    """

    errors_m: Sequence[float]
    reports: int
    fix_s: int

    def share_m(self, share: float) -> float:
        """The error that this share of the looks stays within."""
        return self.errors_m[min(len(self.errors_m) - 1, int(len(self.errors_m) * share))]


def picture_error(seen: Observation) -> PictureError:
    """Compare dispatch's picture with the truth, while the receiver has a fix and dispatch a position."""
    told = [
        (arrival.at_s, arrival.state)
        for arrival in seen.state_history
        if isinstance(arrival.state, LocationState)
    ]
    errors = list(_looks(seen, told))
    positions = {
        state.utc.unix_ms for _, state in told if state.position is not None and state.utc is not None
    }
    return PictureError(sorted(errors), len(positions), sum(item.has_fix for item in seen.truth))


def _looks(seen: Observation, told: Sequence[tuple[float, LocationState]]) -> Iterator[float]:
    newest: tuple[float, LocationState] | None = None
    number = 0
    for before, after in pairwise(seen.truth):
        for step in range(STEPS):
            share = step / STEPS
            now_ms = before.utc_ms + (after.utc_ms - before.utc_ms) * share
            at_s = seen.began_s + (now_ms - seen.start_utc_ms) / 1000 / seen.speed
            while number < len(told) and told[number][0] <= at_s:
                newest = told[number]
                number += 1
            if not before.has_fix or not after.has_fix or newest is None or newest[1].position is None:
                continue
            lat_deg, lon_deg = extrapolated(newest[1].position, _age_s(seen, newest, now_ms, at_s))
            true_lat = before.lat_deg + (after.lat_deg - before.lat_deg) * share
            true_lon = before.lon_deg + (after.lon_deg - before.lon_deg) * share
            yield distance_m(true_lat, true_lon, lat_deg, lon_deg)


def _age_s(seen: Observation, newest: tuple[float, LocationState], now_ms: float, at_s: float) -> float:
    """How old a report is, as dispatch knows: by its own time, or since it came where that is not trusted."""
    arrived_s, state = newest
    if state.utc is None or state.utc.source < UtcSource.NTP:
        return (at_s - arrived_s) * seen.speed
    return (now_ms - state.utc.unix_ms) / 1000
