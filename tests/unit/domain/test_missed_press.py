"""Presses that were probably forgotten are suggested once, with why and since when."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.missed_press import Hint, MissedPress, Seen
from agent.domain.motion import Motion, SpeedSource
from agent.domain.places import Place
from agent.domain.record import HintRule
from agent.domain.status import UnitStatus

S = 1_000_000_000
SCENE = (42.36, -71.06)
HOSPITAL = Place("h", "Hospital", "hospital", 42.38, -71.06)


def moving(rolling: bool | None, since_s: int | None = None) -> Motion:
    source = None if rolling is None else SpeedSource.WHEELS
    return Motion(rolling, None if since_s is None else since_s * S, 8.0 if rolling else 0.0, source)


def north(metres: float) -> tuple[float, float]:
    return SCENE[0] + metres / 111_195, SCENE[1]


def watch(moments: list[Seen]) -> list[Hint]:
    missed = MissedPress()
    return [hint for seen in moments if (hint := missed.take(seen)) is not None]


def test_standing_at_the_incident_suggests_on_scene_from_the_stop_on() -> None:
    told = watch([Seen(s * S, "en_route", moving(False, 7), SCENE, incident=SCENE) for s in range(10, 60)])
    (hint,) = told
    assert (hint.suggests, hint.because) == (UnitStatus.ON_SCENE, HintRule.STANDS_AT_INCIDENT)
    assert hint.since_boottime_ns == 7 * S
    assert hint.confidence == 1.0


def test_a_halt_elsewhere_suggests_nothing() -> None:
    away = north(800)
    assert watch([Seen(s * S, "en_route", moving(False), away, incident=SCENE) for s in range(90)]) == []


def test_leaving_the_scene_suggests_transporting() -> None:
    moments = [Seen(s * S, "on_scene", moving(False), SCENE) for s in range(30)]
    moments += [Seen(s * S, "on_scene", moving(True, 30), north((s - 30) * 8)) for s in range(30, 120)]
    (hint,) = watch(moments)
    assert (hint.suggests, hint.because) == (UnitStatus.TRANSPORTING, HintRule.LEFT_SCENE)
    assert hint.since_boottime_ns == 30 * S


def test_parking_nearer_to_the_door_suggests_nothing() -> None:
    moments = [Seen(s * S, "on_scene", moving(False), SCENE) for s in range(30)]
    moments += [Seen(s * S, "on_scene", moving(True, 30), north(60)) for s in range(30, 90)]
    assert watch(moments) == []


def test_standing_at_a_hospital_suggests_arrival_only_while_transporting() -> None:
    def moments(status: str) -> list[Seen]:
        at = (HOSPITAL.lat_deg, HOSPITAL.lon_deg)
        return [Seen(s * S, status, moving(False, 0), at, inside=(HOSPITAL,)) for s in range(60)]

    (hint,) = watch(moments("transporting"))
    assert (hint.suggests, hint.place) == (UnitStatus.AT_DESTINATION, "h")
    assert watch(moments("available")) == []


def test_driving_off_from_quarters_and_after_a_call_is_seen() -> None:
    quarters = [Seen(s * S, "in_quarters", moving(False), SCENE) for s in range(10)]
    quarters += [Seen(s * S, "in_quarters", moving(True, 10), north((s - 10) * 8)) for s in range(10, 90)]
    assert [hint.suggests for hint in watch(quarters)] == [UnitStatus.AVAILABLE]
    called = [Seen(s * S, "dispatched", moving(True, 0), north(s * 8)) for s in range(60)]
    assert [hint.suggests for hint in watch(called)] == [UnitStatus.EN_ROUTE]


def test_a_new_status_makes_it_look_again() -> None:
    first = [Seen(s * S, "en_route", moving(False), SCENE, incident=SCENE) for s in range(60)]
    again = [Seen(s * S, "staged", moving(False), SCENE, incident=SCENE) for s in range(60, 120)]
    assert [hint.suggests for hint in watch(first + again)] == [UnitStatus.ON_SCENE] * 2


moments = st.builds(
    Seen,
    boottime_ns=st.just(0),
    status=st.sampled_from([None, "unknown", *UnitStatus]),
    motion=st.builds(moving, st.sampled_from([None, True, False])),
    position=st.none() | st.builds(north, st.floats(-2_000, 2_000)),
    inside=st.sampled_from([(), (HOSPITAL,)]),
    incident=st.sampled_from([None, SCENE]),
)


@given(st.lists(moments, max_size=80))
def test_one_hint_of_a_kind_for_a_status_and_never_the_status_that_holds(seen: list[Seen]) -> None:
    missed, told, status = MissedPress(), set[HintRule](), None
    for second, moment in enumerate(seen):
        at = replace(moment, boottime_ns=second * 10 * S)
        if at.status != status:
            told.clear()
            status = at.status
        hint = missed.take(at)
        if hint is not None:
            assert hint.because not in told
            told.add(hint.because)
            assert hint.suggests != at.status
            assert 0 < hint.confidence <= 1
            assert hint.since_boottime_ns <= at.boottime_ns
