"""Topics are made and taken apart in one place."""

from __future__ import annotations

import pytest

from agent.domain.record import Stream
from agent.wire.topics import Area, ParsedTopic, Topics, parse_topic, subscriptions

A7 = Topics("boston-ems", "A7")


def test_every_topic_is_taken_apart_into_what_made_it() -> None:
    for name in ("link", "location", "status", "vehicle", "health"):
        assert A7.state(name) == f"ems/v1/boston-ems/A7/state/{name}"
        assert parse_topic(A7.state(name)) == ParsedTopic(A7, Area.STATE, name)
    for stream in Stream:
        assert A7.journal(stream) == f"ems/v1/boston-ems/A7/journal/{stream.value}"
        assert parse_topic(A7.journal(stream)) == ParsedTopic(A7, Area.JOURNAL, stream.value)
    assert parse_topic(A7.command("replay")) == ParsedTopic(A7, Area.COMMAND, "replay")
    assert parse_topic(A7.reply("new-journal")) == ParsedTopic(A7, Area.REPLY, "new-journal")
    assert A7.receipt == "ems/v1/boston-ems/A7/receipt"
    assert parse_topic(A7.receipt) == ParsedTopic(A7, Area.RECEIPT, "")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "ems/v1",
        "ems/v2/a/u/state/link",
        "ems/v1/a/u/state",
        "ems/v1/a/u/state/",
        "ems/v1/a/u/state/other",
        "ems/v1/a/u/journal/link",
        "ems/v1/a/u/receipt/",
        "ems/v1/a/u/receipt/more",
        "ems/v1/a/u/command/reboot-now",
        "ems/v1//u/state/link",
        "ems/v1/a/+/state/link",
        "ems/v1/a/u/state/link/x",
        "ems/v1/a/u x/state/link",
        "ems/v1/a/u/state/link\n",
        "ems/v1/a.b/u/state/link",
        "ems/v1/a/u.1/state/link",
    ],
)
def test_other_topics_are_none_of_ours(topic: str) -> None:
    """[MDT-T-01] [MDT-T-02]"""
    assert parse_topic(topic) is None


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="known are"):
        A7.state("mood")
    with pytest.raises(ValueError, match="known are"):
        A7.command("reboot")


def test_filters_narrow_down_to_an_agency_and_a_unit() -> None:
    assert subscriptions() == ("ems/v1/+/+/state/+", "ems/v1/+/+/journal/+", "ems/v1/+/+/reply/+")
    assert subscriptions("boston-ems")[0] == "ems/v1/boston-ems/+/state/+"
    assert subscriptions("boston-ems", "A7")[1] == "ems/v1/boston-ems/A7/journal/+"
