"""The values that the page draws, as small as they can be: lists of numbers, not objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hil.report import thinning
from hil.report.model import LatencyPoint, LinkView, RunReport, TrackPoint
from hil.report.words import in_words

JUMPS = 2
"""In the place of "has a fix": from here to the next point there is no way."""


def page_data(run: RunReport) -> str:
    """JSON for a script element; what could end that element is escaped."""
    text = json.dumps(_data(run), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c")


def _data(run: RunReport) -> dict[str, Any]:
    shown = thinning.latencies(run.latencies, run.duration_s)
    kinds = sorted({point.kind for point in shown})
    return {
        "startMs": round(datetime.fromisoformat(run.started_utc).timestamp() * 1000),
        "end": _s(run.duration_s),
        "speed": run.speed,
        "track": _track(thinning.motion(run.track)),
        "positions": [
            [_s(p.t_s), _s(p.dispatched_s), _deg(p.lat_deg), _deg(p.lon_deg), int(p.history), _m(p.error_m)]
            for p in sorted(run.positions, key=lambda position: position.t_s)
        ],
        "live": [
            [_s(p.dispatched_s), None if p.t_s is None else _s(p.t_s), *map(_deg, p.where or ())]
            for p in thinning.live(run.live, run.duration_s)
        ],
        "faults": [[in_words(f.kind), _s(f.from_s), _s(f.to_s), f.detail] for f in run.faults],
        "presses": [
            [
                _s(p.t_s),
                in_words(p.key),
                *map(_maybe_s, (p.stored_after_s, p.delivered_after_s, p.dispatched_after_s)),
                int(p.said_nothing_new),
            ]
            for p in run.presses
        ],
        "links": {
            view.value: [[_s(a.from_s), _s(a.to_s), int(a.online)] for a in run.links if a.view is view]
            for view in LinkView
        },
        "backlog": [[_s(point.t_s), point.records] for point in thinning.backlog(run.backlog)],
        "latencyKinds": [in_words(kind) for kind in kinds],
        "latencies": _latencies(shown, kinds),
        "latenciesThinned": len(shown) < len(run.latencies),
        "reasons": [[in_words(r.reason), _s(r.from_s), _s(r.to_s), r.detail] for r in run.reasons],
    }


def _track(points: Sequence[TrackPoint]) -> list[list[float]]:
    followers = [*points[1:], *points[-1:]]
    return [
        [
            _s(point.t_s),
            _deg(point.lat_deg),
            _deg(point.lon_deg),
            JUMPS if thinning.is_jump(point, following) else int(point.has_fix),
        ]
        for point, following in zip(points, followers, strict=True)
    ]


def _latencies(points: Sequence[LatencyPoint], kinds: Sequence[str]) -> list[list[float]]:
    number = {kind: at for at, kind in enumerate(kinds)}
    return [[_s(p.t_s), round(p.latency_s, 4), number[p.kind], int(p.history)] for p in points]


def _s(seconds: float) -> float:
    return round(seconds, 2)


def _maybe_s(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _deg(degrees: float) -> float:
    return round(degrees, 6)


def _m(metres: float | None) -> float | None:
    return None if metres is None else round(metres, 1)
