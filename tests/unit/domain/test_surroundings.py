"""Fixes and wheel speeds become evidence, arrivals and stops."""

from __future__ import annotations

from agent.domain.fix import Fix, FixMode
from agent.domain.missed_press import MissedPress
from agent.domain.motion import MotionChange
from agent.domain.places import Place, PlaceEvent, Places
from agent.domain.record import HintRule
from agent.domain.surroundings import FRESH_FIX_NS, Surroundings

S = 1_000_000_000
SCENE = (42.36, -71.06)
STATION = Place("s", "Station", "station", *SCENE, dwell_s=5)


def fix(second: float, north_m: float = 0.0, speed_mps: float | None = 0.0) -> Fix:
    lat = SCENE[0] + north_m / 111_195
    return Fix(None, lat, SCENE[1], None, speed_mps, None, FixMode.FIX_3D, 8, 1.0, round(second * S))


def test_evidence_has_position_motion_and_distances() -> None:
    around = Surroundings(Places([STATION]))
    for second in range(6):
        around.take_fix(fix(second))
    evidence = around.evidence(round(5.4 * S), SCENE)
    assert (evidence.place, evidence.position_age_ms, evidence.incident_distance_m) == ("s", 400, 0.0)
    assert evidence.motion.rolling is False


def test_an_old_position_is_none() -> None:
    around = Surroundings(Places())
    around.take_fix(fix(0))
    assert around.evidence(FRESH_FIX_NS + 1, SCENE).lat_deg is None


def test_arrivals_and_stops_come_out() -> None:
    around = Surroundings(Places([STATION]))
    news = [
        one for second in range(8) for one in around.take_fix(fix(second, speed_mps=9.0 if second < 2 else 0))
    ]
    assert [type(one) for one in news] == [MotionChange, PlaceEvent]


def test_driving_is_faster_than_a_walk_by_the_wheels() -> None:
    around = Surroundings(Places())
    assert not around.is_driving(0)
    around.take_wheel_speed(0, 2.5)
    assert around.is_driving(S)
    around.take_wheel_speed(2 * S, 1.0)
    assert not around.is_driving(2 * S)


def test_hints_come_once_and_only_where_asked_for() -> None:
    hints = []
    around = Surroundings(Places(), MissedPress())
    silent = Surroundings(Places())
    for second in range(90):
        for one in (around, silent):
            one.take_fix(fix(second))
        hints.append(around.hint(second * S, "en_route", SCENE))
        assert silent.hint(second * S, "en_route", SCENE) is None
    assert [hint.because for hint in hints if hint is not None] == [HintRule.STANDS_AT_INCIDENT]
