"""A real drive from a log of NMEA text, with a crew and a vehicle bus made to fit around it."""

from __future__ import annotations

import heapq
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from hil.drive.can_writer import bus_messages
from hil.drive.devices import Vehicle, button_items, can_items, clock_items, coverage_items, ignition_items
from hil.drive.items import Press, TimedItem, TruthItem
from hil.drive.nmea_text import NmeaText, read_nmea_text
from hil.drive.nmea_writer import KNOTS_PER_MPS, sentence
from hil.drive.route import GeoPoint, Sky, distance_m
from hil.drive.timeline import NS, Activity, Situation, status_at

MOVING_MPS = 2.0
STANDS_MPS = 0.5
STOP_S = 10.0
"""A halt so long may be a scene or a hospital; a shorter one is traffic."""
TAP_MS = 150
COVERAGE_LOST_BEFORE_S = 20.0
_RMC = re.compile(
    rb"\$(..RMC,\d{6}[.\d]*,A,(\d+)(\d\d\.\d+),([NS]),(\d+)(\d\d\.\d+),([EW]),([\d.]*),([\d.]*),[^*]*)\*"
)
VEHICLE = Vehicle(odometer_km=48_210.4, fuel_percent=82.0, ignition_off_s=None)


@dataclass(frozen=True, slots=True)
class _Sample:
    """A fix of the drive; `course_deg` is the last known one, `travelled_m` the distance until then."""

    t_s: float
    point: GeoPoint
    speed_mps: float
    course_deg: float
    travelled_m: float


class NmeaDrive:
    """A `hil.drive.items.Drive` whose GNSS bytes are those of the log, unchanged.

    The crew's presses are put where a crew would press: the longest halt in the middle of the drive is the
    scene, the last halt after it the hospital. Speed and odometer on the bus follow the fixes.
    """

    def __init__(self, name: str, text: NmeaText, samples: Sequence[_Sample], start_utc_ms: int) -> None:
        self.name = name
        self.start_utc_ms = start_utc_ms
        self.duration_s = text.items[-1].t_ns / NS + 2
        self._text = text
        self._samples = samples
        self._times = [sample.t_s for sample in samples]
        self._moves_s, self._scene, self._hospital = _plot(samples, self.duration_s)
        self.presses = self._presses()
        self.coverage_gaps = ((max(self._scene[0] - COVERAGE_LOST_BEFORE_S, 0.0), self._scene[1]),)

    def items(self) -> Iterator[TimedItem]:
        """Everything, ascending in t_ns."""
        streams: list[Iterator[TimedItem]] = [
            ignition_items(VEHICLE),
            clock_items(self.start_utc_ms, self.duration_s),
            coverage_items(self.coverage_gaps),
            self._truth(),
            iter(self._text.items),
            button_items(self.presses),
        ]
        streams += [
            can_items(self, VEHICLE, message, bus="can0", hz_scale=1.0, seed=self.name)
            for message in bus_messages()
        ]
        return heapq.merge(*streams, key=attrgetter("t_ns"))

    def at(self, t_s: float) -> Situation:
        """The situation, with the motion between two fixes interpolated."""
        index = min(max(bisect_right(self._times, t_s) - 1, 0), len(self._times) - 2)
        a, b = self._samples[index], self._samples[index + 1]
        span_s = max(b.t_s - a.t_s, 0.001)
        part = min(max((t_s - a.t_s) / span_s, 0.0), 1.0)
        activity, since_s, left_s = self._activity(t_s)
        speed_mps = _between(a.speed_mps, b.speed_mps, part)
        return Situation(
            t_s=t_s,
            activity=activity,
            driving=activity in (Activity.RESPONDING, Activity.TRANSPORTING, Activity.RETURNING),
            lights=activity in (Activity.RESPONDING, Activity.AT_SCENE, Activity.TRANSPORTING),
            since_s=since_s,
            left_s=left_s,
            point=(_between(a.point[0], b.point[0], part), _between(a.point[1], b.point[1], part)),
            course_deg=a.course_deg,
            speed_mps=speed_mps,
            acceleration_mps2=(b.speed_mps - a.speed_mps) / span_s,
            sky=Sky.OPEN,
            travelled_m=_between(a.travelled_m, b.travelled_m, part),
        )

    def _activity(self, t_s: float) -> tuple[Activity, float, float]:
        begin_s = 0.0
        ends = (self._moves_s, *self._scene, *self._hospital, self.duration_s)
        for activity, end_s in zip(Activity, ends, strict=True):
            if t_s < end_s:
                return activity, t_s - begin_s, end_s - t_s
            begin_s = end_s
        return Activity.RETURNING, t_s - begin_s, 0.0

    def _presses(self) -> tuple[Press, ...]:
        moments = (
            (min(2.0, self._moves_s / 3), "available"),
            (self._moves_s * 0.8, "en_route"),
            (self._scene[0] + 3, "on_scene"),
            (self._scene[1] - 3, "transporting"),
            (self._hospital[0] + 3, "at_destination"),
            (self._hospital[1] - 3, "available"),
        )
        return tuple(Press(round(t_s * NS), key, TAP_MS) for t_s, key in moments)

    def _truth(self) -> Iterator[TimedItem]:
        for sample in self._samples:
            t_ns = round(sample.t_s * NS)
            yield TruthItem(
                t_ns=t_ns,
                utc_ms=self.start_utc_ms + round(sample.t_s * 1000),
                lat_deg=sample.point[0],
                lon_deg=sample.point[1],
                speed_mps=sample.speed_mps,
                course_deg=sample.course_deg,
                status=status_at(self.presses, t_ns),
                activity=self._activity(sample.t_s)[0],
                sky=Sky.OPEN,
                odometer_m=VEHICLE.odometer_km * 1000 + sample.travelled_m,
                has_fix=True,
            )


