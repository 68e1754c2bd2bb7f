"""The driver hears a limit at once, and nothing while a call is being announced."""

from __future__ import annotations

from agent.domain.cab_sound import CabSound, CabSounds, SoundLimits
from agent.domain.driving import DrivingLimits, DrivingWatch
from agent.domain.record import DrivingKind, ResponseMode
from agent.domain.vehicle import Signal

S = 1_000_000_000
ALL = SoundLimits(frozenset(DrivingKind), frozenset(ResponseMode))


def test_the_sound_comes_with_the_limit_and_not_with_its_end() -> None:
    watch = DrivingWatch(DrivingLimits())
    heard: list[tuple[float, int]] = []
    for tick in range(60):
        at_s = tick / 10
        speed = 72.0 if at_s < 3 else max(0.0, 72 - (at_s - 3) * 16)  # 4.4 m/s2 for 4.5 s
        watch.take([Signal("Speed", speed, round(at_s * S))])
        heard += [(at_s, grade) for kind, grade in watch.passed() if kind is DrivingKind.BRAKING]
    ((at_s, grade),) = heard
    assert 3 < at_s < 3.8
    assert grade == 1


def test_a_graver_grade_is_heard_once_more() -> None:
    watch = DrivingWatch(DrivingLimits())
    for tick in range(20):
        watch.take([Signal("Acceleration.Lateral", 4.0 if tick < 10 else 6.0, tick * S // 10)])
    assert watch.passed() == [(DrivingKind.CORNERING, 1), (DrivingKind.CORNERING, 2)]
    assert watch.lasting() == {DrivingKind.CORNERING: 2}


def test_nothing_is_heard_in_the_first_seconds_of_a_call() -> None:
    sounds = CabSounds(ALL)
    assert sounds.passed(DrivingKind.BRAKING, 1, ResponseMode.NORMAL, 9 * S, 0) is None
    assert sounds.passed(DrivingKind.BRAKING, 1, ResponseMode.NORMAL, 11 * S, 0) is CabSound.LIMIT
    # What lasts beyond the alert is heard after it.
    assert sounds.lasting({DrivingKind.BELT: 1}, None, 14 * S, 0) is CabSound.BELT


def test_sounds_keep_apart_and_what_lasts_is_heard_again() -> None:
    sounds = CabSounds(ALL)
    heard = [
        at_s
        for at_s in range(100)
        if sounds.lasting({DrivingKind.OVERSPEED: 1}, ResponseMode.LIGHTS, at_s * S, None) is not None
    ]
    assert heard == [0, 30, 60, 90]
    assert sounds.passed(DrivingKind.CORNERING, 2, ResponseMode.LIGHTS, 92 * S, None) is None
    assert sounds.passed(DrivingKind.CORNERING, 2, ResponseMode.LIGHTS, 94 * S, None) is CabSound.GRAVE


def test_kinds_and_response_modes_can_be_switched_off() -> None:
    sounds = CabSounds(SoundLimits(frozenset({DrivingKind.BRAKING}), frozenset({ResponseMode.NORMAL})))
    assert sounds.passed(DrivingKind.BELT, 1, ResponseMode.NORMAL, 0, None) is None
    assert sounds.passed(DrivingKind.BRAKING, 1, ResponseMode.LIGHTS_AND_SIREN, 0, None) is None
    assert sounds.passed(DrivingKind.BRAKING, 1, None, 0, None) is CabSound.LIMIT
