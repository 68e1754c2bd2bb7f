"""The reporting policy: what is due, and that jitter does not change how much is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.fix import Fix, FixMode
from agent.domain.reporting import PositionPolicy, position_of

S = 1_000_000_000


def policy(moving_interval_s: float = 1, stationary_interval_s: float = 10) -> PositionPolicy:
    return PositionPolicy(
        moving_interval_s=moving_interval_s, stationary_interval_s=stationary_interval_s, moving_above_mps=0.7
    )


def fix(at_s: float, speed_mps: float | None = 0.0, *, mode: FixMode = FixMode.FIX_3D) -> Fix:
    lost = mode is FixMode.NONE
    return Fix(
        utc_ms=None,
        lat_deg=None if lost else 42.0,
        lon_deg=None if lost else -71.0,
        alt_m=None,
        speed_mps=speed_mps,
        course_deg=None,
        mode=mode,
        satellites=7,
        hdop=None,
        received_boottime_ns=round(at_s * S),
    )


def reported(rule: PositionPolicy, fixes: list[Fix]) -> list[float]:
    return [one.received_boottime_ns / S for one in fixes if rule.decide(one) is not None]


def test_the_first_fix_is_due_and_is_the_position() -> None:
    rule, first = policy(), fix(100)
    assert rule.decide(fix(99, mode=FixMode.NONE)) is None
    position = rule.decide(first)
    assert position == position_of(first)
    assert position is not None
    assert (position.lat_deg, position.speed_mps, position.satellites) == (42.0, 0.0, 7)


def test_at_rest_the_heartbeat_and_in_motion_the_short_interval() -> None:
    rule = policy(moving_interval_s=2)
    fixes = (
        [fix(t, 0.0) for t in range(25)]
        + [fix(t, 10.0) for t in range(25, 31)]
        + [fix(31, 0.0), fix(32, 0.0)]
    )
    assert reported(rule, fixes) == [0, 10, 20, 25, 27, 29, 31]


def test_noise_around_the_threshold_is_no_starting_and_stopping() -> None:
    speeds = [0.0, 0.75, 0.65, 0.75, 0.5, 0.3, 0.5, 0.6]
    rule = policy(moving_interval_s=100, stationary_interval_s=100)
    assert reported(rule, [fix(t, speed) for t, speed in enumerate(speeds)]) == [0, 1, 5]


def test_unknown_speed_is_reported_as_motion_until_rest_was_seen() -> None:
    rule = policy()
    assert reported(rule, [fix(t, None) for t in range(3)]) == [0, 1, 2]
    assert reported(rule, [fix(3, 0.0), fix(4, None), fix(5, None)]) == [3]


def test_no_position_without_a_fix_and_one_at_once_after_a_long_loss() -> None:
    rule = policy()
    fixes = [
        fix(0, 9.0),
        *(fix(t, None, mode=FixMode.NONE) for t in range(1, 20)),
        fix(20, 9.0),
        fix(21, 9.0),
    ]
    assert reported(rule, fixes) == [0, 20, 21]


def test_ten_fixes_a_second_are_thinned_to_the_interval() -> None:
    times = reported(policy(), [fix(t / 10, 10.0) for t in range(1000)])
    assert 95 <= len(times) <= 105


@given(st.lists(st.floats(-0.1, 0.1), min_size=60, max_size=60))
def test_jitter_of_a_tenth_of_a_second_skips_no_fix(jitter: list[float]) -> None:
    fixes = [fix(10 + t + jitter[t], 10.0) for t in range(60)]
    assert len(reported(policy(), fixes)) == 60


@given(st.sampled_from([-100e-6, 100e-6]))
def test_a_drifting_crystal_slips_no_fix(drift: float) -> None:
    assert len(reported(policy(), [fix(t * (1 + drift), 10.0) for t in range(20_000)])) == 20_000
