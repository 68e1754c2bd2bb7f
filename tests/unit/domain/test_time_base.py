"""UTC derived from boot time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.date_floor import DateFloor
from agent.domain.stamp import Utc, UtcSource
from agent.domain.time_base import (
    FIRST_EPOCHS,
    GNSS_ARRIVAL_MS,
    GNSS_HOLD_NS,
    SLEEP_ERROR_MS,
    TimeBase,
    TimeDoubt,
)

S = 1_000_000_000
NOON = 1_773_500_400_000
DAY_MS = 86_400_000


def heard(base: TimeBase, utc_ms: int, boottime_ns: int, epochs: int = 10) -> None:
    """Epochs of a receiver, one a second, the last of them this one."""
    for back in range(epochs - 1, -1, -1):
        base.learn_gnss(utc_ms - back * 1000, boottime_ns - back * S)


def test_nothing_is_invented() -> None:
    assert TimeBase().utc(5 * S) is None
    assert TimeBase().source(5 * S) is UtcSource.NONE


def test_the_best_source_wins_and_moments_before_it_are_covered_too() -> None:
    base = TimeBase()
    base.learn_system(1_000_000, synchronised=False, max_error_ms=16_000, boottime_ns=1 * S)
    early = base.utc(2 * S)
    assert early is not None
    assert (early.unix_ms, early.source, early.uncertainty_ms) == (1_001_000, UtcSource.LAST_KNOWN, None)
    heard(base, NOON, 60 * S)
    moment = base.utc(2 * S)
    assert moment is not None
    assert (moment.unix_ms, moment.source) == (NOON - 58_000, UtcSource.GNSS)
    assert moment.uncertainty_ms is not None
    assert moment.uncertainty_ms >= GNSS_ARRIVAL_MS


def test_old_gnss_time_gives_way_to_the_network_but_not_to_a_guess() -> None:
    base = TimeBase()
    heard(base, NOON, 1 * S)
    later = 1 * S + GNSS_HOLD_NS + S
    base.learn_system(5_000, synchronised=False, max_error_ms=0, boottime_ns=later)
    assert base.source(later) is UtcSource.GNSS
    base.learn_system(NOON + 3_601_000, synchronised=True, max_error_ms=40, boottime_ns=later)
    assert base.source(later) is UtcSource.NTP


@given(st.lists(st.integers(min_value=0, max_value=900), min_size=3, max_size=50))
def test_late_epochs_never_move_the_time_back(delays_ms: list[int]) -> None:
    base = TimeBase()
    shown: list[int] = []
    for second, delay_ms in enumerate(delays_ms):
        base.learn_gnss(NOON + second * 1000, (second * 1000 + delay_ms) * 1_000_000)
        utc = base.utc(second * S)
        if utc is not None:
            shown.append(utc.unix_ms - second * 1000)
    assert shown == sorted(shown)
    assert shown[-1] == NOON - sorted(delays_ms)[2], "the third best: one early stamp or two prove nothing"


def test_a_wall_clock_step_moves_nothing_once_gnss_has_spoken() -> None:
    base = TimeBase()
    heard(base, NOON, 10 * S)
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
        if second > 1000:
            assert utc is not None
            worst_ms = max(worst_ms, abs(utc.unix_ms - true_ms))
    assert worst_ms < GNSS_ARRIVAL_MS / 2


def test_a_restart_within_a_boot_takes_up_the_time() -> None:
    base = TimeBase()
    base.learn_stored(Utc(NOON, UtcSource.GNSS, 0), 100 * S)
    utc = base.utc(160 * S)
    assert utc is not None
    assert (utc.unix_ms, utc.source) == (NOON + 60_000, UtcSource.GNSS)


def test_one_epoch_a_year_ahead_moves_no_stamp() -> None:
    base = TimeBase()
    for second in range(30):
        year_ms = 365 * DAY_MS if second in (7, 19) else 0
        stamp = base.take_epoch(NOON + second * 1000 + year_ms, second * S)
        if second >= 2:
            assert stamp.utc is not None
            assert abs(stamp.utc.unix_ms - (NOON + second * 1000)) <= (stamp.utc.uncertainty_ms or 0)
    assert base.jump is None


def test_a_first_epoch_alone_is_not_believed() -> None:
    base = TimeBase()
    base.learn_system(NOON - 5000, synchronised=False, max_error_ms=0, boottime_ns=0)
    stamp = base.take_epoch(NOON + 365 * DAY_MS, 0)
    assert stamp.utc == Utc(NOON - 5000, UtcSource.LAST_KNOWN, None)
    heard(base, NOON + 10_000, 10 * S, epochs=3)
    assert base.source(10 * S) is UtcSource.GNSS


def test_a_jump_is_believed_after_several_agreeing_epochs_and_remembered() -> None:
    base = TimeBase()
    heard(base, NOON, 100 * S)
    for second in range(1, 12):
        base.learn_gnss(NOON + second * 1000 - 18_000, (100 + second) * S)
        if second < 8:
            assert base.jump is None
    assert base.jump is not None
    assert base.jump.by_ms == -18_000
    utc = base.utc(111 * S)
    assert utc is not None
    assert utc.unix_ms == NOON + 11_000 - 18_000


def test_epochs_that_alternate_between_two_times_never_make_a_jump() -> None:
    base = TimeBase()
    heard(base, NOON, 100 * S)
    for second in range(1, 60):
        base.learn_gnss(NOON + second * 1000 + (DAY_MS if second % 2 else 0), (100 + second) * S)
    assert base.jump is None


@given(st.integers(-(10**9), 10**9), st.integers(0, 400), st.integers(100, 3600))
def test_ntp_and_gnss_that_contradict_are_told_and_the_truth_lies_in_what_is_told(
    apart_ms: int, max_error_ms: int, second: int
) -> None:
    base = TimeBase()
    heard(base, NOON, 100 * S)
    ntp_ms = NOON - 100_000 + second * 1000 + apart_ms
    base.learn_system(ntp_ms, synchronised=True, max_error_ms=max_error_ms, boottime_ns=second * S)
    utc = base.utc(second * S)
    assert utc is not None
    assert utc.uncertainty_ms is not None
    gnss_ms = NOON - 100_000 + second * 1000
    if abs(apart_ms) > 1_000 + GNSS_ARRIVAL_MS + 200 + max_error_ms:
        assert TimeDoubt.CONTRADICTION in base.doubts(second * S)
    if abs(apart_ms) > 600_000:
        assert utc.source is UtcSource.NTP, "so far off it is the receiver's date that is wrong"
    else:
        assert utc.source is UtcSource.GNSS
        assert abs(utc.unix_ms - gnss_ms) <= utc.uncertainty_ms
        if TimeDoubt.CONTRADICTION in base.doubts(second * S):
            assert abs(utc.unix_ms - ntp_ms) <= utc.uncertainty_ms


def test_a_step_of_the_disciplined_clock_needs_several_looks() -> None:
    base = TimeBase()
    for second in range(10):
        step_ms = 31_536_000_000 if second == 5 else 0
        base.learn_system(
            NOON + second * 1000 + step_ms, synchronised=True, max_error_ms=50, boottime_ns=second * S
        )
        utc = base.utc(second * S)
        assert utc is not None
        assert utc.unix_ms == NOON + second * 1000


def test_an_epoch_that_waited_in_a_buffer_keeps_its_own_time_and_says_how_sure_that_is() -> None:
    base = TimeBase()
    heard(base, NOON, 100 * S)
    utc = base.take_epoch(NOON + 5_000, 120 * S).utc
    assert utc is not None
    assert utc.unix_ms == NOON + 5_000
    assert utc.uncertainty_ms is not None
    assert utc.uncertainty_ms >= 15_000


@given(st.integers(1, 20))
def test_a_recording_that_is_played_faster_than_life_keeps_its_own_times(speed: int) -> None:
    base = TimeBase(replay=True)
    for second in range(100):
        at_ns = second * S // speed
        utc = base.take_epoch(NOON + second * 1000, at_ns).utc
        assert utc is not None
        assert utc.unix_ms == NOON + second * 1000


def test_a_wrong_floor_of_the_store_gives_way_to_a_receiver_that_stays_with_its_date() -> None:
    floor = DateFloor(NOON - 100 * DAY_MS)
    floor.learn_stored(NOON + 300 * DAY_MS)
    base = TimeBase(floor)
    for second in range(100):
        base.learn_gnss(NOON + second * 1000, second * S)
        if second < 60:
            assert base.source(second * S) is UtcSource.NONE
            assert TimeDoubt.GNSS_DATE in base.doubts(second * S)
    assert base.source(100 * S) is UtcSource.GNSS
    assert base.doubts(100 * S) == {}


def test_a_system_clock_with_an_impossible_date_is_no_time() -> None:
    base = TimeBase(DateFloor(NOON - 100 * DAY_MS))
    base.learn_system(0, synchronised=True, max_error_ms=5, boottime_ns=0)
    assert base.utc(0) is None
    base.learn_system(NOON, synchronised=True, max_error_ms=5, boottime_ns=S)
    base.learn_system(NOON + 40 * 366 * DAY_MS, synchronised=True, max_error_ms=5, boottime_ns=2 * S)
    utc = base.utc(2 * S)
    assert utc is not None
    assert utc.unix_ms == NOON + 1000


def test_sleep_of_the_computer_makes_time_less_certain_until_the_receiver_has_spoken_again() -> None:
    base = TimeBase()
    heard(base, NOON, 60 * S)
    before = base.utc(60 * S)
    base.sleep_over()
    asleep = base.utc(3660 * S)
    assert before is not None
    assert asleep is not None
    assert asleep.unix_ms == NOON + 3_600_000, "boot time counts the sleep"
    assert (asleep.uncertainty_ms or 0) >= (before.uncertainty_ms or 0) + SLEEP_ERROR_MS
    # The chip was read in whole seconds: boot time is 0.8 s ahead from now on.
    heard(base, NOON + 3_604_000, 3664 * S + 800_000_000, epochs=FIRST_EPOCHS)
    awake = base.utc(3665 * S + 800_000_000)
    assert awake is not None
    assert awake.unix_ms == NOON + 3_605_000
    assert (awake.uncertainty_ms or 0) < SLEEP_ERROR_MS
    assert base.jump is None, "that is no change of mind"


def test_sleep_that_boot_time_did_not_count_is_a_jump_and_three_epochs_are_enough_for_it() -> None:
    base = TimeBase()
    heard(base, NOON, 60 * S)
    base.sleep_over()
    heard(base, NOON + 3_604_000, 64 * S, epochs=FIRST_EPOCHS)
    utc = base.utc(64 * S)
    assert utc is not None
    assert utc.unix_ms == NOON + 3_604_000
    assert base.jump is not None
    assert base.jump.by_ms == 3_600_000


def test_sleep_makes_the_networks_time_less_certain_until_it_is_looked_at_again() -> None:
    base = TimeBase()
    base.learn_system(NOON, synchronised=True, max_error_ms=10, boottime_ns=60 * S)
    base.sleep_over()
    asleep = base.utc(120 * S)
    assert asleep is not None
    assert (asleep.uncertainty_ms or 0) >= SLEEP_ERROR_MS
    base.learn_system(NOON + 60_000, synchronised=True, max_error_ms=10, boottime_ns=120 * S)
    awake = base.utc(120 * S)
    assert awake is not None
    assert (awake.uncertainty_ms or 0) < 100


def test_sleep_before_anything_was_known_is_nothing() -> None:
    base = TimeBase()
    base.sleep_over()
    assert base.utc(S) is None
    heard(base, NOON, 60 * S)
    assert base.source(60 * S) is UtcSource.GNSS
