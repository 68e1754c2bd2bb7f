"""Rolling or standing, since when, and by whose word."""

from __future__ import annotations

from agent.domain.motion import CONFIRM_NS, FRESH_NS, MotionChange, MotionWatch, SpeedSource

S = 1_000_000_000
WHEELS, GNSS = SpeedSource.WHEELS, SpeedSource.GNSS


def feed(watch: MotionWatch, source: SpeedSource, speeds: list[float], from_s: int = 0) -> list[MotionChange]:
    changes = [watch.take(source, (from_s + i) * S, speed) for i, speed in enumerate(speeds)]
    return [change for change in changes if change is not None]


def test_a_stop_is_dated_to_its_first_second() -> None:
    changes = feed(MotionWatch(), WHEELS, [10, 10, 5, 0, 0, 0, 0, 0])
    assert changes == [MotionChange(rolling=False, at_boottime_ns=3 * S, source=WHEELS)]


def test_a_short_halt_at_a_light_is_none_and_noise_at_rest_is_no_start() -> None:
    watch = MotionWatch()
    assert feed(watch, GNSS, [10, 0.1, 0.1, 10, 10, 10]) == []
    assert feed(MotionWatch(), GNSS, [0.0, 0.9, 1.2, 0.4, 1.4, 0.7] * 5) == []


def test_the_beginning_of_what_is_seen_is_not_a_stop() -> None:
    watch = MotionWatch()
    assert feed(watch, WHEELS, [0.0] * 10) == []
    motion = watch.at(9 * S)
    assert motion.rolling is False
    assert motion.since_boottime_ns is None


def test_wheels_decide_while_they_are_fresh() -> None:
    watch = MotionWatch()
    feed(watch, WHEELS, [8.0, 8.0])
    assert watch.take(GNSS, 2 * S, 0.0) is None
    assert watch.at(2 * S).source is WHEELS
    assert watch.at(2 * S).rolling


def test_gnss_takes_over_when_the_wheels_fall_silent() -> None:
    watch = MotionWatch()
    feed(watch, WHEELS, [8.0, 8.0])
    feed(watch, GNSS, [9.0] * 8, from_s=2)
    motion = watch.at(9 * S)
    assert (motion.rolling, motion.source, motion.speed_mps) == (True, GNSS, 9.0)


def test_without_a_fresh_speed_nobody_can_tell() -> None:
    watch = MotionWatch()
    feed(watch, WHEELS, [8.0, 8.0])
    motion = watch.at(S + FRESH_NS + 1)
    assert (motion.rolling, motion.since_boottime_ns, motion.speed_mps, motion.source) == (None,) * 4


def test_a_stop_during_silence_is_not_invented() -> None:
    watch = MotionWatch()
    feed(watch, WHEELS, [8.0, 8.0])
    assert feed(watch, WHEELS, [0.0] * 6, from_s=60) == []
    assert watch.at(65 * S).since_boottime_ns is None


def test_a_press_in_the_second_of_the_stop_sees_the_stop() -> None:
    watch = MotionWatch()
    feed(watch, WHEELS, [8.0, 4.0, 0.0])
    assert CONFIRM_NS > 0
    motion = watch.at(2 * S)
    assert motion.rolling is False
    assert motion.since_boottime_ns == 2 * S


def test_reversing_is_rolling() -> None:
    watch = MotionWatch()
    feed(watch, WHEELS, [-2.0, -2.0])
    assert watch.at(S).rolling
