"""The course of a shift: which phase follows which, where the vehicle is, what the crew presses."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hil.drive.drive_file import Call
from hil.drive.items import Press
from hil.drive.route import GeoPoint, Sky
from hil.drive.vehicle_motion import Trajectory

NS = 1_000_000_000


class Activity(StrEnum):
    """What the unit is doing."""

    WAITING = "waiting"
    RESPONDING = "responding"
    AT_SCENE = "at_scene"
    TRANSPORTING = "transporting"
    AT_HOSPITAL = "at_hospital"
    RETURNING = "returning"


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the shift: a leg that is driven, or a stand.

    Attributes:
        activity: what the unit does in it.
        start_s: when it begins, from the start of the shift.
        end_s: when it ends.
        call: the call it belongs to.
        trajectory: the motion, None for a stand.
        point: where it stands, or where the leg begins.
        course_deg: how it stands.
        sky: what the antenna sees at a stand.
        covered: whether a stand is within reach of the radio network.
        odometer_m: distance travelled in the shift before it.
    """

    activity: Activity
    start_s: float
    end_s: float
    call: Call
    trajectory: Trajectory | None
    point: GeoPoint
    course_deg: float
    sky: Sky
    covered: bool
    odometer_m: float

    @property
    def lights(self) -> bool:
        """Emergency lights are on."""
        if self.activity is Activity.TRANSPORTING:
            return self.call.transport_with_lights
        return self.activity in (Activity.RESPONDING, Activity.AT_SCENE)


@dataclass(frozen=True, slots=True)
class Situation:
    """What the unit does, where it is and how it moves at one time.

    Attributes:
        t_s: seconds from the start of the shift.
        activity: what the unit does.
        driving: in gear, on a leg, though it may wait at a light.
        lights: emergency lights are on.
        since_s: how long this activity lasts already.
        left_s: how long it will go on.
        point: WGS 84 latitude and longitude.
        course_deg: direction in which the vehicle points.
        speed_mps: speed.
        acceleration_mps2: positive when getting faster.
        sky: what the antenna sees.
        travelled_m: distance travelled in the shift.
    """

    t_s: float
    activity: Activity
    driving: bool
    lights: bool
    since_s: float
    left_s: float
    point: GeoPoint
    course_deg: float
    speed_mps: float
    acceleration_mps2: float
    sky: Sky
    travelled_m: float


class Course(Protocol):
    """The course of a shift as a function of time, planned or taken from a real drive."""

    @property
    def duration_s(self) -> float:
        """Length of the shift."""
        ...

    @property
    def presses(self) -> Sequence[Press]:
        """Every press of the crew, in order."""
        ...

    @property
    def coverage_gaps(self) -> Sequence[tuple[float, float]]:
        """(from, to) in seconds where the radio network does not reach."""
        ...

    def at(self, t_s: float) -> Situation:
        """The situation `t_s` seconds after the start of the shift."""
        ...


class Timeline:
    """A shift from its first to its last second, as a function of time.

    Attributes:
        phases: in order, without holes.
        presses: every press of the crew, in order.
        coverage_gaps: (from, to) in seconds where the radio network does not reach.
        duration_s: the end of the last phase.
    """

    def __init__(self, phases: Sequence[Phase], presses: Sequence[Press]) -> None:
        self.phases = tuple(phases)
        self.presses = tuple(sorted(presses, key=lambda press: press.at_ns))
        self.duration_s = self.phases[-1].end_s
        self._starts = [phase.start_s for phase in self.phases]
        self.coverage_gaps = tuple(_merged(_uncovered(self.phases)))

    def at(self, t_s: float) -> Situation:
        """The situation `t_s` seconds after the start of the shift."""
        phase = self.phases[max(bisect_right(self._starts, t_s) - 1, 0)]
        moment = None if phase.trajectory is None else phase.trajectory.at(t_s - phase.start_s)
        return Situation(
            t_s=t_s,
            activity=phase.activity,
            driving=moment is not None,
            lights=phase.lights,
            since_s=t_s - phase.start_s,
            left_s=phase.end_s - t_s,
            point=moment.place.point if moment else phase.point,
            course_deg=moment.place.course_deg if moment else phase.course_deg,
            speed_mps=moment.speed_mps if moment else 0.0,
            acceleration_mps2=moment.acceleration_mps2 if moment else 0.0,
            sky=moment.place.sky if moment else phase.sky,
            travelled_m=phase.odometer_m + (moment.along_m if moment else 0.0),
        )


def status_at(presses: Sequence[Press], t_ns: int) -> str:
    """The last status the crew pressed by then, "" before the first; the emergency button is none."""
    index = bisect_right(presses, t_ns, key=lambda press: press.at_ns)
    return next((press.key for press in reversed(presses[:index]) if press.key != "emergency"), "")


def _uncovered(phases: Sequence[Phase]) -> Iterator[tuple[float, float]]:
    for phase in phases:
        if phase.trajectory is None:
            if not phase.covered:
                yield phase.start_s, phase.end_s
            continue
        line = phase.trajectory.line
        begin_m = 0.0
        for stretch, end_m in zip(line.stretches, line.ends_m, strict=True):
            if not stretch.coverage:
                reaches_s = phase.trajectory.reaches_s
                yield phase.start_s + reaches_s(begin_m), phase.start_s + reaches_s(end_m)
            begin_m = end_m


def _merged(spans: Iterator[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    current: tuple[float, float] | None = None
    for start_s, end_s in spans:
        if current is None:
            current = (start_s, end_s)
        elif start_s - current[1] < 1:
            current = (current[0], max(end_s, current[1]))
        else:
            yield current
            current = (start_s, end_s)
    if current is not None:
        yield current
