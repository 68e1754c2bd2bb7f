"""Runs, their times and legs, and how NEMSIS writes them."""

from __future__ import annotations

from agent.domain.run_times import NEMSIS_TIMES, StatusTime, nemsis, nemsis_time, runs
from agent.domain.status import UnitStatus

T0 = 1_789_387_200_000  # 2026-09-14T12:00:00Z


def times(*presses: tuple[str, int, str | None], odometer: bool = False) -> list[StatusTime]:
    return [
        StatusTime(
            seq, status, T0 + minute * 60_000, incident, odometer_km=100.0 + minute if odometer else None
        )
        for seq, (status, minute, incident) in enumerate(presses, 1)
    ]


FULL = (
    ("dispatched", 0, "I-1"),
    ("en_route", 1, "I-1"),
    ("on_scene", 7, "I-1"),
    ("at_patient", 9, "I-1"),
    ("transporting", 25, "I-1"),
    ("at_destination", 40, "I-1"),
    ("available", 60, "I-1"),
    ("in_quarters", 75, None),
)


def test_a_full_run_has_its_legs() -> None:
    (run,) = runs(times(*FULL, odometer=True))
    assert run.closed
    assert {leg.name: (leg.seconds, leg.km) for leg in run.legs} == {
        "turnout": (60, 1),
        "response": (360, 6),
        "to patient": (120, 2),
        "on scene": (1080, 18),
        "transport": (900, 15),
        "at destination": (1200, 20),
    }


def test_nemsis_names_every_time_with_an_offset_and_miles() -> None:
    (run,) = runs(times(*FULL, odometer=True))
    given = nemsis(run)
    assert given["eTimes.06"] == "2026-09-14T12:07:00+00:00"
    assert given["eTimes.15"] == "2026-09-14T13:15:00+00:00"
    assert given["eResponse.20"] == "66.49"
    assert given["eResponse.03"] == "I-1"
    assert not any(value.endswith("Z") for value in given.values())


def test_what_is_not_known_is_left_out() -> None:
    (run,) = runs([StatusTime(1, "en_route", None), StatusTime(2, "on_scene", T0)])
    assert nemsis(run) == {"eTimes.06": nemsis_time(T0)}
    assert [(leg.seconds, leg.km) for leg in run.legs] == [(None, None)]


def test_a_diversion_ends_one_run_without_a_time_in_service() -> None:
    first, second = runs(
        times(
            ("en_route", 0, "I-1"), ("en_route", 4, "I-2"), ("on_scene", 9, "I-2"), ("available", 20, "I-2")
        )
    )
    assert (first.incident, first.closed, first.time_of("available")) == ("I-1", False, None)
    assert (second.incident, second.closed) == ("I-2", True)


def test_of_a_status_set_twice_the_first_counts() -> None:
    (run,) = runs(times(("en_route", 0, None), ("on_scene", 5, None), ("on_scene", 8, None)))
    on_scene = run.time_of("on_scene")
    assert on_scene is not None
    assert on_scene.unix_ms == T0 + 5 * 60_000


def test_an_incident_told_later_names_the_run() -> None:
    (run,) = runs(times(("en_route", 0, None), ("on_scene", 5, "I-3")))
    assert run.incident == "I-3"


def test_requests_to_talk_and_free_time_make_no_run() -> None:
    assert runs(times(("available", 0, None), ("talk_request", 1, None), ("in_quarters", 2, None))) == ()


def test_every_time_element_of_the_vocabulary_is_there() -> None:
    assert set(NEMSIS_TIMES) == set(UnitStatus) - {UnitStatus.OUT_OF_SERVICE, UnitStatus.TALK_REQUEST}
    assert len(set(NEMSIS_TIMES.values())) == len(NEMSIS_TIMES)
