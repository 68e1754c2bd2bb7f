"""The in-flight window: places, turns and the wait for a PUBACK."""

from __future__ import annotations

from agent.uplink.window import Window


def _nothing(_: int) -> None:
    pass


def test_one_missing_puback_shows_though_later_ones_come() -> None:
    window = Window(5)
    window.sent("events", 1, _nothing, 10.0)
    for token in range(2, 60):
        window.sent("states", token, _nothing, 10.0 + token)
        window.landed(token, 0, 10.5 + token)
    assert window.stalled_s(70.0) == 60.0


def test_message_behind_others_on_a_slow_link_does_not_count_as_stalled() -> None:
    window = Window(5)
    for token in (1, 2, 3):
        window.sent("trail", token, _nothing, 0.0)
    window.landed(1, 0, 25.0)
    assert window.stalled_s(45.0) == 20.0
    window.landed(3, 0, 46.0)
    assert window.stalled_s(47.0) == 22.0
    window.landed(2, 0, 50.0)
    assert window.stalled_s(99.0) == 0.0


def test_places_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    window = Window(1)
    window.sent("states", 1, _nothing, 0.0)
    assert not window.may_send("states", first_class=False)
    assert not window.may_send("trail", first_class=False)
    assert not window.may_send("events", first_class=True)
    window.landed(1, 0, 1.0)
    assert not window.may_send("states", first_class=False)
    assert window.may_send("events", first_class=True)
    window.sent("events", 2, _nothing, 1.0)
    window.landed(2, 0, 2.0)
    assert not window.may_send("trail", first_class=False)
    assert window.may_send("states", first_class=False)


def test_sender_in_line_that_gives_up_makes_way_for_the_next() -> None:
    told: list[int] = []
    window = Window(1, lambda: told.append(1))
    window.sent("states", 1, _nothing, 0.0)
    assert not window.may_send("trail", first_class=False)
    assert not window.may_send("states", first_class=False)
    window.landed(1, 0, 1.0)
    window.withdraw("trail")
    window.withdraw("trail")
    assert told == [1]
    assert window.may_send("states", first_class=False)


def test_sender_in_line_keeps_only_its_own_place_free() -> None:
    window = Window(4)
    assert window.may_send("trail", first_class=False)
    assert window.may_send("states", first_class=False)
    window.sent("states", 1, _nothing, 0.0)
    assert window.may_send("states", first_class=False)
    window.sent("states", 2, _nothing, 0.0)
    assert not window.may_send("states", first_class=False)
    assert window.may_send("trail", first_class=False)
