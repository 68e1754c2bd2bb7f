"""When a clock record is due, and what it makes of a record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.clock_correction import AT_MOST, CorrectionRule, corrected_utc
from agent.domain.record import ClockCorrection
from agent.domain.stamp import Utc, UtcSource

S = 1_000_000_000
NOON = 1_773_500_400_000


def gnss(second: int, *, off_ms: int = 0, uncertainty_ms: int = 500) -> Utc:
    return Utc(NOON + second * 1000 + off_ms, UtcSource.GNSS, uncertainty_ms)


def correction(**fields: int) -> ClockCorrection:
    told = {
        "of_boot": 3, "from_boottime_ms": 0, "to_boottime_ms": 60_000, "offset_ms": NOON,
        "source": int(UtcSource.GNSS), "uncertainty_ms": 500,
    }  # fmt: skip
    return ClockCorrection(**(told | fields))


def test_nothing_is_told_while_nothing_is_known_or_nothing_left_without_time() -> None:
    rule = CorrectionRule()
    assert rule.due(None, 5 * S, boot=3, untimed_left=True) is None
    last_known = Utc(NOON, UtcSource.LAST_KNOWN, None)
    assert rule.due(last_known, 6 * S, boot=3, untimed_left=True) is None
    assert rule.due(gnss(7), 7 * S, boot=3, untimed_left=False) is None


def test_what_left_without_time_is_corrected_once_it_is_known() -> None:
    rule = CorrectionRule()
    told = rule.due(gnss(40), 40 * S, boot=3, untimed_left=True)
    assert told == correction(to_boottime_ms=40_000, uncertainty_ms=502)
    assert rule.due(gnss(41), 41 * S, boot=3, untimed_left=False) is None


def test_a_time_that_moves_beyond_what_was_told_is_corrected_and_a_drift_is_not() -> None:
    rule = CorrectionRule()
    for second in range(1, 3600):
        assert rule.due(gnss(second, off_ms=second // 20), second * S, boot=3, untimed_left=False) is None
    told = rule.due(gnss(3600, off_ms=-18_000), 3600 * S, boot=3, untimed_left=False)
    assert told is not None
    assert told.offset_ms == NOON - 18_000
    assert told.to_boottime_ms == 3_600_000


def test_a_receiver_that_changes_its_mind_all_the_time_is_told_of_seldom() -> None:
    rule = CorrectionRule()
    told = [
        rule.due(gnss(second, off_ms=10_000 * (second % 2)), second * S, boot=3, untimed_left=True)
        for second in range(7200)
    ]
    assert len([one for one in told if one is not None]) == AT_MOST


def test_a_record_keeps_what_is_as_good_and_gets_what_is_better() -> None:
    """[MDT-B-04] A lesser source, or a UTC outside of both uncertainties, is replaced."""
    clock = correction()
    late = Utc(NOON + 30_000 - 5_000, UtcSource.LAST_KNOWN, None)
    assert corrected_utc(30_000, None, clock) == Utc(NOON + 30_000, UtcSource.GNSS, 500)
    assert corrected_utc(30_000, late, clock) == Utc(NOON + 30_000, UtcSource.GNSS, 500)
    own = Utc(NOON + 30_120, UtcSource.GNSS, 100)
    assert corrected_utc(30_000, own, clock) == own, "an epoch's own time is better"
    network = Utc(NOON + 30_040, UtcSource.NTP, 60)
    assert corrected_utc(30_000, network, clock) == Utc(NOON + 30_000, UtcSource.GNSS, 500)
    wrong = Utc(NOON + 30_000 + 365 * 86_400_000, UtcSource.GNSS, 100)
    assert corrected_utc(30_000, wrong, clock) == Utc(NOON + 30_000, UtcSource.GNSS, 500)
    assert corrected_utc(60_001, late, clock) == late, "made after what the correction is of"
    assert corrected_utc(30_000, late, correction(source=1)) == late, "a correction that nobody vouches for"


@given(
    st.integers(0, 10**8),
    st.one_of(
        st.none(),
        st.builds(Utc, st.integers(), st.sampled_from(UtcSource), st.none() | st.integers(0, 10**9)),
    ),
    st.integers(),
    st.integers(-5, 50),
)
def test_a_correction_applied_twice_is_the_same(
    boottime_ms: int, utc: Utc | None, offset: int, source: int
) -> None:
    clock = correction(offset_ms=offset, source=source, to_boottime_ms=10**9)
    once = corrected_utc(boottime_ms, utc, clock)
    assert corrected_utc(boottime_ms, once, clock) == once
