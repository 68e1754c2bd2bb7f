"""The day before which no date can be true moves on with the program."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from agent import NOT_BEFORE
from firmware_shims.system_clock import SystemClock


def test_the_day_before_which_nothing_is_true_is_of_the_last_year_and_a_half() -> None:
    day = datetime.fromisoformat(NOT_BEFORE).replace(tzinfo=UTC)
    today = datetime.fromtimestamp(SystemClock().system_utc().unix_ms / 1000, UTC)
    assert day <= today, "no program is younger than today: is this computer's clock right?"
    assert today - day < timedelta(days=550), "set agent.NOT_BEFORE to a day of this year"