def nmea_drive(path: Path) -> NmeaDrive:
    """A drive from a log of NMEA text.

    Raises:
        OSError: it can not be read.
        ValueError: it has no date, or fewer than two valid RMC sentences.
    """
    text = read_nmea_text(path)
    if text.start_utc_ms is None:
        raise ValueError(f"{path}: no sentence with a date in it")
    samples = list(_samples(text))
    if len(samples) < 2:
        raise ValueError(f"{path}: fewer than two fixes (RMC) in it")
    return NmeaDrive(path.stem, text, samples, text.start_utc_ms)


def _samples(text: NmeaText) -> Iterator[_Sample]:
    """The fixes of the log, read here and not by the agent's parser, which is to be compared with them."""
    before: _Sample | None = None
    for item in text.items:
        found = _RMC.match(item.data)
        if not found or sentence(found[1].decode("ascii")) != item.data:
            continue
        lat_deg = (int(found[2]) + float(found[3]) / 60) * (-1 if found[4] == b"S" else 1)
        lon_deg = (int(found[5]) + float(found[6]) / 60) * (-1 if found[7] == b"W" else 1)
        course_deg = float(found[9]) if found[9] else before.course_deg if before else 0.0
        moved_m = distance_m(before.point, (lat_deg, lon_deg)) if before else 0.0
        before = _Sample(
            t_s=item.t_ns / NS,
            point=(lat_deg, lon_deg),
            speed_mps=float(found[8]) / KNOTS_PER_MPS if found[8] else 0.0,
            course_deg=course_deg,
            travelled_m=(before.travelled_m if before else 0.0) + moved_m,
        )
        yield before


def _plot(
    samples: Sequence[_Sample], duration_s: float
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """When the unit sets off, and from when to when it is at the scene and at the hospital, in seconds.

    A drive without halts gets them at fixed parts of its duration.
    """
    moves_s = next((one.t_s for one in samples if one.speed_mps > MOVING_MPS), duration_s * 0.05)
    moves_s = min(max(moves_s, 6.0), duration_s * 0.2)
    halts = [halt for halt in _halts(samples) if halt[0] > moves_s + 10 and halt[1] < duration_s - 10]
    middle = [halt for halt in halts if duration_s * 0.2 < halt[0] and halt[1] < duration_s * 0.75]
    scene = max(middle, key=lambda halt: halt[1] - halt[0], default=(duration_s * 0.4, duration_s * 0.45))
    later = [halt for halt in halts if halt[0] > scene[1] + 20]
    hospital = later[-1] if later else (duration_s * 0.85, duration_s * 0.92)
    return moves_s, scene, hospital


def _halts(samples: Sequence[_Sample]) -> Iterator[tuple[float, float]]:
    since_s: float | None = None
    for sample in samples:
        if sample.speed_mps < STANDS_MPS:
            since_s = sample.t_s if since_s is None else since_s
        elif since_s is not None:
            if sample.t_s - since_s >= STOP_S:
                yield since_s, sample.t_s
            since_s = None


def _between(a: float, b: float, part: float) -> float:
    return a + (b - a) * part
