"""Who is aboard, and what dispatch writes to them."""

from __future__ import annotations

import pytest

from agent.domain.messages import MOST_MESSAGES, MessageBook
from agent.domain.roster import Roster

HOME = Roster("A1", "V-17")


def test_a_crew_signs_on_changes_the_driver_and_leaves() -> None:
    aboard = HOME.signed_on(["c1", "c2"], "c1", call_sign="A7")
    assert (aboard.call_sign, aboard.vehicle, aboard.driver) == ("A7", "V-17", "c1")
    assert aboard.driven_by("c2").driver == "c2"
    assert aboard.signed_off("A1") == HOME


def test_an_unknown_driver_is_told_as_such() -> None:
    assert HOME.signed_on(["c1"], None).driver is None


@pytest.mark.parametrize(
    ("crew", "driver"),
    [
        ([], None),
        (["c1", "c1"], None),
        (["c 1"], None),
        (["c1"], "c2"),
        (["x" * 17], None),
        ([f"c{n}" for n in range(7)], None),
    ],
)
def test_what_is_no_crew_is_refused(crew: list[str], driver: str | None) -> None:
    with pytest.raises(ValueError, match=r".+"):
        HOME.signed_on(crew, driver)


def test_a_message_has_three_times_each_said_once() -> None:
    book = MessageBook()
    assert book.take("m1", "Use the back door", None, 5) is not None
    assert book.take("m1", "Use the back door", None, 6) is None
    assert book.shown("m1") is not None
    assert book.shown("m1") is None
    acknowledged = book.acknowledge("m1")
    assert acknowledged is not None
    assert book.acknowledge("m1") is None
    assert book.acknowledge("nothing") is None


def test_ten_thousand_messages_are_bounded_and_the_unread_stay_longest() -> None:
    book = MessageBook()
    book.take("unread", "Read me", None, 0)
    for number in range(10_000):
        book.take(f"m{number}", "x" * 2_000, None, number)
        book.acknowledge(f"m{number}")
    assert len(book.messages) == MOST_MESSAGES
    assert "unread" in {message.id for message in book.messages}
    assert max(len(message.text) for message in book.messages) == 500


@pytest.mark.parametrize(
    ("message_id", "text", "order"), [("", "x", None), ("m", " ", None), ("m", "", "fly")]
)
def test_what_is_no_message_is_refused(message_id: str, text: str, order: str | None) -> None:
    with pytest.raises(ValueError, match=r".+"):
        MessageBook().take(message_id, text, order, 0)


def test_messages_are_erased_after_their_time() -> None:
    book = MessageBook(keep_s=10)
    book.take("m", "x", None, 0)
    book.forget(10_000_000_000)
    assert book.messages == ()
