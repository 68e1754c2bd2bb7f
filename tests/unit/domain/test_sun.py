"""Day and night at known places and times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agent.domain.sun import is_night, sun_elevation_deg

BOSTON = (42.36, -71.06)


def ms(*when: int) -> int:
    return round(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


def test_noon_at_the_solstices_has_the_known_height() -> None:
    # Height at local noon is 90 degrees less latitude, plus or minus the obliquity.
    highest = max(sun_elevation_deg(ms(2026, 6, 21, 16, minute), *BOSTON) for minute in range(60))
    assert highest == pytest.approx(90 - 42.36 + 23.44, abs=0.1)
    lowest = max(sun_elevation_deg(ms(2026, 12, 21, 16, minute), *BOSTON) for minute in range(60))
    assert lowest == pytest.approx(90 - 42.36 - 23.44, abs=0.1)


def test_the_middle_of_the_night_is_night_and_noon_is_not() -> None:
    assert is_night(ms(2026, 9, 14, 5, 0), *BOSTON)
    assert not is_night(ms(2026, 9, 14, 17, 0), *BOSTON)
    assert not is_night(ms(2026, 6, 21, 0, 0), 70.0, 25.0)  # the sun does not set there
