"""The live picture never takes what was for what is."""

from __future__ import annotations

import pytest

from agent.dispatch import alarm_rules
from agent.dispatch.fleet import Fleet, Unit
from agent.dispatch.intake import Intake, Message
from agent.dispatch.settings import Picture
from agent.dispatch.unit_voice import UnitVoice
from agent.wire.topics import Topics

NOW_MS = 1_790_000_000_000
A1 = UnitVoice(Topics("boston-ems", "A1"))
PICTURE = Picture(late_after_s=60, stale_after_s=120)


class Watching:
    """A fleet that hears."""

    def __init__(self) -> None:
        self.fleet = Fleet(PICTURE)
        self._intake = Intake(())

    def hear(self, *spoken: tuple[str, bytes], at_ms: int = NOW_MS, retained: bool = False) -> None:
        messages = [Message(topic, payload, at_ms, retained) for topic, payload in spoken]
        self.fleet.take(self._intake.hear(messages), at_ms)

    @property
    def unit(self) -> Unit:
        unit = self.fleet.get(A1.topics)
        assert unit is not None
        return unit

    def freshness(self, after_s: float = 0) -> str:
        return self.unit.freshness(NOW_MS + round(after_s * 1000), PICTURE)


@pytest.fixture
def watching() -> Watching:
    return Watching()


def test_a_position_grows_old_by_itself(watching: Watching) -> None:
    watching.hear(A1.link(5, online=True), A1.location(NOW_MS, 42.3, -71.0))
    assert [watching.freshness(after) for after in (0, 59, 61, 119, 121)] == [
        "live",
        "live",
        "late",
        "late",
        "stale",
    ]


def test_a_unit_without_a_connection_is_never_live(watching: Watching) -> None:
    watching.hear(A1.location(NOW_MS, 42.3, -71.0))
    assert watching.freshness() == "offline"
    watching.hear(A1.link(5, online=True))
    assert watching.freshness() == "live"
    watching.hear(A1.link(5, online=False))
    assert watching.freshness() == "offline"


def test_a_late_will_of_an_old_connection_is_old_news(watching: Watching) -> None:
    watching.hear(A1.link(5, online=True), A1.link(6, online=True), A1.location(NOW_MS, 42.3, -71.0))
    watching.hear(A1.link(5, online=False))
    assert watching.freshness() == "live"
    watching.hear(A1.link(6, online=False))
    assert watching.freshness() == "offline"


def test_what_the_broker_had_kept_is_as_old_as_it_says(watching: Watching) -> None:
    hour_ago_ms = NOW_MS - 3_600_000
    watching.hear(A1.link(5, online=True), A1.location(hour_ago_ms, 42.3, -71.0), retained=True)
    assert watching.freshness() == "stale"
    watching.hear(A1.location(None, 42.3, -71.0), retained=True)
    assert watching.freshness() == "stale"


def test_a_parked_unit_that_reports_seldom_is_neither_late_nor_stale(watching: Watching) -> None:
    watching.hear(A1.link(5, online=True, parked=True), A1.location(NOW_MS, 42.3, -71.0))
    assert watching.freshness(600) == "live"
    assert watching.freshness(1501) == "stale"
    watching.hear(A1.link(5, online=True, parked=False))
    assert watching.freshness(600) == "stale"


def test_a_clock_of_the_future_does_not_stay_live_for_ever(watching: Watching) -> None:
    watching.hear(A1.link(5, online=True), A1.location(NOW_MS + 86_400_000, 42.3, -71.0))
    assert watching.freshness(10_000) == "stale"


def test_without_a_fix_the_last_known_place_is_told_as_such(watching: Watching) -> None:
    watching.hear(A1.link(5, online=True), A1.no_fix(NOW_MS, 42.3, -71.0, NOW_MS - 5_000))
    assert watching.freshness() == "no_fix"
    assert watching.freshness(120) == "stale"


def test_the_journal_moves_the_picture_only_forward(watching: Watching) -> None:
    watching.hear(A1.link(5, online=True), A1.location(NOW_MS, 42.3, -71.0))
    watching.hear(A1.positions(1, 5, NOW_MS - 60_000, lat=10.0))
    assert watching.unit.place is not None
    assert watching.unit.place.fields["lat_deg"] == pytest.approx(42.3)
    watching.hear(A1.positions(6, 2, NOW_MS + 1_000, lat=42.4), at_ms=NOW_MS + 2_000)
    assert watching.unit.place.fields["lat_deg"] == pytest.approx(42.4001)


def test_an_older_press_that_comes_late_changes_no_status(watching: Watching) -> None:
    watching.hear(A1.status(2, "on_scene", NOW_MS))
    watching.hear(A1.status(1, "en_route", NOW_MS - 5_000))
    assert watching.unit.status == "on_scene"


def test_a_change_is_told_once(watching: Watching) -> None:
    watching.hear(A1.link(5, online=True), A1.location(NOW_MS, 42.3, -71.0))
    assert [one["freshness"] for one in watching.fleet.changes(NOW_MS)] == ["live"]
    assert watching.fleet.changes(NOW_MS + 1_000) == []
    assert [one["freshness"] for one in watching.fleet.changes(NOW_MS + 200_000)] == ["stale"]


def test_what_endangers_a_run_is_an_alarm_and_a_parked_unit_is_none(watching: Watching) -> None:
    def kinds(after_s: float) -> set[str]:
        causes = alarm_rules.causes(watching.fleet, [], NOW_MS + round(after_s * 1000))
        return {kind for kind, _, _ in causes}

    watching.hear(
        A1.link(5, online=True), A1.location(NOW_MS, 42.3, -71.0), A1.status(1, "available", NOW_MS)
    )
    watching.hear(A1.link(5, online=False))
    assert kinds(1000) == set()
    watching.hear(A1.status(2, "en_route", NOW_MS + 1))
    assert kinds(30) == set()
    assert kinds(61) == {"lost_on_run"}
    watching.hear(A1.link(6, online=True))
    assert kinds(200) == {"position_stale"}


def test_a_call_that_nobody_acknowledges_is_an_alarm(watching: Watching) -> None:
    call = {
        "agency": "boston-ems",
        "unit": "A1",
        "incident": "26-1",
        "assigned_ms": NOW_MS,
        "acknowledged_ms": None,
    }
    assert not alarm_rules.causes(watching.fleet, [call], NOW_MS + 59_000)
    (cause,) = alarm_rules.causes(watching.fleet, [call], NOW_MS + 61_000).values()
    assert (cause["priority"], cause["kind"]) == ("medium", "call_unacknowledged")
    assert not alarm_rules.causes(watching.fleet, [call | {"acknowledged_ms": NOW_MS}], NOW_MS + 61_000)
