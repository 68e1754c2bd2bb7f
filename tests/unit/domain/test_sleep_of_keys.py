"""Keys that were down when the computer fell asleep."""

from __future__ import annotations

from agent.domain.crew import CANCEL_AFTER_NS, CANCEL_GUARD_NS, ButtonEdge, CrewRules, CrewState, HeldKeys

S = 1_000_000_000


def edge(pressed: bool, at_ns: int, key: str = "emergency") -> ButtonEdge:
    return ButtonEdge(key, pressed, None, at_ns)


def test_key_is_not_stuck_because_the_computer_slept() -> None:
    held = HeldKeys()
    held.handle(edge(True, 0))
    held.slept(3600 * S)
    assert held.stuck(3610 * S, 30) == ()
    assert held.stuck(3631 * S, 30) == ("emergency",)


def test_emergency_is_never_cancelled_by_a_hold_over_a_sleep() -> None:
    rules = CrewRules({"emergency": "emergency"}, CrewState())
    rules.handle(edge(True, 0))
    rules.handle(edge(False, S))
    begun_ns = S + CANCEL_GUARD_NS
    rules.handle(edge(True, begun_ns))
    rules.sleep_over()
    rules.handle(edge(False, begun_ns + CANCEL_AFTER_NS + S))
    assert rules.state.emergency


def test_status_is_never_taken_back_by_a_hold_over_a_sleep() -> None:
    rules = CrewRules({"on_scene": "on_scene"}, CrewState(), undo_ns=60 * S)
    rules.handle(edge(True, 0, "on_scene"))
    rules.handle(edge(False, S, "on_scene"))
    rules.handle(edge(True, 2 * S, "on_scene"))
    rules.sleep_over()
    rules.handle(edge(False, 20 * S, "on_scene"))
    assert rules.state.status == "on_scene"
