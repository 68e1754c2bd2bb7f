"""Contacts and wires that need mending, of any kind of panel."""

from __future__ import annotations

from agent.domain.chatter import NOISE_COUNT, NOISE_EDGES, NOISE_HELD_NS, NOISE_KEYS, KeyNoise

S = 1_000_000_000
MS = 1_000_000


def test_fingers_that_press_as_fast_as_they_can_are_no_noise() -> None:
    noise = KeyNoise()
    for edge in range(200):
        noise.edge("on_scene", edge * 75 * MS, edge * 75 * MS)  # seven presses a second
    assert noise.noisy(15 * S) == ()


def test_key_that_moves_faster_is_noisy_until_it_was_quiet_for_a_minute() -> None:
    noise = KeyNoise()
    for edge in range(NOISE_EDGES):
        noise.edge("on_scene", edge * 10 * MS, edge * 10 * MS)
        noise.edge("en_route", edge * S, edge * S)
    assert noise.noisy(S) == ("on_scene",)
    assert noise.noisy(NOISE_HELD_NS + S) == ()


def test_presses_that_a_box_kept_for_hours_are_no_noise_when_they_come_at_once() -> None:
    noise = KeyNoise()
    for edge in range(200):
        noise.edge("on_scene", edge * 60 * S, 12_000 * S)
    assert noise.noisy(12_000 * S) == ()


def test_contact_that_bounces_a_little_at_each_press_is_told_after_a_while() -> None:
    noise = KeyNoise()
    for second in range(NOISE_COUNT):
        noise.counted({"on_scene": second}, second * S)
        assert noise.noisy(second * S) == ()
    noise.counted({"on_scene": NOISE_COUNT}, 20 * S)
    assert noise.noisy(20 * S) == ("on_scene",)


def test_bounce_now_and_then_is_no_noise() -> None:
    noise = KeyNoise()
    for hour in range(100):
        noise.counted({"on_scene": 2 * hour}, hour * 3600 * S)
        assert noise.noisy(hour * 3600 * S) == ()


def test_names_that_a_mad_box_invents_are_not_remembered_without_end() -> None:
    noise = KeyNoise()
    for number in range(10 * NOISE_KEYS):
        for edge in range(NOISE_EDGES):
            noise.edge(f"key{number}", edge, edge)
    assert len(noise.noisy(S)) == NOISE_KEYS
