"""What stands beside a press, and what speaks against it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agent.domain.evidence import contradictions, gather
from agent.domain.motion import Motion, SpeedSource
from agent.domain.places import Place, Places
from agent.domain.record import Contradicts
from agent.domain.run_order import COMMITTED, FOLLOWS, is_expected
from agent.domain.status import MOMENTARY, UnitStatus

STANDING = Motion(False, 5, 0.0, SpeedSource.WHEELS)
ROLLING = Motion(True, 5, 14.0, SpeedSource.WHEELS)
UNKNOWN = Motion(None, None, None, None)
HERE, FAR = (42.36, -71.06), (42.40, -71.06)
PLACES = Places([Place("h", "Hospital", "hospital", *HERE)])


def test_everything_known_is_gathered() -> None:
    evidence = gather(STANDING, HERE, 400, FAR, PLACES)
    assert (evidence.place, evidence.place_distance_m, evidence.position_age_ms) == ("h", 0.0, 400)
    assert evidence.incident_distance_m == pytest.approx(4_448, abs=5)


def test_without_a_position_no_distance_is_invented() -> None:
    evidence = gather(ROLLING, None, None, FAR, PLACES)
    assert (evidence.lat_deg, evidence.incident_distance_m) == (None, None)
    assert (evidence.place, evidence.place_distance_m) == (None, None)


@pytest.mark.parametrize("status", [UnitStatus.ON_SCENE, UnitStatus.AT_DESTINATION, UnitStatus.IN_QUARTERS])
def test_arrived_while_rolling_is_flagged(status: UnitStatus) -> None:
    assert contradictions(status, gather(ROLLING, None, None, None, PLACES)) == (Contradicts.ROLLING,)
    assert contradictions(status, gather(STANDING, None, None, None, PLACES)) == ()
    assert contradictions(status, gather(UNKNOWN, None, None, None, PLACES)) == ()


@pytest.mark.parametrize("status", [UnitStatus.EN_ROUTE, UnitStatus.TRANSPORTING, UnitStatus.AVAILABLE])
def test_leaving_while_rolling_or_standing_is_not(status: UnitStatus) -> None:
    for motion in (ROLLING, STANDING):
        assert contradictions(status, gather(motion, HERE, 0, FAR, PLACES)) == ()


def test_rolling_the_last_metres_is_not() -> None:
    slow = Motion(True, 5, 2.0, SpeedSource.WHEELS)
    assert contradictions(UnitStatus.ON_SCENE, gather(slow, HERE, 0, HERE, PLACES)) == ()


def test_on_scene_far_from_the_incident_is_flagged() -> None:
    found = contradictions(UnitStatus.ON_SCENE, gather(STANDING, HERE, 0, FAR, PLACES))
    assert found == (Contradicts.FAR_FROM_INCIDENT,)


def test_a_token_of_the_future_contradicts_nothing() -> None:
    assert contradictions("decontaminating", gather(ROLLING, HERE, 0, FAR, PLACES)) == ()


def test_the_usual_run_is_expected_and_a_left_out_press_is_not() -> None:
    run = ["available", "dispatched", "acknowledged", "en_route", "on_scene", "at_patient", "transporting",
           "at_destination", "transfer_of_care", "available", "in_quarters"]  # fmt: skip
    assert all(is_expected(a, b) for a, b in pairwise(run))
    assert not is_expected("en_route", "at_destination")
    assert not is_expected("on_scene", "at_destination")
    assert not is_expected("transporting", "available")


def test_nothing_before_momentary_again_and_unknown_are_expected() -> None:
    assert is_expected(None, "at_destination")
    assert is_expected("en_route", "talk_request")
    assert is_expected("en_route", "en_route")
    assert is_expected("en_route", "decontaminating")
    assert is_expected("decontaminating", "on_scene")


def test_each_status_has_its_row() -> None:
    assert set(FOLLOWS) == set(UnitStatus) - MOMENTARY
    assert set(FOLLOWS) >= COMMITTED
