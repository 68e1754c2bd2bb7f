"""UTC derived from boot time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.stamp import Utc, UtcSource
from agent.domain.time_base import GNSS_ARRIVAL_MS, GNSS_HOLD_NS, TimeBase

S = 1_000_000_000
NOON = 1_773_500_400_000


def test_nothing_is_invented() -> None:
    assert TimeBase().utc(5 * S) is None
    assert TimeBase().source(5 * S) is UtcSource.NONE


def test_the_best_source_wins_and_moments_before_it_are_covered_too() -> None:
    base = TimeBase()
    base.learn_system(1_000_000, synchronised=False, max_error_ms=16_000, boottime_ns=1 * S)
    early = base.utc(2 * S)
    assert early is not None
    assert (early.unix_ms, early.source, early.uncertainty_ms) == (1_001_000, UtcSource.LAST_KNOWN, None)
    base.learn_gnss(NOON, 60 * S)
    moment = base.utc(2 * S)
    assert moment is not None
    assert (moment.unix_ms, moment.source) == (NOON - 58_000, UtcSource.GNSS)
    assert moment.uncertainty_ms is not None
    assert moment.uncertainty_ms >= GNSS_ARRIVAL_MS


def test_old_gnss_time_gives_way_to_the_network_but_not_to_a_guess() -> None:
    base = TimeBase()
    base.learn_gnss(NOON, 1 * S)
    later = 1 * S + GNSS_HOLD_NS + S
    base.learn_system(5_000, synchronised=False, max_error_ms=0, boottime_ns=later)
    assert base.source(later) is UtcSource.GNSS
    base.learn_system(NOON + 3_601_000, synchronised=True, max_error_ms=40, boottime_ns=later)
    assert base.source(later) is UtcSource.NTP


@given(st.lists(st.integers(min_value=0, max_value=900), min_size=1, max_size=50))
def test_late_epochs_never_move_the_time_back(delays_ms: list[int]) -> None:
    base = TimeBase()
    shown: list[int] = []
    for second, delay_ms in enumerate(delays_ms):
        base.learn_gnss(NOON + second * 1000, (second * 1000 + delay_ms) * 1_000_000)
        utc = base.utc(second * S)
        assert utc is not None
        shown.append(utc.unix_ms - second * 1000)
    assert shown == sorted(shown)
    assert shown[-1] == NOON - min(delays_ms)


def test_a_wall_clock_step_moves_nothing_once_gnss_has_spoken() -> None:
    base = TimeBase()
    base.learn_gnss(NOON, 10 * S)
    before = base.utc(20 * S)
    base.learn_system(0, synchronised=False, max_error_ms=0, boottime_ns=20 * S)
    assert base.utc(20 * S) == before


def test_a_drifting_crystal_and_one_early_stamp_are_forgotten() -> None:
    base = TimeBase()
    worst_ms = 0
    for second in range(12 * 3600):
        true_ms = NOON + second * 1000
        boottime_ns = second * 1_000_050_000  # 50 ppm fast
        arrival_ns = boottime_ns + (-900 if second == 100 else 60) * 1_000_000
        base.learn_gnss(true_ms, arrival_ns)
        utc = base.utc(boottime_ns)
        assert utc is not None
        if second > 1000:
            worst_ms = max(worst_ms, abs(utc.unix_ms - true_ms))
    assert worst_ms < GNSS_ARRIVAL_MS / 2


def test_a_restart_within_a_boot_takes_up_the_time() -> None:
    base = TimeBase()
    base.learn_stored(Utc(NOON, UtcSource.GNSS, 0), 100 * S)
    utc = base.utc(160 * S)
    assert utc is not None
    assert (utc.unix_ms, utc.source) == (NOON + 60_000, UtcSource.GNSS)
