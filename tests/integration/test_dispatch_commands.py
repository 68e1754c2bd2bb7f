"""Commands to a unit and what becomes of them: answers, repetition, a time after which it is too late."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.dispatch.commands import COMMANDS
from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import CallRecord, CommandResult, Stream
from agent.wire import topics as wire_topics
from agent.wire.topics import Topics
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.dispatch_process import DispatchProcess
from hil.process.process_rig import ProcessRig
from tests.integration.spoken_vehicle import A1, UTC_MS, WITHIN_S, Vehicle, wait_until

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(150),
]
PATH = "/api/v1/units/boston-ems/A1"
CALL = {"incident": "26-0042", "priority": "1", "address": "1 City Hall Sq"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        yield broker


@pytest.fixture
def service(tmp_path: Path, broker: Mosquitto) -> Iterator[DispatchProcess]:
    with DispatchProcess(tmp_path / "dispatch", f"mqtt://127.0.0.1:{broker.port}") as process:
        wait_until(lambda: process.ask("/api/v1/service")["well"], "the subscription")
        yield process


@pytest.fixture
def vehicle(broker: Mosquitto, service: DispatchProcess) -> Iterator[Vehicle]:
    vehicle = Vehicle(broker.port)
    vehicle.say(A1.link(1, online=True), retain=True)
    wait_until(lambda: bool(service.ask("/api/v1/units")), "the unit")
    yield vehicle
    vehicle.close()


def outcome(service: DispatchProcess, command_id: str) -> dict[str, Any]:
    found: dict[str, Any] = service.ask(f"/api/v1/commands/{command_id}")
    return found


def test_every_command_of_the_contract_can_be_given_here() -> None:
    by_itself = {wire_topics.NEW_JOURNAL}  # the service asks for one when two records have one number
    assert wire_topics.COMMANDS.keys() - COMMANDS.keys() == by_itself


def test_a_real_unit_reports_when_asked_and_the_caller_hears_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with ProcessRig(tmp_path, receipts=False) as rig:
            service = DispatchProcess(tmp_path / "dispatch", f"mqtt://127.0.0.1:{rig.broker.port}")
            await asyncio.to_thread(service.start)
            try:
                await rig.boot()
                async with asyncio.timeout(WITHIN_S):
                    while not await asyncio.to_thread(service.ask, "/api/v1/units"):
                        await asyncio.sleep(0.05)
                done = await asyncio.to_thread(service.ask, f"{PATH}/report-now?wait_s=30", {})
                assert done["outcome"] in ("accepted", "done")
                assert done["ended"]
                (reply,) = done["replies"]
                assert reply["id"] == done["id"]
            finally:
                await asyncio.to_thread(service.stop)

    asyncio.run(work())


def test_an_answer_is_handed_to_the_caller_with_its_result(
    service: DispatchProcess, vehicle: Vehicle
) -> None:
    given = service.ask(f"{PATH}/ping", {})
    wait_until(lambda: bool(vehicle.told("ping")), "the question")
    (told,) = vehicle.told("ping")
    assert (told["id"], told["by"]) == (given["id"], "this computer")
    assert told["until"].endswith("+00:00")
    assert not outcome(service, given["id"])["ended"]
    vehicle.reply("ping", "refused", id=given["id"], reason="busy", text="Too many.")
    wait_until(lambda: outcome(service, given["id"])["ended"], "the answer")
    found = outcome(service, given["id"])
    assert found["outcome"] == "refused"
    assert [(one["reason"], one["text"]) for one in found["replies"]] == [("busy", "Too many.")]
    assert service.ask("/api/v1/commands?agency=boston-ems&unit=A1")[0]["outcome"] == "refused"
    assert service.status_of("/api/v1/commands/nobody") == 404


def test_what_lasts_is_over_when_the_last_word_came(service: DispatchProcess, vehicle: Vehicle) -> None:
    given = service.ask(f"{PATH}/diagnostics", {})
    vehicle.reply("diagnostics", "accepted", id=given["id"])
    wait_until(lambda: bool(outcome(service, given["id"])["replies"]), "the first answer")
    assert not outcome(service, given["id"])["ended"]
    vehicle.reply("diagnostics", "done", id=given["id"], text="All well.")
    wait_until(lambda: outcome(service, given["id"])["ended"], "the last answer")
    assert [one["outcome"] for one in outcome(service, given["id"])["replies"]] == ["accepted", "done"]


def test_a_refusal_without_an_id_answers_the_newest_of_its_name(
    service: DispatchProcess, vehicle: Vehicle
) -> None:
    given = service.ask(f"{PATH}/signals", {"names": ["Speed"], "every_s": 1, "for_s": 10})
    wait_until(lambda: bool(vehicle.told("signals")), "the question")
    wait_until(lambda: outcome(service, given["id"])["sent_ms"] is not None, "the broker's word")
    vehicle.reply("signals", "refused", reason="unknown_command")
    wait_until(lambda: outcome(service, given["id"])["outcome"] == "refused", "the refusal")


def test_a_unit_that_was_away_is_told_once_more_and_not_after_it_answered(
    broker: Mosquitto, service: DispatchProcess, vehicle: Vehicle
) -> None:
    vehicle.close()  # its session ends with its connection, as the agent's does
    given = service.ask(f"{PATH}/assign", CALL)
    message = service.ask(f"{PATH}/message", {"text": "call in"})
    wait_until(lambda: outcome(service, message["id"])["sent_ms"] is not None, "the broker to have both")
    again = Vehicle(broker.port)
    try:
        again.say(A1.link(2, online=True), retain=True)
        wait_until(lambda: bool(again.told("assign")) and bool(again.told("message")), "both again")
        assert again.told("assign")[0]["id"] == given["id"]
        received = CallRecord("received", "26-0042", request=given["id"])
        again.say(A1.batch(Stream.EVENTS, 1, [(UTC_MS, received)]))
        again.reply("message", "done", id=message["id"])
        wait_until(lambda: outcome(service, given["id"])["until_ms"] is None, "the vehicle's record")
        wait_until(lambda: outcome(service, message["id"])["ended"], "the answer")
        again.say(A1.link(3, online=True), retain=True)
        mark = service.ask(f"{PATH}/ping", {})
        wait_until(lambda: mark["id"] in {one["id"] for one in again.told("ping")}, "what is said last")
        assert (len(again.told("assign")), len(again.told("message"))) == (1, 1)
    finally:
        again.close()


def test_a_call_that_is_over_does_not_ring_when_the_unit_comes_back(
    broker: Mosquitto, service: DispatchProcess, vehicle: Vehicle
) -> None:
    vehicle.close()
    service.ask(f"{PATH}/assign", CALL)
    cancel = service.ask(f"{PATH}/cancel", {"incident": "26-0042"})
    wait_until(lambda: outcome(service, cancel["id"])["sent_ms"] is not None, "the broker to have both")
    again = Vehicle(broker.port)
    try:
        again.say(A1.link(2, online=True), retain=True)
        wait_until(lambda: bool(again.told("cancel")), "the cancellation")
        assert again.told("assign") == []
    finally:
        again.close()


def test_what_nobody_answers_in_its_time_is_said_to_be_unanswered_and_never_sent_again(
    broker: Mosquitto, service: DispatchProcess, vehicle: Vehicle
) -> None:
    asked = service.ask(f"{PATH}/ping?valid_s=0.5&wait_s=30", {})
    assert asked["outcome"] == "unanswered"
    assert asked["ended"]
    again = Vehicle(broker.port)
    try:
        again.say(A1.link(2, online=True), retain=True)
        mark = service.ask(f"{PATH}/report-now", {})
        wait_until(lambda: mark["id"] in {one["id"] for one in again.told("report-now")}, "what is said last")
        assert again.told("ping") == []
    finally:
        again.close()


def test_a_result_in_the_journal_counts_where_the_answer_got_lost(
    service: DispatchProcess, vehicle: Vehicle
) -> None:
    given = service.ask(f"{PATH}/service", {"item": "oil"})
    result = CommandResult("service", "refused", request=given["id"], reason="failed", text="No such item.")
    vehicle.say(A1.batch(Stream.TRAIL, 1, [(UTC_MS, result)]))
    wait_until(lambda: outcome(service, given["id"])["outcome"] == "refused", "the record")


def test_no_unit_answers_for_another(broker: Mosquitto, service: DispatchProcess, vehicle: Vehicle) -> None:
    given = service.ask(f"{PATH}/ping", {})
    liar = Vehicle(broker.port, UnitVoice(Topics("boston-ems", "A2")))
    try:
        liar.reply("ping", "done", id=given["id"])
        liar.reply("report-now", "done", id=given["id"])
        liar.say(A1.batch(Stream.EVENTS, 1, [(UTC_MS, CallRecord("received", "x", request=given["id"]))]))
        other = UnitVoice(Topics("boston-ems", "A2"))
        liar.say(other.batch(Stream.EVENTS, 1, [(UTC_MS, CallRecord("received", "x", request=given["id"]))]))
        vehicle.reply("report-now", "done", id=given["id"])  # nor one command for another
        vehicle.reply(
            "ping", "accepted", id=given["id"], text="\0 <b>\ud800".encode("utf-8", "replace").decode()
        )
        wait_until(lambda: outcome(service, given["id"])["ended"], "the right answer")
        assert [one["outcome"] for one in outcome(service, given["id"])["replies"]] == ["accepted"]
    finally:
        liar.close()


def test_a_file_that_comes_in_pieces_is_put_together_and_held_against_its_digest(
    service: DispatchProcess, vehicle: Vehicle
) -> None:
    content = bytes(range(256)) * 40
    given = service.ask(f"{PATH}/fetch", {"what": "bundle"})
    url = f"/api/v1/commands/{given['id']}/file"
    for at in (4096, 0, 8192, 0):  # out of order, one twice
        piece: dict[str, object] = {"name": '../b"undle.zip', "offset": at, "size": len(content)}
        piece["data"] = base64.b64encode(content[at : at + 4096]).decode()
        if at == 8192:
            piece["sha256"] = hashlib.sha256(content).hexdigest()
        answer = {"command": "fetch", "outcome": "accepted", "id": given["id"], "result": json.dumps(piece)}
        vehicle.say((A1.topics.reply("fetch"), json.dumps(answer).encode()))
        if at == 4096:
            wait_until(lambda: bool(outcome(service, given["id"])["replies"]), "the first piece")
            assert service.status_of(url) == 409
    wait_until(lambda: service.status_of(url) == 200, "the whole")
    with service.open(url) as answer_file:
        assert answer_file.read() == content
        assert answer_file.headers["Content-Disposition"] == 'attachment; filename=".._b_undle.zip"'
