"""Fewer points for the page, without hiding what stands out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from hil.drive.route import METRES_PER_DEGREE, distance_m
from hil.report.model import BacklogPoint, LatencyPoint, LivePosition, TrackPoint

TOLERANCE_M = 1.5
"""Below what can be seen on the map of a whole drive."""
BUCKETS = 1500
"""More than a wide screen has points for."""

MOST_MPS = 70.0
"""No ambulance is faster: a track that is jumps, as where two drives were put together."""


def is_jump(a: TrackPoint, b: TrackPoint) -> bool:
    """Whether no vehicle can have come from `a` to `b`; GNSS wander of a vehicle that stands is none."""
    moved_m = distance_m((a.lat_deg, a.lon_deg), (b.lat_deg, b.lon_deg))
    return moved_m > MOST_MPS * max(b.t_s - a.t_s, 1.0)


def motion(track: Sequence[TrackPoint]) -> list[TrackPoint]:
    """Points from which every other follows within TOLERANCE_M by going straight at constant speed.

    Line simplification after Douglas and Peucker, with the distance taken at equal times, so that not only
    the shape stays but also where the vehicle was when. Changes of the fix stay as well.
    """
    if len(track) < 3:
        return list(track)
    keep = [False] * len(track)
    keep[0] = keep[-1] = True
    edges = [0, *(at for at in range(1, len(track)) if track[at].has_fix != track[at - 1].has_fix)]
    for at in edges:
        keep[at] = True
    spans = list(zip(edges, [*edges[1:], len(track) - 1], strict=True))
    while spans:
        first, last = spans.pop()
        furthest, off_m = _furthest(track, first, last)
        if off_m > TOLERANCE_M:
            keep[furthest] = True
            spans += [(first, furthest), (furthest, last)]
    return [point for point, stays in zip(track, keep, strict=True) if stays]


def _furthest(track: Sequence[TrackPoint], first: int, last: int) -> tuple[int, float]:
    a, b = track[first], track[last]
    span_s = b.t_s - a.t_s or 1.0
    east_m = METRES_PER_DEGREE * math.cos(math.radians(a.lat_deg))
    furthest, most_m = first, 0.0
    for at in range(first + 1, last):
        point = track[at]
        part = (point.t_s - a.t_s) / span_s
        north_m = (point.lat_deg - a.lat_deg - (b.lat_deg - a.lat_deg) * part) * METRES_PER_DEGREE
        off_m = math.hypot(north_m, (point.lon_deg - a.lon_deg - (b.lon_deg - a.lon_deg) * part) * east_m)
        if off_m > most_m:
            furthest, most_m = at, off_m
    return furthest, most_m


def backlog(points: Sequence[BacklogPoint]) -> list[BacklogPoint]:
    """Points at which the number changes, or is about to."""
    changes = [
        point
        for before, point, after in zip(points, points[1:], points[2:], strict=False)
        if not before.records == point.records == after.records
    ]
    return [*points[:1], *changes, *points[1:][-1:]]


def latencies(points: Sequence[LatencyPoint], end_s: float) -> list[LatencyPoint]:
    """Of many: the longest and the shortest of each kind in each bucket of time."""
    if len(points) <= 2 * BUCKETS:
        return list(points)
    buckets: dict[tuple[int, str, bool], list[LatencyPoint]] = {}
    for point in points:
        key = int(point.t_s / end_s * BUCKETS), point.kind, point.history
        buckets.setdefault(key, []).append(point)
    kept: list[LatencyPoint] = []
    for bucket in buckets.values():
        low, high = (pick(bucket, key=lambda one: one.latency_s) for pick in (min, max))
        kept += [low] if low is high else [low, high]
    return sorted(kept, key=lambda one: one.t_s)


def live(points: Iterable[LivePosition], end_s: float) -> list[LivePosition]:
    """One of each bucket of time, and every change between a position and none."""
    kept: list[LivePosition] = []
    before: LivePosition | None = None
    for point in points:
        changed = before is None or (before.where is None) != (point.where is None)
        wide = not kept or point.dispatched_s - kept[-1].dispatched_s >= end_s / BUCKETS / 4
        if changed and before is not None and kept and kept[-1] is not before:
            kept.append(before)
        if changed or wide:
            kept.append(point)
        before = point
    if before is not None and kept[-1] is not before:
        kept.append(before)
    return kept
