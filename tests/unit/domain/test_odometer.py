"""One count over all sources: it never goes back, counts each metre once, and says by what it counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.fix import Fix, FixMode
from agent.domain.odometer import Odometer, OdometerReading
from agent.domain.record import OdometerSource

S = 1_000_000_000
FIX = Fix(None, 42.0, -71.0, None, 0.0, None, FixMode.FIX_3D, 9, 0.8, 0)


def fix(at_s: float, speed_mps: float | None) -> Fix:
    return replace(FIX, speed_mps=speed_mps, received_boottime_ns=round(at_s * S))


def counting() -> Odometer:
    """One that counted before, and has driven nowhere."""
    odometer = Odometer()
    odometer.restore({"metres": 0, "vehicle": None, "source": "wheels"})
    return odometer


def metres(odometer: Odometer, at_s: float) -> float | None:
    reading = odometer.at(round(at_s * S))
    return None if reading is None else reading.metres


def wheels(odometer: Odometer, begin_s: int, end_s: int, speed_mps: float) -> None:
    for second in range(begin_s, end_s + 1):
        odometer.take_wheels(speed_mps, second * S)


def vehicle(odometer: Odometer, begin_s: int, end_s: int, reading_m: float) -> None:
    for second in range(begin_s, end_s + 1):
        odometer.take_vehicle(reading_m, second * S)


def test_nothing_is_known_before_anybody_told_of_the_motion() -> None:
    odometer = Odometer()
    assert odometer.at(0) is None
    odometer.take_fix(replace(FIX, mode=FixMode.NONE, lat_deg=None, lon_deg=None))
    assert odometer.at(S) is None


def test_a_reading_of_the_vehicle_is_believed_once_it_was_repeated() -> None:
    odometer = Odometer()
    odometer.take_vehicle(429_496_729.5, 0)  # what a control unit says that is just waking up
    vehicle(odometer, 1, 2, 48_210_400)
    assert odometer.at(2 * S) is None
    odometer.take_vehicle(48_210_400, 3 * S)
    assert odometer.at(3 * S) == OdometerReading(48_210_400, OdometerSource.VEHICLE)


def test_a_count_of_our_own_waits_for_a_vehicle_that_tells_its_own() -> None:
    odometer = Odometer()
    wheels(odometer, 0, 59, 10.0)
    assert odometer.at(59 * S) is None
    wheels(odometer, 60, 60, 10.0)
    assert metres(odometer, 60) == pytest.approx(600)


def test_wheels_fill_the_steps_of_the_vehicles_odometer_and_never_take_it_back() -> None:
    odometer = Odometer()
    vehicle(odometer, 0, 3, 1_000_000)
    wheels(odometer, 3, 53, 22.0)  # says 10 % too much
    assert metres(odometer, 53) == pytest.approx(1_001_100)
    vehicle(odometer, 54, 54, 1_001_000)
    assert metres(odometer, 54) == pytest.approx(1_001_100)  # waits
    vehicle(odometer, 100, 100, 1_002_000)
    assert odometer.at(100 * S) == OdometerReading(1_002_000, OdometerSource.VEHICLE)


def test_each_metre_is_counted_by_one_source() -> None:
    odometer = counting()
    for second in range(61):
        odometer.take_fix(fix(second + 0.4, 10.0))
        if second <= 30:
            odometer.take_wheels(10.0, second * S)
    assert metres(odometer, 61) == pytest.approx(604, abs=1)


def test_a_standing_receiver_that_wanders_drives_nowhere() -> None:
    odometer = counting()
    for second in range(3600):
        odometer.take_fix(fix(second, (second * 7919 % 14) / 10))
    assert metres(odometer, 3600) == 0


def test_silence_of_all_is_not_known_and_what_comes_after_is_not_guessed() -> None:
    odometer = counting()
    wheels(odometer, 0, 10, 10.0)
    assert metres(odometer, 15) == pytest.approx(100)
    assert metres(odometer, 25) is None
    wheels(odometer, 600, 601, 10.0)
    assert metres(odometer, 601) == pytest.approx(110)


def test_another_source_is_told_once_it_counted_enough() -> None:
    odometer = Odometer()
    vehicle(odometer, 0, 3, 5_000)
    wheels(odometer, 3, 30, 10.0)
    assert odometer.at(30 * S) == OdometerReading(5_270, OdometerSource.WHEELS)
    vehicle(odometer, 31, 31, 5_300)
    assert odometer.at(31 * S) == OdometerReading(5_300, OdometerSource.VEHICLE)


@pytest.mark.parametrize("other", [0.0, 20_000_000.0])
def test_another_instrument_cluster_goes_on_from_our_count(other: float) -> None:
    odometer = Odometer()
    vehicle(odometer, 0, 3, 1_000_000)
    vehicle(odometer, 4, 6, other)
    assert metres(odometer, 6) == 1_000_000
    odometer.take_vehicle(other + 700, 40 * S)
    assert metres(odometer, 40) == 1_000_700


def test_what_was_driven_while_the_agent_was_off_comes_back_with_the_vehicles_odometer() -> None:
    before = Odometer()
    vehicle(before, 0, 3, 1_000_000)
    wheels(before, 3, 13, 10.0)
    after = Odometer()
    after.restore(before.remembered())
    assert after.at(0) is None  # not before somebody tells of the motion of this boot
    after.take_vehicle(1_000_000, S)
    assert metres(after, 1) == pytest.approx(1_000_100)
    after.take_vehicle(1_050_000, 2 * S + 500 * S)
    assert metres(after, 502) == pytest.approx(1_050_000)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"metres": "7", "vehicle": None, "source": "wheels"},
        {"metres": True, "vehicle": None, "source": "wheels"},
        {"metres": 1e300, "vehicle": None, "source": "wheels"},
        {"metres": float("nan"), "vehicle": None, "source": "wheels"},
        {"metres": 7.0, "vehicle": [1.0], "source": "wheels"},
        {"metres": 7.0, "vehicle": 3, "source": "wheels"},
        {"metres": 7.0, "vehicle": None, "source": "tyres"},
        {"metres": -7.0, "vehicle": [1, 2], "source": "gnss"},
    ],
)
def test_what_makes_no_sense_is_not_remembered(given: dict[str, object]) -> None:
    odometer = Odometer()
    with pytest.raises((ValueError, TypeError, KeyError)):
        odometer.restore(given)
    wheels(odometer, 1, 61, 0.0)
    assert metres(odometer, 61) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["vehicle", "wheels", "fix", "restart"]),
            st.floats(0, 3e6, allow_nan=False),
            st.floats(0.01, 30),
        ),
        max_size=60,
    )
)
def test_whatever_is_told_it_never_goes_back(said: list[tuple[str, float, float]]) -> None:
    odometer, at_s, newest = Odometer(), 0.0, 0.0
    for kind, value, passed_s in said:
        at_s += passed_s
        if kind == "vehicle":
            odometer.take_vehicle(value, round(at_s * S))
        elif kind == "wheels":
            odometer.take_wheels(value % 60 - 5, round(at_s * S))
        elif kind == "fix":
            odometer.take_fix(fix(at_s, value % 50))
        else:
            remembered, odometer = odometer.remembered(), Odometer()
            odometer.restore(remembered)
        now = metres(odometer, at_s)
        assert now is None or now >= newest
        newest = newest if now is None else now


@pytest.mark.parametrize("mad_mps", [1e308, float("inf"), float("-inf"), float("nan"), 101.0])
def test_a_speed_that_nothing_drives_counts_no_metre(mad_mps: float) -> None:
    odometer = counting()
    wheels(odometer, 0, 10, 10.0)
    odometer.take_wheels(mad_mps, 11 * S)
    odometer.take_fix(fix(11.5, mad_mps))
    wheels(odometer, 12, 20, 10.0)
    assert metres(odometer, 20) == pytest.approx(180, abs=21)
    odometer.take_vehicle(mad_mps if mad_mps != 101.0 else -1.0, 20 * S)
    assert metres(odometer, 20) == pytest.approx(180, abs=21)
