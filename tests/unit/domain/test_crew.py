"""What presses mean: statuses, repeats, emergencies and their cancelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.crew import EMERGENCY, ButtonEdge, CrewOutcome, CrewRules, CrewState, HeldKeys
from agent.domain.record import Alert, Emergency, StatusChange

KEYS = {
    "scene": "on_scene",
    "route": "en_route",
    "talk": "talk_request",
    "help": "emergency",
    "help_back": "emergency",
}
SESSION = 0xBEEF


class Crew:
    """A crew at a panel, with the rules behind it."""

    def __init__(self, state: CrewState | None = None) -> None:
        self.rules = CrewRules(KEYS, state or CrewState())
        self.seq = 0

    def edge(self, key: str, at_s: float, *, pressed: bool = True, inferred: bool = False) -> CrewOutcome:
        self.seq += 1
        return self.rules.handle(
            ButtonEdge(key, pressed, self.seq, round(at_s * 1e9), SESSION, inferred=inferred)
        )

    def hold(self, key: str, at_s: float, for_s: float) -> CrewOutcome:
        self.edge(key, at_s)
        return self.edge(key, at_s + for_s, pressed=False)


def test_press_sets_status_and_names_the_one_before() -> None:
    crew = Crew()
    first = crew.edge("route", 1)
    assert first.bodies == (StatusChange("en_route", None, "route", 1, SESSION),)
    assert first.show == "route"
    assert crew.edge("route", 1.2, pressed=False) == CrewOutcome()
    second = crew.edge("scene", 9)
    assert second.bodies == (StatusChange("on_scene", "en_route", "scene", 3, SESSION),)
    assert "route" in second.darken
    assert not {"scene", "help"} & set(second.darken)


def test_same_status_again_is_nothing_new_but_the_lamp_is_shown() -> None:
    crew = Crew()
    crew.edge("scene", 1)
    assert crew.edge("scene", 500) == CrewOutcome(show="scene")


def test_talk_request_leaves_the_status_in_force_and_can_be_repeated() -> None:
    crew = Crew()
    crew.edge("scene", 1)
    assert crew.edge("talk", 10).bodies == (StatusChange("talk_request", "on_scene", "talk", 2, SESSION),)
    assert crew.edge("talk", 11).bodies == ()
    assert crew.edge("talk", 60).bodies == (StatusChange("talk_request", "on_scene", "talk", 4, SESSION),)
    assert crew.edge("scene", 70).bodies == ()
    assert crew.rules.state.status == "on_scene"


def test_emergency_is_raised_at_once_and_each_press_counts_but_not_within_two_seconds() -> None:
    crew = Crew()
    assert crew.edge("help", 1).bodies == (Emergency(True, "help", 1, SESSION),)
    assert crew.edge("help", 2.9).bodies == ()
    assert crew.edge("help", 3.1).bodies == (Emergency(True, "help", 3, SESSION, repeat=True),)
    assert crew.edge("help_back", 3.2).bodies == (Emergency(True, "help_back", 4, SESSION, repeat=True),)


def test_deliberate_hold_cancels() -> None:
    crew = Crew()
    crew.hold("help", 1, 0.2)
    outcome = crew.hold("help", 60, 5)
    assert outcome.bodies == (Emergency(False, "help", 4, SESSION),)
    assert set(outcome.darken) == {"help", "help_back"}
    assert not crew.rules.state.emergency
    assert crew.edge("help", 65.5).bodies == (Emergency(True, "help", 5, SESSION),), (
        "and can be raised at once"
    )


@pytest.mark.parametrize(("begun_s", "for_s"), [(60, 4.99), (60, 20.0), (60, 3600.0), (10.9, 6.0)])
def test_short_long_and_panicked_holds_do_not_cancel(begun_s: float, for_s: float) -> None:
    crew = Crew()
    crew.hold("help", 1, 0.2)
    assert crew.hold("help", begun_s, for_s).bodies == ()
    assert crew.rules.state.emergency


def test_the_hold_that_raised_does_not_cancel() -> None:
    crew = Crew()
    assert crew.hold("help", 1, 7).bodies == ()
    assert crew.rules.state.emergency


def test_hold_with_an_end_that_was_not_seen_does_not_cancel() -> None:
    crew = Crew(CrewState(emergency=True))
    assert crew.edge("help", 9, pressed=False).bodies == ()
    crew.edge("help", 60)
    assert crew.edge("help", 66, pressed=False, inferred=True).bodies == ()
    assert crew.rules.state.emergency


def test_hold_across_a_power_up_of_the_box_does_not_cancel() -> None:
    crew = Crew(CrewState(emergency=True))
    crew.edge("help", 60)
    assert crew.rules.handle(ButtonEdge("help", False, 1, 66 * 10**9, SESSION + 1)).bodies == ()


def test_first_press_after_a_restart_never_cancels_for_nobody_knows_when_the_one_before_was() -> None:
    crew = Crew(CrewState(emergency=True))
    assert crew.hold("help", 60, 6).bodies == ()
    assert crew.rules.state.emergency
    assert crew.hold("help", 80, 6).bodies == (Emergency(False, "help", 4, SESSION),)


def test_hold_whose_press_was_only_inferred_does_not_cancel() -> None:
    crew = Crew(CrewState(emergency=True))
    crew.hold("help", 10, 1)
    crew.edge("help", 60, inferred=True)
    assert crew.edge("help", 66, pressed=False).bodies == ()


def test_repeat_of_a_stored_press_makes_no_record_but_shows_its_lamp() -> None:
    rules = CrewRules(KEYS, CrewState("on_scene", False, SESSION, 7))
    assert rules.handle(ButtonEdge("route", True, 6, 1, SESSION)) == CrewOutcome(show="route")
    assert rules.handle(ButtonEdge("scene", False, 7, 1, SESSION)) == CrewOutcome()
    assert rules.handle(ButtonEdge("route", True, 8, 1, SESSION)).bodies != ()
    assert rules.handle(ButtonEdge("scene", True, 1, 1, SESSION + 1)).bodies != (), (
        "a new power-up begins at 1"
    )


def test_panel_without_numbers_is_never_taken_for_a_repeat() -> None:
    rules = CrewRules(KEYS, CrewState())
    assert rules.handle(ButtonEdge("route", True, None, 1)).bodies
    assert rules.handle(ButtonEdge("scene", True, None, 2)).bodies
    assert rules.handle(ButtonEdge("route", True, None, 3)).bodies


def test_lost_edges_are_told_once_seen_but_not_before_the_first() -> None:
    rules = CrewRules(KEYS, CrewState("en_route", False, SESSION, 2))
    assert rules.handle(ButtonEdge("talk", True, 9, 1, SESSION)).bodies == (
        StatusChange("talk_request", "en_route", "talk", 9, SESSION),
    )
    alert, change = rules.handle(ButtonEdge("scene", True, 13, 2, SESSION)).bodies
    assert isinstance(alert, Alert)
    assert alert.code == "button_edges_lost"
    assert "3" in alert.text
    assert isinstance(change, StatusChange)


def test_loss_is_told_with_the_next_edge_whose_lamp_it_does_not_take() -> None:
    crew = Crew()
    crew.edge("scene", 1)
    crew.seq += 3
    assert crew.edge("scene", 5) == CrewOutcome(show="scene")
    (alert,) = crew.edge("scene", 5.2, pressed=False).bodies
    assert isinstance(alert, Alert)
    assert "3" in alert.text
    assert crew.edge("scene", 6) == CrewOutcome(show="scene")


def test_every_press_is_answered_with_a_lamp() -> None:
    crew = Crew()
    for at_s, key in enumerate(
        ["scene", "scene", "help", "help", "talk", "talk", "nonsense", "nonsense", "route"]
    ):
        assert crew.edge(key, at_s).show == key
        assert crew.edge(key, at_s + 0.1, pressed=False).show is None


def test_unknown_key_is_an_alert_told_once() -> None:
    crew = Crew()
    outcome = crew.edge("ejector_seat", 1)
    assert [type(body) for body in outcome.bodies] == [Alert]
    assert (outcome.show, outcome.darken) == ("ejector_seat", ("ejector_seat",))
    assert crew.edge("ejector_seat", 9) == CrewOutcome(show="ejector_seat")
    told = sum(len(crew.edge(f"key{n}", 10 + n).bodies) for n in range(1000))
    assert told == 31, "bounded: alerts are never evicted"


def test_state_after_stored_bodies() -> None:
    state = CrewState().after(
        [
            StatusChange("on_scene", None, "scene", 1, SESSION),
            Emergency(True, "help", 2, SESSION),
            StatusChange("talk_request", "on_scene", "talk", 3, SESSION),
        ]
    )
    assert state == CrewState("on_scene", True, SESSION, 3)
    assert state.after([Emergency(False, "help", None)]) == CrewState("on_scene", False, SESSION, 3)


def test_stuck_keys() -> None:
    held = HeldKeys()
    held.handle(ButtonEdge("scene", True, 1, 0, SESSION))
    held.handle(ButtonEdge("route", True, 2, 20 * 10**9, SESSION))
    assert held.stuck(30 * 10**9, 30) == ()
    assert held.stuck(31 * 10**9, 30) == ("scene",)
    held.handle(ButtonEdge("scene", False, 3, 31 * 10**9, SESSION))
    assert held.stuck(99 * 10**9, 30) == ("route",)
    held.handle(ButtonEdge("talk", True, 1, 99 * 10**9, SESSION + 1))
    assert held.stuck(99 * 10**9, 30) == (), "a box that was switched off has forgotten what is down"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["press", "test", "hold", "code"]),
            st.floats(0.05, 30, allow_nan=False),
        ),
        max_size=40,
    )
)
def test_no_press_that_is_meant_is_ever_swallowed_by_a_test(steps: list[tuple[str, float]]) -> None:
    rules, now_ns, seq = CrewRules({"help": EMERGENCY}, CrewState()), 10**12, 0

    def edge(pressed: bool, *, test: bool = False) -> tuple[Emergency, ...]:
        nonlocal seq
        seq += 1
        outcome = rules.handle(ButtonEdge("help", pressed, seq, now_ns, device_session=1), test=test)
        return tuple(body for body in outcome.bodies if isinstance(body, Emergency))

    for what, wait_s in steps:
        now_ns += round(wait_s * 1e9)
        before = rules.state
        if what == "code":
            for body in rules.cancel_emergency().bodies:
                assert isinstance(body, Emergency)
                assert bool(body.test) is before.emergency_test
            continue
        raised = edge(True, test=what == "test")
        if what != "test" and not (before.emergency and not before.emergency_test):
            # Nothing that is meant stands yet: this one is on record, and it is no test.
            assert [(one.active, one.test) for one in raised] == [(True, None)]
            assert rules.state.emergency
            assert not rules.state.emergency_test
        if before.emergency and not before.emergency_test:
            assert not rules.state.emergency_test
        now_ns += round((6 if what == "hold" else 0.1) * 1e9)
        edge(False)
    # What a restart reads gives the same.
    assert rules.state.emergency or not rules.state.emergency_test
