"""The odometer through simulated drives, against the way that the simulator knows."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent.domain.odometer import OdometerReading
from agent.domain.record import EvidenceRecord, MotionRecord, OdometerSource, SourceSwitch, StatusChange
from hil.drive.items import CanItem, TimedItem, TruthItem
from hil.drive.shift import Shift, load_shift
from hil.sim.sim_rig import SimRig
from hil.sim.virtual_loop import VirtualLoop

SETTLED_S = 90
ODOMETER_FRAME = 1056
"""CLUSTER_STATUS of the demo vehicle: its odometer, in steps of 100 m, and its fuel."""


def run_simulated(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def driven(
    directory: Path, shift: Shift, *, keep: Callable[[TimedItem], bool], cut_s: float | None = None
) -> tuple[list[tuple[float, OdometerReading | None]], list[TruthItem], SimRig]:
    """The readings of each second of a drive of which the agent gets what `keep` says."""
    readings: list[tuple[float, OdometerReading | None]] = []
    truths = [item for item in shift.items() if isinstance(item, TruthItem)]

    async def main() -> SimRig:
        async with SimRig(directory, unix_ms=shift.start_utc_ms, seed=7) as rig:
            await rig.boot()
            loop = asyncio.get_running_loop()
            began_s = loop.time()

            async def look() -> None:
                while True:
                    await asyncio.sleep(1)
                    if rig.daemon is not None:
                        readings.append((loop.time() - began_s, rig.daemon._odometer.now()))

            looking = asyncio.create_task(look())
            cutting = asyncio.create_task(cut(rig))
            await rig.play(item for item in shift.items() if keep(item))
            looking.cancel()
            cutting.cancel()
            await asyncio.gather(looking, cutting, return_exceptions=True)
            assert await rig.wait_delivered(600)
        return rig

    async def cut(rig: SimRig) -> None:
        if cut_s is not None:
            await asyncio.sleep(cut_s)
            await rig.power_cut()
            await rig.boot()

    rig = run_simulated(main())
    return readings, truths, rig


def way(readings: list[tuple[float, OdometerReading | None]]) -> tuple[float, float, list[OdometerReading]]:
    """From the first known reading to the last: seconds of both, and the readings between."""
    # The vehicle counts in steps of 100 m: where the first one began is not known before the second.
    known = [(at_s, reading) for at_s, reading in readings if reading is not None and at_s > SETTLED_S]
    return known[0][0], known[-1][0], [reading for _, reading in known]


def true_way(truths: list[TruthItem], begin_s: float, end_s: float) -> float:
    at = [(item.t_ns / 1e9, item.odometer_m) for item in truths]
    begin = max((one for one in at if one[0] <= begin_s), default=at[0])
    end = max(one for one in at if one[0] <= end_s)
    return end[1] - begin[1]


@pytest.mark.parametrize("source", list(OdometerSource))
def test_the_way_is_that_of_the_simulator_by_each_source(tmp_path: Path, source: OdometerSource) -> None:
    shift = load_shift("boston_demo", 1)

    def keep(item: TimedItem) -> bool:
        if not isinstance(item, CanItem) or source is OdometerSource.VEHICLE:
            return True
        return source is OdometerSource.WHEELS and item.can_id != ODOMETER_FRAME

    readings, truths, rig = driven(tmp_path, shift, keep=keep)
    begin_s, end_s, between = way(readings)
    told_m, true_m = between[-1].metres - between[0].metres, true_way(truths, begin_s, end_s)
    tunnel_m = 0.0
    assert true_m > 2000
    assert between[-1].source is source
    if source is OdometerSource.GNSS:
        # Nobody counts where there is no fix.
        tunnel_m = sum(
            after.odometer_m - before.odometer_m
            for before, after in itertools.pairwise(truths)
            if not (before.has_fix and after.has_fix) and begin_s * 1e9 <= before.t_ns <= end_s * 1e9
        )
    print(f"{source}: told {told_m:.0f} m, true {true_m - tunnel_m:.0f} m")
    assert told_m == pytest.approx(true_m - tunnel_m, rel=0.005, abs=12)  # a second of the way at each end
    for before, after in itertools.pairwise(between):
        assert after.metres >= before.metres
    records = [arrival.record.body for arrival in rig.dispatch.arrivals]
    assert [one.source for one in records if isinstance(one, SourceSwitch)][-1] == str(source)
    moved = [one for one in records if isinstance(one, MotionRecord)]
    assert moved
    assert moved[-1].odometer_source == str(source)
    evidence = [one.evidence for one in records if isinstance(one, StatusChange) and one.evidence]
    assert isinstance(evidence[-1], EvidenceRecord)
    assert evidence[-1].odometer_source == str(source)


def test_a_power_cut_costs_nothing_where_the_vehicle_counts_and_half_a_minute_where_the_wheels_do(
    tmp_path: Path,
) -> None:
    shift = load_shift("boston_demo", 1)
    for name, most_m in (("vehicle", 20.0), ("wheels", 700.0)):
        readings, truths, rig = driven(
            tmp_path / name,
            shift,
            keep=lambda item, name=name: (  # type: ignore[misc]
                name == "vehicle" or not (isinstance(item, CanItem) and item.can_id == ODOMETER_FRAME)
            ),
            cut_s=150,
        )
        begin_s, end_s, between = way(readings)
        lost_m = true_way(truths, begin_s, end_s) - (between[-1].metres - between[0].metres)
        print(f"{name}: {lost_m:.0f} m lost")
        assert -12 <= lost_m <= most_m
        recorded = [
            told
            for arrival in rig.dispatch.arrivals
            if isinstance(body := arrival.record.body, MotionRecord | StatusChange)
            and (told := _odometer_m(body)) is not None
        ]
        assert len(recorded) > 2
        assert recorded == sorted(recorded)


def _odometer_m(body: MotionRecord | StatusChange) -> int | None:
    if isinstance(body, MotionRecord):
        return body.odometer_m
    return None if body.evidence is None else body.evidence.odometer_m
