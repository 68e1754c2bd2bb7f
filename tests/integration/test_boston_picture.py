"""Dispatch's picture over a simulated shift of twelve hours in Boston, through decoder and path."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import pytest

from agent.config import Reporting
from agent.domain.geodesy import distance_m
from agent.domain.health import HealthBoard
from agent.domain.picture import extrapolated
from agent.domain.record import Draft
from agent.domain.reporting import LivePolicy, TrailPolicy
from agent.domain.state import LocationState, State, StatusState
from agent.domain.time_base import TimeBase
from agent.hal.gnss import NmeaBytes
from agent.outbox.outbox import Outbox
from agent.paths.fix_path import FixPath, StatusWatch
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from hil.drive.items import NmeaItem, TruthItem
from hil.drive.shift import Options, load_shift

LINK_S = 0.3
"""From the agent to dispatch's screen."""
STEPS = 4


class Dispatch:
    """What arrives, and when."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.told: list[tuple[float, LocationState]] = []
        self.trail = 0

    def set_state(self, state: State) -> None:
        if isinstance(state, LocationState):
            self.told.append((self.now_s + LINK_S, state))

    def stage(self, draft: Draft) -> None:
        self.trail += 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_picture_is_never_off_by_more_than_25_m_while_there_is_a_fix() -> None:
    """In at least eight times fewer reports than one a second."""
    shift = load_shift("boston_12h", 1, Options(can_hz_scale=0))
    reporting, dispatch, decoder = Reporting(), Dispatch(), ReceiverDecoder()
    path = FixPath(
        LivePolicy(reporting.bounds()),
        TrailPolicy(
            tolerance_m=reporting.trail_tolerance_m,
            moving_interval_s=reporting.moving_interval_s,
            stationary_interval_s=reporting.stationary_interval_s,
            moving_above_mps=reporting.moving_above_mps,
        ),
        TimeBase(),
        outbox=cast("Outbox", dispatch),
        states=dispatch,
        health=HealthBoard(),
    )
    crew = StatusWatch(dispatch, path)
    truths: list[TruthItem] = []
    for item in shift.items():
        dispatch.now_s = item.t_ns / 1e9
        if isinstance(item, TruthItem):
            truths.append(item)
            crew.set_state(StatusState(item.t_ns // 1_000_000, None, item.status or None))
        elif isinstance(item, NmeaItem):
            for fix in decoder.feed(NmeaBytes(item.data, item.t_ns)):
                path.on_fix(fix)
    errors = _errors(truths, dispatch, shift.start_utc_ms)
    fixed_s = sum(truth.has_fix for truth in truths)
    reports = sum(state.position is not None for _, state in dispatch.told)
    print(
        f"median {errors[len(errors) // 2]:.1f} m, p95 {errors[int(len(errors) * 0.95)]:.1f} m, "
        f"largest {errors[-1]:.1f} m; {reports} reports in {fixed_s} s, {dispatch.trail} points of the trail"
    )
    assert errors[-1] <= reporting.max_error_m
    assert reports * 8 <= fixed_s


def _errors(truths: list[TruthItem], dispatch: Dispatch, start_utc_ms: int) -> list[float]:
    """Of dispatch's picture, four times a second, wherever it has a position and the receiver a fix."""
    errors: list[float] = []
    newest: LocationState | None = None
    number = 0
    for before, after in pairwise(truths):
        for step in range(STEPS):
            share = step / STEPS
            now_s = (before.t_ns + (after.t_ns - before.t_ns) * share) / 1e9
            while number < len(dispatch.told) and dispatch.told[number][0] <= now_s:
                newest = dispatch.told[number][1]
                number += 1
            if newest is None or newest.position is None or newest.utc is None:
                continue
            if not before.has_fix or not after.has_fix:
                continue
            age_s = now_s - (newest.utc.unix_ms - start_utc_ms) / 1000
            lat_deg = before.lat_deg + (after.lat_deg - before.lat_deg) * share
            lon_deg = before.lon_deg + (after.lon_deg - before.lon_deg) * share
            errors.append(distance_m(lat_deg, lon_deg, *extrapolated(newest.position, age_s)))
    return sorted(errors)
