"""A whole agent off duty: its place leaves the vehicle in nothing, and comes back with a press."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.domain.record import Position, PositionQuality, StatusChange
from agent.domain.state import LocationState
from agent.paths.fix_path import ON_INCIDENT
from hil.drive.shift import load_shift
from hil.sim.sim_rig import SimRig
from hil.sim.virtual_loop import VirtualLoop


def run_simulated(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def places_in(whole: Any) -> list[Position]:
    if isinstance(whole, Position):
        return [whole]
    if not is_dataclass(whole):
        return []
    return [place for field in fields(whole) for place in places_in(getattr(whole, field.name))]


@pytest.mark.parametrize("off_duty", ["blur", "withhold"])
def test_off_duty_no_place_leaves_the_vehicle(tmp_path: Path, off_duty: str) -> None:
    shift = load_shift("emergency_call", 1)
    hidden = {"privacy": {"off_duty": off_duty, "hours": ["Mon-Sun 00:00-24:00"]}}

    async def main() -> SimRig:
        async with SimRig(tmp_path, unix_ms=shift.start_utc_ms, seed=7, overrides=hidden) as rig:
            await rig.boot()
            await rig.play(shift.items())
            assert await rig.wait_delivered(600)
        return rig

    rig = run_simulated(main())
    status, raised, told, kept = None, False, 0, 0
    events = sorted(
        (arrival.record for arrival in rig.dispatch.arrivals), key=lambda record: record.boottime_ms
    )
    for record in events:
        body = record.body
        if isinstance(body, StatusChange):
            status = body.status
        raised = raised or type(body).__name__ == "Emergency"
        for place in places_in(body):
            told += 1
            if place.quality != PositionQuality.BLURRED:
                kept += 1
                assert raised or status in ON_INCIDENT, body
            else:
                assert off_duty == "blur"
    assert kept > 10  # on the incident all was told
    states = [one.state for one in rig.dispatch.state_history if isinstance(one.state, LocationState)]
    if off_duty == "withhold":
        assert any(state.withheld and state.position is None for state in states)
    else:
        assert any(state.position and state.position.quality == "blurred" for state in states)
