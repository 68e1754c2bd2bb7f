"""When a unit is off duty, as a person writes it."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from agent.config.privacy import Privacy

BOSTON = "America/New_York"


def at(day: int, hour: int, minute: int = 0) -> int:
    """Unix milliseconds of a local time in Boston; 2026-09-14 was a Monday."""
    return round(datetime(2026, 9, day, hour, minute, tzinfo=ZoneInfo(BOSTON)).timestamp() * 1000)


def test_nothing_is_hidden_as_shipped() -> None:
    rule = Privacy().rule()
    assert rule.off_duty == "tell"
    assert not rule.by_schedule(at(14, 3))


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        (
            "Mon-Fri 19:00-07:00",
            [at(14, 19), at(15, 6, 59), at(19, 6, 59)],
            [at(14, 18, 59), at(15, 7), at(19, 20)],
        ),
        ("Sat-Sun 00:00-24:00", [at(19, 0), at(20, 23, 59)], [at(18, 23, 59), at(21, 0)]),
        ("Sun 22:00-02:00", [at(20, 23), at(21, 1, 59)], [at(21, 2), at(20, 21, 59)]),
        ("Fri-Mon 08:00-09:00", [at(18, 8), at(19, 8, 59), at(14, 8)], [at(15, 8), at(18, 9)]),
    ],
)
def test_hours_are_local_and_may_run_past_midnight(hours: str, inside: list[int], outside: list[int]) -> None:
    holds = Privacy(off_duty="blur", hours=(hours,), time_zone=BOSTON).rule().by_schedule
    assert all(map(holds, inside))
    assert not any(map(holds, outside))


@pytest.mark.parametrize(
    "hours", ["", "Monday 1-2", "Mon 25:00-26:00", "Mon 24:30-07:00", "Mon-Fri 7:00-8:00"]
)
def test_what_can_not_be_read_is_refused_with_an_example(hours: str) -> None:
    with pytest.raises(ValidationError, match="Mon-Fri 19:00-07:00"):
        Privacy(hours=(hours,))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime"])
def test_a_zone_that_the_system_does_not_know_is_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match="time zone"):
        Privacy(time_zone=zone)
