"""The table of commands: complete rows, bounded cost, and an answer to what is not done."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from agent.domain.state import StatusState
from agent.uplink.commands import BURST, Asker, Command, CommandTable
from agent.uplink.link.link import Received
from agent.wire.batch import CodecError
from agent.wire.fleet_orders import DECODERS
from agent.wire.reader_request import (
    RefusalReason,
    Reply,
    decode_reply,
)
from tests.unit.uplink.publisher_rig import TOPICS, Rig, until, virtually

ASSIGN = TOPICS.command("assign")


def decode(payload: bytes) -> str:
    if payload == b"bad":
        raise CodecError("not a command\n\x1b[31m")
    return payload.decode()


class Table:
    """A table, what it did and what it answered."""

    def __init__(self, *rows: Command) -> None:
        self.done: list[str] = []
        self.answers: list[Reply] = []
        self.table = CommandTable(
            TOPICS, rows or [Command("assign", decode, self.done.append)], self._answered
        )
        self.askers: list[Asker] = []

    def _answered(self, reply: Reply, to: Asker) -> None:
        self.answers.append(reply)
        self.askers.append(to)

    @property
    def reasons(self) -> list[str | None]:
        return [answer.reason for answer in self.answers]


def test_command_is_decoded_and_done() -> None:
    one = Table()
    assert one.table.filter == "ems/v1/bems/A1/command/+"
    one.table.take(ASSIGN, b"run 7", 0.0)
    one.table.take("something/else", b"", 0.0)
    assert one.done == ["run 7"]
    assert one.answers == []


def test_command_that_is_not_done_is_answered() -> None:
    """[MDT-Q-02]"""

    one = Table()
    one.table.take(ASSIGN, b"bad", 0.0)
    one.table.take(ASSIGN, b"run 7", 0.0, retained=True)
    one.table.take(TOPICS.command("ping"), b"", 0.0)
    assert one.done == []
    assert one.reasons == [RefusalReason.MALFORMED, RefusalReason.RETAINED, RefusalReason.UNKNOWN_COMMAND]
    assert {answer.outcome for answer in one.answers} == {"refused"}
    text = one.answers[0].text or ""
    assert "not a command" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"name": ""}, "no line in COMMANDS of agent.wire.topics"),
        ({"name": "asign"}, "no line in COMMANDS of agent.wire.topics"),
        ({"decode": None}, "`decode` must be a function"),
        ({"handle": None}, "`handle` must be a function"),
    ],
)
def test_incomplete_row_says_what_is_missing(row: dict[str, Any], words: str) -> None:
    whole: dict[str, Any] = {"name": "assign", "decode": decode, "handle": print}
    with pytest.raises(ValueError, match=words):
        Table(Command(**(whole | row)))


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="row 'assign': there is a row of that name already"):
        Table(Command("assign", decode, print), Command("assign", decode, print))


def test_rows_of_the_app_are_checked_and_used_by_the_publisher() -> None:
    done: list[str] = []

    async def work() -> None:
        with pytest.raises(ValueError, match="row 'replay'"):
            async with Rig(commands=[Command("replay", decode, print)]):
                pass
        async with Rig(commands=[Command("assign", decode, done.append)]) as rig:
            await rig.opened()
            assert TOPICS.command("assign").rpartition("/")[0] + "/+" in rig.link.openings[0][1].subscriptions
            rig.link.tell(Received(ASSIGN, b"run 7"))
            rig.link.tell(Received(TOPICS.command("ping"), b""))
            assert done == ["run 7"]
            (sent,) = rig.link.on(TOPICS.reply("ping"))
            reply = decode_reply(sent.message.payload)
            assert (reply.reason, reply.journal) == (RefusalReason.UNKNOWN_COMMAND, 7)
            assert not sent.message.retain

    virtually(work)


def test_flood_of_commands_is_dropped_before_it_costs_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    decoded: list[bytes] = []

    def count(payload: bytes) -> None:
        decoded.append(payload)

    one = Table(Command("replay", count, lambda _: None))
    with caplog.at_level(logging.WARNING, "mdt"):
        for number in range(50_000):
            one.table.take(TOPICS.command("replay"), b"x", number / 10_000)
    assert len(decoded) <= BURST + 10
    assert sum("commands_dropped" in record.message for record in caplog.records) == 1
    assert one.reasons == [RefusalReason.BUSY]


def test_every_state_goes_out_again_when_somebody_asks() -> None:
    async def work() -> None:
        async with Rig() as rig:
            rig.publisher.set_state(StatusState(boottime_ms=1, utc=None, status="available"))
            rig.publisher.tell_states()  # without a connection nothing is lost or sent
            await rig.opened()
            await rig.settled()
            before = len(rig.link.on(TOPICS.state("status")))
            rig.publisher.tell_states()
            await until(lambda: len(rig.link.on(TOPICS.state("status"))) == before + 1)

    virtually(work)


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"id": "7"}', b"\x81\xa2id\xa17"])
def test_request_for_a_report_needs_nothing(payload: bytes) -> None:
    assert DECODERS["report-now"](payload).id in ("", "7")


@pytest.mark.parametrize("payload", [b"[]", b"{", b'{"id": 7}', b"\xc1", b"x" * 20_000])
def test_mangled_request_for_a_report_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError):
        DECODERS["report-now"](payload)


def test_the_broker_may_forget_a_command_when_it_is_done_and_every_other_message_at_once() -> None:
    forgotten: list[str] = []

    def received(name: str, payload: bytes, acknowledged_as: str) -> Received:
        return Received(TOPICS.command(name), payload, acknowledge=lambda: forgotten.append(acknowledged_as))

    async def work() -> None:
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with Rig(commands=[Command("assign", decode, lambda _: kept)]) as rig:
            await rig.opened()
            rig.link.tell(received("assign", b"run 7", "assign"))
            rig.link.tell(received("assign", b"bad", "malformed"))
            rig.link.tell(received("ping", b"", "not done"))
            rig.link.tell(Received(TOPICS.receipt, b"?", acknowledge=lambda: forgotten.append("receipt")))
            assert forgotten == ["malformed", "not done", "receipt"]
            kept.set_result(None)
            await until(lambda: "assign" in forgotten)
            rig.link.tell(received("assign", b"run 8", "done already"))
            assert forgotten[-1] == "done already"

    virtually(work)


def test_a_command_that_breaks_the_agent_is_not_sent_again_to_break_it_again() -> None:
    forgotten: list[str] = []

    def breaks(_: str) -> None:
        raise ZeroDivisionError

    async def work() -> None:
        async with Rig(commands=[Command("assign", decode, breaks)]) as rig:
            await rig.opened()
            rig.link.tell(Received(ASSIGN, b"run 7", acknowledge=lambda: forgotten.append("it")))
            with pytest.raises(ZeroDivisionError):
                await rig.task

    virtually(work)
    assert forgotten == ["it"]


def test_a_disk_that_hangs_keeps_no_command_unacknowledged_for_long() -> None:
    forgotten: list[str] = []

    async def work() -> None:
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with Rig(commands=[Command("assign", decode, lambda _: kept)]) as rig:
            await rig.opened()
            rig.link.tell(Received(ASSIGN, b"run 7", acknowledge=lambda: forgotten.append("it")))
            await asyncio.sleep(9)
            assert forgotten == []
            await asyncio.sleep(2)
            assert forgotten == ["it"]
            kept.set_result(None)
            await asyncio.sleep(1)
            assert forgotten == ["it"]

    virtually(work)
