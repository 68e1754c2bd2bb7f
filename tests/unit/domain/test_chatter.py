"""What machines make of buttons is bounded and told; what people press is kept."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.chatter import AGAIN_AT_ONCE, PANEL_AT_ONCE, TAPS_AT_ONCE, TOLD_EVERY_NS, ToldSeldom
from agent.domain.crew import ButtonEdge, CrewRules, CrewState
from agent.domain.record import Alert, Body, Emergency, StatusChange

S = 1_000_000_000
KEYS = {"scene": "on_scene", "route": "en_route", "talk": "talk_request", "help": "emergency"}


class Panel:
    """Presses with numbers, and the records they make."""

    def __init__(self, state: CrewState | None = None) -> None:
        self.rules = CrewRules(KEYS, state or CrewState())
        self.seq = 0
        self.bodies: list[Body] = []

    def press(self, key: str, at_s: float, now_s: float | None = None, *, skip: int = 0) -> list[Body]:
        self.seq += 1 + skip
        now_ns = None if now_s is None else round(now_s * S)
        made = list(self.rules.handle(ButtonEdge(key, True, self.seq, round(at_s * S), 7), now_ns).bodies)
        self.bodies += made
        return made

    def look(self, at_s: float) -> None:
        """What the path does once a second."""
        self.bodies += self.rules.due(round(at_s * S))

    def counts(self) -> Counter[str]:
        return Counter(body.code if isinstance(body, Alert) else type(body).__name__ for body in self.bodies)


def test_contacts_that_chatter_for_an_hour_make_few_records_and_are_told() -> None:
    panel = Panel()
    for number in range(3600 * 20):
        panel.press(("scene", "route")[number % 2], number / 20)
        panel.look(number / 20)
    counts = panel.counts()
    assert counts["StatusChange"] <= 4 * TAPS_AT_ONCE
    assert 1 <= counts["button_chatter"] <= 7
    alert = next(body for body in panel.bodies if isinstance(body, Alert))
    assert "chatters" in alert.text


def test_a_key_is_heard_again_once_it_was_left_alone() -> None:
    panel = Panel()
    for number in range(200):
        panel.press(("scene", "route")[number % 2], number / 100)
    assert panel.press("scene", 2.01) == []
    wanted = "route" if panel.rules.state.status == "on_scene" else "scene"
    made = panel.press(wanted, 10)
    assert [type(body) for body in made if not isinstance(body, Alert)] == [StatusChange]


def test_fast_fingers_are_not_chatter() -> None:
    panel = Panel()
    for number in range(TAPS_AT_ONCE * 2):
        assert panel.press(("scene", "route")[number % 2], number * 0.4), "a record each"
    for _ in range(500):
        panel.press("route", 9)  # again and again, to be sure: it says nothing new
    assert panel.press("scene", 9.5)
    assert "button_chatter" not in panel.counts()


def test_an_emergency_is_raised_however_the_panel_chatters() -> None:
    panel = Panel()
    for number in range(5000):
        panel.press(("scene", "route", "talk")[number % 3], number / 800)
    made = panel.press("help", 6.25)
    assert [body for body in made if isinstance(body, Emergency)] == [Emergency(True, "help", panel.seq, 7)]


def test_an_alarm_button_that_chatters_all_day_makes_some_records_an_hour() -> None:
    panel = Panel()
    for number in range(2 * 3600 * 5):
        panel.press("help", number / 5)
    assert AGAIN_AT_ONCE <= panel.counts()["Emergency"] <= AGAIN_AT_ONCE + 2 * 120 + 1


def test_a_box_that_lies_about_its_times_is_bounded_by_their_arrival() -> None:
    panel = Panel()
    for number in range(20_000):
        # 800 a second arrive, each said to be a minute after the one before.
        panel.press(("scene", "route")[number % 2], number * 60, now_s=number / 800)
    panel.look(25)
    assert panel.counts()["StatusChange"] <= PANEL_AT_ONCE + 20
    assert panel.counts()["button_chatter"] >= 1


def test_presses_that_a_box_kept_are_all_taken_at_once() -> None:
    panel = Panel()
    for number in range(64):
        assert panel.press(("scene", "route")[number % 2], number * 60, now_s=4000)


def test_numbers_that_jump_are_told_now_and_then_with_their_sum() -> None:
    panel = Panel()
    for number in range(1200):
        panel.press(("scene", "route")[number % 2], number * 2, skip=3)
    alerts = [body for body in panel.bodies if isinstance(body, Alert)]
    assert len(alerts) <= 5
    told = sum(int(alert.text.split("lost ")[1].split()[0]) for alert in alerts)
    rest = panel.rules.due(10**15)
    told += sum(int(alert.text.split("lost ")[1].split()[0]) for alert in rest)
    # The first edge of a run tells of no loss: what was before it may have been acknowledged long ago.
    assert told == 1199 * 3


@given(st.lists(st.tuples(st.integers(0, 2 * TOLD_EVERY_NS), st.integers(0, 5)), max_size=60))
def test_what_is_told_seldom_is_told_in_full_and_never_more_often(steps: list[tuple[int, int]]) -> None:
    seldom, now_ns, added, told = ToldSeldom(), 0, 0, 0
    at_ns: list[int] = []
    for wait_ns, number in steps:
        now_ns += wait_ns
        seldom.add(number)
        added += number
        if due := seldom.due(now_ns):
            told += due
            at_ns.append(now_ns)
    assert told + seldom.due(now_ns + TOLD_EVERY_NS) == added
    assert all(after - before >= TOLD_EVERY_NS for before, after in pairwise(at_ns))
