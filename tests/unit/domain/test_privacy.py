"""Off duty the place leaves the vehicle coarse or not at all, in whatever it stands, and says so."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.fix import FixMode
from agent.domain.geodesy import distance_m
from agent.domain.privacy import OffDuty, Privacy, PrivacyRule, middle
from agent.domain.record import (
    Driving,
    EvidenceRecord,
    Kind,
    PlaceRecord,
    Position,
    PositionQuality,
    StatusChange,
    Telemetry,
)
from agent.domain.state import LocationState, VehicleState

S = 1_000_000_000
HERE = Position(42.3601, -71.0589, 12.0, 11.0, 90.0, FixMode.FIX_3D, 9, 0.8)
OFF = frozenset({"out_of_service"})


def privacy(off_duty: OffDuty) -> Privacy:
    found = Privacy(PrivacyRule(off_duty, 1000.0, OFF))
    found.on_status("out_of_service", needed=False)
    return found


def places_in(whole: Any) -> list[Position]:
    if isinstance(whole, Position):
        return [whole]
    if not is_dataclass(whole):
        return []
    return [place for field in fields(whole) for place in places_in(getattr(whole, field.name))]


def test_it_holds_by_status_or_schedule_and_never_when_somebody_is_to_be_found() -> None:
    rule = PrivacyRule(OffDuty.WITHHOLD, 1000, OFF, by_schedule=lambda utc_ms: utc_ms >= 5000)
    found = Privacy(rule)
    assert not found.holds(0, 0)
    assert found.holds(5000, 0)
    assert not found.holds(None, 0)  # who does not know the time knows no schedule
    found.on_status("out_of_service", needed=False)
    assert found.holds(None, 0)
    found.on_status("out_of_service", needed=True)
    assert not found.holds(5000, 0)
    found.on_status("out_of_service", needed=False)
    found.lift(0)
    assert not found.holds(5000, 3599 * S)
    assert found.holds(5000, 3600 * S)
    assert not Privacy(replace(rule, off_duty=OffDuty.TELL)).holds(5000, 0)


@given(st.floats(-89.9, 89.9), st.floats(-180, 180), st.sampled_from([100.0, 1000.0, 50_000.0]))
def test_a_blurred_place_is_near_enough_to_its_word_and_hides_where_in_the_square(
    lat_deg: float, lon_deg: float, side_m: float
) -> None:
    found = Privacy(PrivacyRule(OffDuty.BLUR, side_m, OFF))
    shown = found.shown(replace(HERE, lat_deg=lat_deg, lon_deg=lon_deg))
    assert shown is not None
    assert shown.quality == PositionQuality.BLURRED
    assert shown.uncertainty_m is not None
    if abs(lat_deg) < 80:  # nearer to a pole squares are no squares any more
        away_m = distance_m(lat_deg, lon_deg, shown.lat_deg, shown.lon_deg)
        assert away_m <= shown.uncertainty_m * 1.05
    assert (shown.speed_mps, shown.course_deg, shown.alt_m) == (None, None, None)
    assert found.shown(shown) == shown


def test_all_of_a_square_gives_one_place() -> None:
    lat_deg, lon_deg = middle(42.36, -71.05, 1000)
    step_deg = math.degrees(1000 / 6_371_000.0)
    for north in (-0.49, 0, 0.49):
        for east in (-0.49, 0, 0.49):
            assert middle(lat_deg + north * step_deg, lon_deg + east * step_deg, 1000) == pytest.approx(
                (lat_deg, lon_deg)
            )


@pytest.mark.parametrize("off_duty", [OffDuty.BLUR, OffDuty.WITHHOLD])
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.token)
def test_no_kind_of_record_tells_the_place(off_duty: OffDuty, kind: Kind) -> None:
    """Each field that can hold a position, of every kind there is, is given one."""
    names = {field.name: field.type for field in fields(cast("Any", kind.body))}
    body: Any = kind.body.__new__(kind.body)
    for name, annotation in names.items():
        value = HERE if "Position" in str(annotation) and "EvidenceRecord" not in str(annotation) else None
        if "EvidenceRecord" in str(annotation):
            value = EvidenceRecord(HERE, 100, place="bmc", place_distance_m=3, incident_distance_m=9)  # type: ignore[assignment]
        object.__setattr__(body, name, value)
    if isinstance(body, Position):
        body = HERE
    if isinstance(body, Telemetry):
        body = Telemetry((("CurrentLocation.Latitude", 42.3), ("Speed", 3.0)))
    shown = privacy(off_duty).body(body)
    for place in places_in(shown):
        assert off_duty is OffDuty.BLUR
        assert place.quality == PositionQuality.BLURRED
    evidence = getattr(shown, "evidence", None)
    if evidence is not None:
        assert (evidence.place, evidence.place_distance_m, evidence.incident_distance_m) == (None,) * 3
    if isinstance(shown, Telemetry):
        assert shown.signals == (("Speed", 3.0),)


def test_what_is_no_place_stays() -> None:
    found = privacy(OffDuty.WITHHOLD)
    press = StatusChange("out_of_service", "available", "k1", 1, 1, evidence=EvidenceRecord(HERE, 5, 77))
    shown = found.body(press)
    assert shown is not None
    assert shown.status == "out_of_service"
    assert shown.evidence is not None
    assert (shown.evidence.position, shown.evidence.odometer_m) == (None, 77)
    assert found.body(PlaceRecord("in", "bmc", position=HERE)) is None
    assert found.body(HERE) is None
    assert found.body(Driving("braking", 1, value=-5.0, position=HERE)) is not None


def test_a_state_says_that_it_withholds_and_that_it_blurs() -> None:
    state = LocationState(1, None, HERE, FixMode.FIX_3D, HERE, None)
    withheld = privacy(OffDuty.WITHHOLD).state(state)
    assert isinstance(withheld, LocationState)
    assert (withheld.position, withheld.last_known, withheld.withheld) == (None, None, True)
    blurred = privacy(OffDuty.BLUR).state(state)
    assert isinstance(blurred, LocationState)
    assert blurred.position is not None
    assert (blurred.position.quality, blurred.withheld) == ("blurred", None)
    vehicle = privacy(OffDuty.BLUR).state(VehicleState(1, None, (("CurrentLocation.Longitude", 1.0),)))
    assert isinstance(vehicle, VehicleState)
    assert vehicle.signals == ()
