"""The table of commands: complete rows, bounded cost, and what is malformed told to whoever is to answer."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from agent.uplink.commands import BURST, Command, CommandTable
from agent.wire.batch import CodecError
from agent.wire.topics import Topics
from tests.unit.uplink.publisher_rig import Rig, virtually


class AnyCommand(Topics):
    """Topics with a command of any name."""

    def command(self, name: str) -> str:
        return f"ems/v1/bems/A1/command/{name}"


TOPICS = AnyCommand("bems", "A1")


def decode(payload: bytes) -> str:
    if payload == b"bad":
        raise CodecError("not a command")
    return payload.decode()


def test_command_is_decoded_and_done() -> None:
    done: list[str] = []
    refused: list[CodecError] = []
    table = CommandTable(TOPICS, [Command("assign", decode, done.append, refused.append)])
    assert table.topics == (TOPICS.command("assign"),)
    assert table.take(TOPICS.command("assign"), b"run 7", 0.0)
    assert table.take(TOPICS.command("assign"), b"bad", 0.0)
    assert not table.take(TOPICS.command("other"), b"", 0.0)
    assert done == ["run 7"]
    assert [str(error) for error in refused] == ["not a command"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"name": ""}, "letters, digits and hyphens"),
        ({"name": "a/b"}, "letters, digits and hyphens"),
        ({"decode": None}, "`decode` must be a function"),
        ({"handle": None}, "`handle` must be a function"),
    ],
)
def test_incomplete_row_says_what_is_missing(row: dict[str, Any], words: str) -> None:
    whole: dict[str, Any] = {"name": "assign", "decode": decode, "handle": print}
    with pytest.raises(ValueError, match=words):
        CommandTable(TOPICS, [Command(**(whole | row))])


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="row 'assign': there is a row of that name already"):
        CommandTable(TOPICS, [Command("assign", decode, print), Command("assign", decode, print)])


def test_rows_of_the_app_are_checked_and_used_by_the_publisher() -> None:
    async def work() -> None:
        with pytest.raises(ValueError, match="row 'replay'"):
            async with Rig(commands=[Command("replay", decode, print)]):
                pass

    virtually(work)


def test_flood_of_commands_is_dropped_before_it_costs_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    decoded: list[bytes] = []

    def count(payload: bytes) -> None:
        decoded.append(payload)
        raise CodecError("bad")

    table = CommandTable(TOPICS, [Command("replay", count, print)])
    topic = TOPICS.command("replay")
    with caplog.at_level(logging.WARNING, "mdt"):
        for number in range(50_000):
            table.take(topic, b"x", number / 10_000)
    assert len(decoded) <= BURST + 10
    assert sum("commands_dropped" in record.message for record in caplog.records) == 1
