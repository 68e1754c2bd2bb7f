"""Hints of forgotten presses for many radii and dwell times at once, over the same drives and presses.

The agent's own rules are asked (`MissedPress`, `PlaceWatch`, `MotionWatch`), once for each pair; what the
vehicle itself is configured to has no part in it. The radius of hospitals and scenes is set together, and so
are the dwell times of standing, of leaving and of driving off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.dispatch.fleet import ON_A_RUN
from agent.domain.fix import Fix
from agent.domain.missed_press import MissedPress, Seen
from agent.domain.motion import MotionWatch, SpeedSource
from agent.domain.places import Place, Places, PlaceWatch
from hil.city.world import World

RADII_M = (50.0, 100.0, 150.0, 250.0)
DWELLS_S = (10.0, 20.0, 30.0, 60.0, 120.0)
SEEN_BY_A_RULE = frozenset({"en_route", "on_scene", "transporting", "at_destination", "available"})
"""Statuses that some rule can suggest."""
HINTED_WITHIN_S = 900.0
"""A hint that comes later after a forgotten press is no hit: nobody knows the time any more."""


class SweptHint(NamedTuple):
    """A hint that a pair of radius and dwell time would have given."""

    unit: int
    at_s: float
    radius_m: float
    dwell_s: float
    rule: str
    suggests: str


@dataclass(slots=True)
class _Watcher:
    """What one radius sees."""

    radius_m: float
    places: PlaceWatch
    rules: list[tuple[float, MissedPress]]


class HintSweep:
    """Watches one unit with every pair of radius and dwell time."""

    def __init__(self, world: World, unit: int) -> None:
        self.hints: list[SweptHint] = []
        self._unit = unit
        self._motion = MotionWatch()
        self._watchers = [
            _Watcher(
                radius_m,
                PlaceWatch(_places(world, radius_m)),
                [
                    (
                        dwell_s,
                        MissedPress(
                            scene_radius_m=radius_m,
                            scene_dwell_s=dwell_s,
                            leaving_dwell_s=dwell_s,
                            rolling_dwell_s=dwell_s,
                        ),
                    )
                    for dwell_s in DWELLS_S
                ],
            )
            for radius_m in RADII_M
        ]
        self._status: str | None = None

    def wheels(self, boottime_ns: int, speed_mps: float) -> None:
        """The wheels' speed."""
        self._motion.take(SpeedSource.WHEELS, boottime_ns, speed_mps)

    def look(self, at_s: float, fix: Fix, status: str | None, incident: tuple[float, float] | None) -> None:
        """A fix, and the status that the agent holds; once a second."""
        now_ns = fix.received_boottime_ns
        if fix.speed_mps is not None:
            self._motion.take(SpeedSource.GNSS, now_ns, fix.speed_mps)
        if not fix.has_position or fix.lat_deg is None or fix.lon_deg is None:
            return
        busy = status in ON_A_RUN or status == "in_quarters"
        motion = self._motion.at(now_ns)
        for watcher in self._watchers:
            watcher.places.take(now_ns, fix.lat_deg, fix.lon_deg)
            if not busy and status == self._status:
                continue  # no rule looks at a unit that is free and on its way home
            inside = watcher.places.inside
            seen = Seen(now_ns, status, motion, (fix.lat_deg, fix.lon_deg), inside, incident)
            for dwell_s, rules in watcher.rules:
                hint = rules.take(seen)
                if hint is not None:
                    self.hints.append(
                        SweptHint(
                            self._unit, at_s, watcher.radius_m, dwell_s, str(hint.because), str(hint.suggests)
                        )
                    )
        self._status = status


class SweepRow(NamedTuple):
    """What a pair of radius and dwell time is worth.

    Attributes:
        radius_m: of scenes and hospitals.
        dwell_s: of everything.
        told: hints.
        false: of them: it was not so, or had been pressed.
        late: of them: the crew would have pressed by itself a little later.
        hits: forgotten presses that were asked about in time.
        forgotten: all that a rule can see.
        after_s: from the moment when it became so to the hint, the median of the hits.
    """

    radius_m: float
    dwell_s: float
    told: int
    false: int
    late: int
    hits: int
    forgotten: int
    after_s: float | None


def _places(world: World, radius_m: float) -> Places:
    found = []
    for spot in world.hospitals:
        lat, lon = world.streets.lat_lon(world.streets.points[spot.node])
        found.append(Place(spot.id, spot.id, "hospital", lat, lon, radius_m=radius_m, dwell_s=10.0))
    return Places(found)


def table(rows: Sequence[SweepRow], hours: float) -> str:
    """The rows as a table of Markdown, with hints an hour of duty."""
    lines = [
        "| radius | dwell | hints in 100 h | false | only late | forgotten presses asked about | after |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        false = f"{one.false / one.told:.1%}" if one.told else "-"
        late = f"{one.late / one.told:.0%}" if one.told else "-"
        hit = f"{one.hits / one.forgotten:.0%} of {one.forgotten}" if one.forgotten else "-"
        after = "-" if one.after_s is None else f"{one.after_s:.0f} s"
        lines.append(
            f"| {one.radius_m:g} m | {one.dwell_s:g} s | {one.told / hours * 100:.0f} | {false} | {late} "
            f"| {hit} | {after} |"
        )
    return "\n".join(lines)
