"""What counts as an impact, and what a road, a wrong frame or an old airbag may do without one."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.impact import ImpactLimits, ImpactWatch
from agent.domain.vehicle import Signal

MS = 1_000_000


def speeds(*kmh: float | None, step_ms: int = 50) -> list[Signal]:
    return [Signal("Speed", value, index * step_ms * MS) for index, value in enumerate(kmh)]


def seen(signals: Iterable[Signal], limits: ImpactLimits | None = None) -> list[str]:
    watch = ImpactWatch(limits or ImpactLimits())
    return [impact.why for one in signals if (impact := watch.take([one])) is not None]


def test_wheels_that_stop_faster_than_tyres_can_are_an_impact() -> None:
    assert len(seen(speeds(50, 50, 50, 38, 20, 8, 0, 0, 0))) == 1


def test_hard_braking_is_none() -> None:
    # 10 m/s2, as on a dry road: 1.8 km/h each 50 ms.
    assert seen(speeds(*(max(0, 80 - 1.8 * step) for step in range(60)))) == []


def test_one_wrong_frame_is_none() -> None:
    assert seen(speeds(50, 50, 0, 50, 50, 50)) == []
    assert seen(speeds(50, 50, None, 0, 0, 0)) == []


def test_a_bus_that_tells_its_speed_seldom_can_not_show_one() -> None:
    assert seen(speeds(50, 50, 0, 0, step_ms=1000)) == []


def test_an_accelerometer_shows_one_by_both_axes_together() -> None:
    def axes(ahead: float, aside: float) -> list[Signal]:
        return [Signal("Acceleration.Longitudinal", ahead, MS), Signal("Acceleration.Lateral", aside, 2 * MS)]

    assert len(seen(axes(-25, 22))) == 1
    assert seen(axes(-9, 5)) == []
    assert (
        seen([Signal("Acceleration.Longitudinal", -25, 0), Signal("Acceleration.Lateral", 22, 900 * MS)])
        == []
    )


def test_an_airbag_that_was_out_before_the_start_is_an_old_story() -> None:
    name = "Cabin.Seat.Row1.DriverSide.Airbag.IsDeployed"
    assert seen([Signal(name, True, 0), Signal(name, True, MS)]) == []
    assert seen([Signal(name, False, 0), Signal(name, True, MS), Signal(name, True, 2 * MS)]) != []
    assert seen([Signal(name, None, 0), Signal(name, True, MS)]) == []


anything = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=3)
)
names = st.sampled_from(
    ["Speed", "Acceleration.Lateral", "Acceleration.Longitudinal", "Ambulance.Crash.IsDetected"]
)


@given(st.lists(st.tuples(names, anything, st.integers(0, 10**12)), max_size=60))
def test_whatever_a_bus_says_the_watch_goes_on(told: list[tuple[str, object, int]]) -> None:
    watch = ImpactWatch(ImpactLimits())
    watch.take([Signal(name, value, at_ns) for name, value, at_ns in told])  # type: ignore[arg-type]
