"""Lays out a shift in time from its scenario and a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hil.drive.drive_file import Call, DriveFile, StretchEntry
from hil.drive.items import Press
from hil.drive.route import Line, Sky, Stretch
from hil.drive.timeline import NS, Activity, Phase, Timeline
from hil.drive.vehicle_motion import EMERGENCY, NORMAL, WITH_PATIENT, Manner, Trajectory

TAP_MS = (110, 220)
"""How long a finger stays on a button."""
CANCEL_AFTER_S, CANCEL_HOLD_MS = 12.0, 5_400
"""When and how long the emergency button is held to cancel: after ten seconds of rest, for five seconds."""


def plan_shift(file: DriveFile, seed: int) -> Timeline:
    """Lay out a shift. The same file and seed give the same shift."""
    rng = random.Random(f"{seed}/shift")
    planner = _Planner(file, rng)
    calls = _drawn(file, rng)
    for call in calls:
        planner.add(call)
    waits_s = _waits(file, calls, planner.busy_s(), rng)
    return planner.laid_out(waits_s)


def _drawn(file: DriveFile, rng: random.Random) -> list[Call]:
    if file.calls_in_shift is None:
        return list(file.calls)
    drawn: list[Call] = []
    while len(drawn) < file.calls_in_shift:
        drawn += rng.sample(file.calls, len(file.calls))
    return drawn[: file.calls_in_shift]


def _waits(file: DriveFile, calls: list[Call], busy_s: float, rng: random.Random) -> list[float]:
    if file.calls_in_shift is None:
        return [rng.uniform(*call.wait_s) for call in calls]
    # One share more than there are calls: the shift also ends with standing by.
    shares = [rng.uniform(0.3, 1.0) for _ in range(len(calls) + 1)]
    idle_s = max(file.duration_s - busy_s, 30.0 * len(shares))
    return [idle_s * share / sum(shares) for share in shares[:-1]]


@dataclass(frozen=True, slots=True)
class _Worked:
    """A call with its legs driven: parts of (activity, seconds, trajectory or None)."""

    call: Call
    first_leg: Trajectory
    parts: tuple[tuple[Activity, float, Trajectory | None], ...]


class _Planner:
    """Collects calls, then lays them out in time."""

    def __init__(self, file: DriveFile, rng: random.Random) -> None:
        self._file = file
        self._rng = rng
        self._worked: list[_Worked] = []

    def add(self, call: Call) -> None:
        """Drive a call's legs."""
        rng = self._rng
        back = WITH_PATIENT if call.transport_with_lights else NORMAL
        to_scene, to_hospital = self._drive(call.to_scene, EMERGENCY), self._drive(call.to_hospital, back)
        parts: list[tuple[Activity, float, Trajectory | None]] = [
            (Activity.RESPONDING, to_scene.duration_s, to_scene),
            (Activity.AT_SCENE, rng.uniform(*call.scene_s), None),
            (Activity.TRANSPORTING, to_hospital.duration_s, to_hospital),
            (Activity.AT_HOSPITAL, rng.uniform(*call.hospital_s), None),
        ]
        if call.to_post:
            to_post = self._drive(call.to_post, NORMAL)
            parts.append((Activity.RETURNING, to_post.duration_s, to_post))
        self._worked.append(_Worked(call, to_scene, tuple(parts)))

    def busy_s(self) -> float:
        """Seconds that all calls take."""
        return sum(seconds for worked in self._worked for _, seconds, _ in worked.parts)

    def laid_out(self, waits_s: Sequence[float]) -> Timeline:
        """The time line, with `waits_s` of standing by before each call."""
        phases: list[Phase] = []
        presses = [self._tap(4.0, "available")]
        for worked, wait_s in zip(self._worked, waits_s, strict=True):
            first = len(phases)
            self._append(phases, worked.call, Activity.WAITING, wait_s, None)
            for activity, seconds, trajectory in worked.parts:
                self._append(phases, worked.call, activity, seconds, trajectory)
            presses += self._presses(worked.call, {phase.activity: phase for phase in phases[first:]})
        rest_s = max(self._file.duration_s - phases[-1].end_s, 10.0)
        self._append(phases, self._worked[-1].call, Activity.WAITING, rest_s, None)
        return Timeline(phases, presses)

    def _drive(self, entries: Sequence[StretchEntry], manner: Manner) -> Trajectory:
        return Trajectory(Line([entry.stretch() for entry in entries]), manner, self._rng)

    def _append(
        self,
        phases: list[Phase],
        call: Call,
        activity: Activity,
        seconds: float,
        trajectory: Trajectory | None,
    ) -> None:
        before = phases[-1] if phases else None
        if trajectory is None and before is not None and before.trajectory is None:
            # Where it stands already: a shift that does not drive back to its post ends at the hospital.
            point, course_deg, sky = before.point, before.course_deg, before.sky
        else:
            if trajectory is None and before is not None and before.trajectory is not None:
                line = before.trajectory.line
                place, stretch = line.at(line.length_m), line.stretches[-1]
            else:
                line = (trajectory or self._worked[0].first_leg).line
                place, stretch = line.at(0), line.stretches[0]
            point, course_deg, sky = place.point, place.course_deg, _parked_sky(stretch)
        start_s = before.end_s if before else 0.0
        driven_m = before.trajectory.line.length_m if before and before.trajectory else 0.0
        phases.append(
            Phase(
                activity=activity,
                start_s=start_s,
                end_s=start_s + seconds,
                call=call,
                trajectory=trajectory,
                point=point,
                course_deg=course_deg,
                sky=sky,
                covered=call.scene_coverage if activity is Activity.AT_SCENE else True,
                odometer_m=(before.odometer_m if before else 0.0) + driven_m,
            )
        )

    def _presses(self, call: Call, phases: dict[Activity, Phase]) -> Iterator[Press]:
        full = self._file.statuses == "full"
        late = self._rng.uniform
        responding, scene = phases[Activity.RESPONDING], phases[Activity.AT_SCENE]
        transport, hospital = phases[Activity.TRANSPORTING], phases[Activity.AT_HOSPITAL]
        if full:
            yield self._tap(
                max(responding.start_s - late(30, 60), phases[Activity.WAITING].start_s + 5), "acknowledged"
            )
        yield self._tap(responding.start_s - late(1.5, 4), "en_route")
        yield self._tap(scene.start_s + late(1.5, 4), "on_scene")
        if full:
            yield self._tap(scene.start_s + (scene.end_s - scene.start_s) * late(0.1, 0.2), "at_patient")
        if call.emergency_button:
            raised_s = scene.start_s + max((scene.end_s - scene.start_s) * 0.2, 5)
            yield self._tap(raised_s, "emergency")
            yield Press(round((raised_s + CANCEL_AFTER_S) * NS), "emergency", CANCEL_HOLD_MS)
        yield self._tap(transport.start_s - late(1.5, 4), "transporting")
        yield self._tap(hospital.start_s + late(1.5, 4), "at_destination")
        if full:
            yield self._tap(
                hospital.start_s + (hospital.end_s - hospital.start_s) * late(0.3, 0.5), "transfer_of_care"
            )
        yield self._tap(hospital.end_s - late(2, 5), "available")
        if full and Activity.RETURNING in phases:
            yield self._tap(phases[Activity.RETURNING].end_s + late(2, 5), "in_quarters")

    def _tap(self, at_s: float, key: str) -> Press:
        return Press(round(at_s * 1000) * 1_000_000, key, self._rng.randint(*TAP_MS))


def _parked_sky(stretch: Stretch) -> Sky:
    return Sky.OPEN if stretch.sky is Sky.TUNNEL else stretch.sky
