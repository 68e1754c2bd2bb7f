from __future__ import annotations

import pytest

from agent.domain.buzzer import GAP_NS, BuzzerRules, QuietHours, Sound

PATTERNS = {sound: (100 + number,) for number, sound in enumerate(Sound)}
NIGHT = QuietHours(22 * 60, 6 * 60, frozenset({Sound.CALL}))


def test_each_sound_has_its_pattern_and_one_without_is_never_heard() -> None:
    for sound in Sound:
        assert BuzzerRules(PATTERNS).sound(sound, 0, 600) == PATTERNS[sound]
    assert BuzzerRules({Sound.CALL: ()}).sound(Sound.CALL, 0, 600) is None
    assert BuzzerRules({}).sound(Sound.CALL, 0, 600) is None


def test_many_lamps_that_turn_green_at_once_are_one_sound() -> None:
    rules = BuzzerRules(PATTERNS)
    heard = [rules.sound(Sound.DELIVERED, n, None) for n in range(8)]
    assert heard == [PATTERNS[Sound.DELIVERED], *[None] * 7]
    assert rules.sound(Sound.DELIVERED, GAP_NS, None) is not None


def test_the_more_urgent_sound_breaks_in_and_the_less_urgent_does_not() -> None:
    rules = BuzzerRules(PATTERNS)
    assert rules.sound(Sound.DELIVERED, 0, None)
    assert rules.sound(Sound.CALL, 1, None) == PATTERNS[Sound.CALL]
    assert rules.sound(Sound.REFUSED, 2, None) is None


@pytest.mark.parametrize(
    ("minute", "quiet"), [(22 * 60 - 1, False), (22 * 60, True), (0, True), (359, True), (360, False)]
)
def test_quiet_hours_may_hold_midnight(minute: int, quiet: bool) -> None:
    assert NIGHT.hushes(Sound.DELIVERED, minute) is quiet
    assert not NIGHT.hushes(Sound.CALL, minute)
    assert QuietHours(0, 6 * 60, frozenset()).hushes(Sound.CALL, minute) is (minute < 360)


def test_where_nobody_knows_how_late_it_is_it_is_heard() -> None:
    assert BuzzerRules(PATTERNS, NIGHT).sound(Sound.DELIVERED, 0, None)
