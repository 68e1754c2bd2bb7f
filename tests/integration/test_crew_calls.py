"""Calls between dispatch and the crew: the real daemon, a real broker, the box and the page."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.cli.run_times import table
from agent.domain.record import (
    Amendment,
    Body,
    Breakdown,
    CallRecord,
    CommandResult,
    Emergency,
    Kind,
    MessageRecord,
    StatusChange,
    Stream,
    Verdict,
    Withdrawal,
)
from agent.domain.state import StatusState
from agent.hal.buttons import Lamp
from agent.panel.daemon_link import DaemonLink
from agent.wire.batch import JournalRecord
from hil.broker_process import find_mosquitto
from hil.process.process_rig import ProcessRig

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(240),
]
WITHIN_S = 60.0
CALL = {
    "incident": "I-7",
    "priority": "A",
    "response_mode": "lights_and_siren",
    "nature": "fall",
    "address": "12 Beacon St",
    "lat_deg": 42.3581,
    "lon_deg": -71.0636,
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's is limited to 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


class Cab:
    """The rig with the crew's page open."""

    def __init__(self, rig: ProcessRig, page: DaemonLink) -> None:
        self.rig = rig
        self.page = page

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                while not holds():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"never: {what}\n{self.page.snapshot}\n{self.rig.agent.log_tail()}")

    async def does(self, do: str, **given: Any) -> None:
        assert (await self.page.act({"do": do, **given})).get("ok"), do

    async def press(self, key: str) -> int:
        """Press on the box; returns the number of its record."""
        before = len(self.statuses())
        await self.rig.box.click(key, hold_s=0.02)
        await self.until(lambda: len(self.statuses()) > before, f"dispatch has {key}")
        return self.statuses()[-1].seq

    def records(self, kind: type[Body]) -> list[JournalRecord]:
        return [one.record for one in self.rig.dispatch.arrivals if isinstance(one.record.body, kind)]

    def bodies(self, kind: type[Body]) -> list[Any]:
        return [record.body for record in self.records(kind)]

    def statuses(self) -> list[JournalRecord]:
        return self.records(StatusChange)

    def pressed(self) -> list[StatusChange]:
        return self.bodies(StatusChange)

    def steps(self, incident: str) -> list[str]:
        return [body.step for body in self.bodies(CallRecord) if body.incident == incident]

    def state(self) -> StatusState:
        state = self.rig.dispatch.states.get("status")
        return state if isinstance(state, StatusState) else StatusState(0, None, None)

    def shows(self, incident: str | None) -> bool:
        page = self.page.snapshot
        if page is None:
            return False
        return (page["call"] or {}).get("incident") == incident

    async def kill(self) -> None:
        """End the daemon as a crash would, and wait until the one after it is there for everybody."""
        await self.rig.kill()
        await self.until(lambda: self.page.snapshot is not None, "the page is back")


@asynccontextmanager
async def cab(folder: Path, **overrides: Any) -> AsyncIterator[Cab]:
    async with ProcessRig(folder, overrides=overrides) as rig:
        await rig.boot()
        page = DaemonLink(folder / "panel.sock")
        looking = asyncio.create_task(page.run())
        try:
            there = Cab(rig, page)
            await there.until(lambda: page.snapshot is not None, "the page is there")
            await there.until(lambda: (page.snapshot or {})["link"]["connected"], "a broker has us")
            yield there
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


def test_a_call_from_assignment_to_available(folder: Path) -> None:
    async def main() -> None:
        async with cab(folder) as there:
            there.rig.command("assign", "c-1", **CALL)
            await there.until(lambda: there.shows("I-7"), "the call is shown")
            assert there.page.snapshot is not None
            assert there.page.snapshot["call"]["address"] == "12 Beacon St"
            await there.does("shown", incident="I-7")
            await there.does("acknowledge_call", incident="I-7")
            await there.until(
                lambda: there.steps("I-7") == ["received", "shown", "acknowledged"], "three times"
            )
            await there.until(lambda: there.state().incident == "I-7", "the state has the incident")
            await there.until(lambda: bool(there.state().call_acknowledged), "and that it was acknowledged")
            await there.press("en_route")
            there.rig.command("update", "c-2", incident="I-7", notes="third floor")
            await there.until(lambda: "updated" in there.steps("I-7"), "the update came")
            await there.press("on_scene")
            await there.press("available")
            await there.until(lambda: there.shows(None), "the call is over")
            await there.until(lambda: there.state().incident is None, "the state has no incident")
            for press in there.pressed():
                assert press.incident == "I-7"
                assert press.evidence is not None
            # The same assignment again, as a broker may deliver it, begins nothing.
            there.rig.command("assign", "c-1", **CALL)
            there.rig.command("update", "c-3", incident="I-99", notes="nobody's")
            await there.until(
                lambda: any(one.request == "c-3" for one in there.bodies(CommandResult)), "refused"
            )
            assert there.shows(None)
            refused = next(one for one in there.bodies(CommandResult) if one.request == "c-3")
            assert (refused.outcome, refused.reason) == ("refused", "unknown_incident")
            said = await there.rig.agent.times()
            assert said is not None
            (run,) = said["runs"]
            assert run["closed"]
            assert [one["status"] for one in run["times"]] == [
                "dispatched",
                "acknowledged",
                "en_route",
                "on_scene",
                "available",
            ]
            assert run["nemsis"]["eResponse.23"] == "2223001"
            assert "incident I-7" in table(said)[0]
            # What the call said stands in no journal, in no log, and no longer on the disk.
            files = [path for path in there.rig.store_file.rglob("*") if path.is_file()]
            kept = b"".join(path.read_bytes() for path in files)
            assert b"Beacon" not in kept
            assert "Beacon" not in there.rig.agent.log_tail(1_000_000)

    asyncio.run(main())


def test_dispatch_refuses_a_press_and_corrects_another_and_the_crew_takes_one_back(folder: Path) -> None:
    async def main() -> None:
        async with cab(folder) as there:
            en_route = await there.press("en_route")
            on_scene = await there.press("on_scene")
            journal = there.statuses()[-1].journal
            there.rig.command(
                "answer",
                "a-1",
                journal=journal,
                seq=on_scene,
                verdict="refused",
                token="out_of_sequence",
                sentence="No incident is open.",
            )
            await there.rig.box.wait_lamp("on_scene", Lamp.REFUSED, within_s=WITHIN_S)
            await there.until(lambda: bool(there.bodies(Verdict)), "the answer is on record")
            assert there.bodies(Verdict)[0].of_seq == on_scene
            assert there.page.snapshot is not None
            await there.until(
                lambda: (there.page.snapshot or {})["status"]["refused"] is not None, "the page says why"
            )
            # An answer to what never was lights nothing and ends nothing.
            there.rig.command("answer", "a-2", journal=journal, seq=on_scene + 500, verdict="refused")
            there.rig.command("answer", "a-3", journal=journal ^ 1, seq=en_route, verdict="refused")
            utc = "2026-09-14T12:07:00+00:00"
            there.rig.command("amend", "m-1", journal=journal, seq=en_route, utc=utc, reason="pressed late")
            await there.until(lambda: bool(there.bodies(Amendment)), "the amendment is on record")
            amended = there.bodies(Amendment)[0]
            assert (amended.of_seq, amended.field, amended.why) == (en_route, "utc", "pressed late")
            transporting = await there.press("transporting")
            await there.does("undo")
            await there.until(lambda: bool(there.bodies(Withdrawal)), "the withdrawal is on record")
            assert there.bodies(Withdrawal)[0].of_seq == transporting
            await there.until(lambda: there.state().status == "on_scene", "the status before holds again")
            await there.kill()
            await there.until(
                lambda: (there.page.snapshot or {})["status"]["token"] == "on_scene", "also after a kill"
            )
            said = await there.rig.agent.times()
            assert said is not None
            assert (said["amendments"], said["withdrawals"]) == (1, 1)
            times = {one["status"]: one for one in said["runs"][0]["times"]}
            assert times["en_route"]["utc"].startswith("2026-09-14T12:07:00")
            assert "transporting" not in times

    asyncio.run(main())


def test_a_diversion_and_what_holds_after_the_daemon_was_killed(folder: Path) -> None:
    async def main() -> None:
        async with cab(folder) as there:
            await there.does("sign_on", crew=["p-12", "p-40"])
            there.rig.command("assign", "c-1", **CALL)
            await there.until(lambda: there.shows("I-7"), "the first call is shown")
            await there.press("en_route")
            there.rig.command("assign", "c-2", **{**CALL, "incident": "I-8", "address": "1 City Sq"})
            await there.until(lambda: there.shows("I-8"), "the second call is shown")
            await there.until(lambda: there.steps("I-7")[-1:] == ["diverted"], "the first is diverted")
            there.rig.command("message", "t-1", text="Use the rear gate")
            await there.until(lambda: bool((there.page.snapshot or {})["messages"]), "the message is shown")
            await there.kill()
            await there.until(lambda: there.shows("I-8"), "the call stands after a kill")
            page = there.page.snapshot
            assert page is not None
            assert page["call"]["address"] == "1 City Sq"
            assert page["crew"] == ["p-12", "p-40"]
            assert page["driver"] == "p-12"
            assert [one["text"] for one in page["messages"]] == ["Use the rear gate"]
            await there.until(lambda: there.state().incident == "I-8", "the state has the incident")
            # Delivered twice by the broker, across the restart: done once.
            there.rig.command("assign", "c-1", **CALL)
            there.rig.command("message", "t-1", text="Use the rear gate")
            await there.press("on_scene")
            assert there.pressed()[-1].incident == "I-8"
            assert there.shows("I-8")
            await there.does("message_shown", message="t-1")
            await there.does("acknowledge_message", message="t-1")
            await there.until(
                lambda: (
                    [one.step for one in there.bodies(MessageRecord)] == ["received", "shown", "acknowledged"]
                ),
                "the message was taken once",
            )
            there.rig.command("cancel", "c-3", incident="I-8", reason="not needed")
            await there.until(lambda: there.shows(None), "the call is cancelled")
            await there.until(lambda: there.steps("I-8")[-1:] == ["cancelled"], "and on record")
            await there.kill()
            await there.until(lambda: there.shows(None), "it does not come back")
            said = await there.rig.agent.times()
            assert said is not None
            assert [run["incident"] for run in said["runs"]] == ["I-7", "I-8"]
            assert said["runs"][1]["times"][-1]["status"] == "cancelled"
            assert there.rig.dispatch.refused == []
            last = there.rig.dispatch.reader
            assert not last.counts.holes_open
            assert {Stream.EVENTS, Stream.TRAIL} >= {one.record.stream for one in there.rig.dispatch.arrivals}
            assert Kind.CALL in {one.record.kind for one in there.rig.dispatch.arrivals}

    asyncio.run(main())


def test_a_correction_by_dispatch_gives_the_call_back_and_ends_it_also_across_a_kill(folder: Path) -> None:
    async def main() -> None:
        async with cab(folder) as there:
            there.rig.command("assign", "c-1", **CALL)
            await there.until(lambda: there.shows("I-7"), "the call is shown")
            await there.press("on_scene")
            available = await there.press("available")
            journal = there.statuses()[-1].journal
            await there.until(lambda: there.shows(None), "the call is over")
            there.rig.command(
                "amend",
                "m-1",
                journal=journal,
                seq=available,
                status="at_patient",
                reason="wrong key",
                by="d-7",
            )
            await there.until(lambda: there.shows("I-7"), "the unit has its call again")
            await there.until(lambda: there.state().incident == "I-7", "and says so")
            assert there.state().status == "at_patient"
            await there.kill()
            await there.until(lambda: there.shows("I-7"), "also after a kill")
            await there.until(lambda: there.state().status == "at_patient", "with the status as corrected")
            transporting = await there.press("transporting")
            assert there.pressed()[-1].incident == "I-7"
            await there.kill()
            # Of a press that the agent started again has only on the disk.
            there.rig.command(
                "amend", "m-2", journal=journal, seq=transporting, status="cancelled", reason="none", by="d-7"
            )
            await there.until(lambda: there.shows(None), "the corrected press ended the call")
            await there.until(lambda: there.steps("I-7")[-2:] == ["reopened", "ended"], "both are on record")
            assert {one.by for one in there.bodies(Amendment)} == {"d-7"}
            there.rig.command("amend", "m-3", journal=journal, seq=9_999, status="staged", reason="?")
            await there.until(
                lambda: any(
                    (one.request, one.reason) == ("m-3", "unknown_record")
                    for one in there.bodies(CommandResult)
                ),
                "an amendment of nothing is refused",
            )

    asyncio.run(main())


def test_a_breakdown_on_a_call_a_reason_a_test_and_the_end_of_an_emergency_are_on_record(
    folder: Path,
) -> None:
    async def main() -> None:
        async with cab(folder, crew={"emergency_cancel_code": "4711"}) as there:
            there.rig.command("assign", "c-1", **CALL)
            await there.until(lambda: there.shows("I-7"), "the call is shown")
            await there.press("out_of_service")
            await there.does("reason", reason="mechanical")
            await there.until(lambda: bool(there.bodies(Breakdown)), "the breakdown is on record")
            told = there.bodies(Breakdown)[0]
            assert (told.reason, told.incident, told.made) == ("mechanical", "I-7", "panel")
            await there.until(lambda: there.state().reason == "mechanical", "the state has the reason")
            await there.does("available_for_calls", value=False, reason="crew")
            await there.until(lambda: there.state().for_calls is False, "the unit takes no calls")

            def emergencies() -> list[tuple[bool, bool | None, str | None, str | None]]:
                return [(one.active, one.test, one.made, one.by) for one in there.bodies(Emergency)]

            await there.does("emergency", test=True)
            await there.until(lambda: there.state().emergency_test is True, "the test is told as one")
            await there.rig.box.click("emergency", hold_s=0.02)
            await there.until(
                lambda: there.state().emergency_test is None and there.state().emergency,
                "a press of the key is meant",
            )
            assert not (await there.page.act({"do": "cancel_emergency", "code": "0"})).get("ok")
            await there.until(lambda: len(emergencies()) == 2, "both are on record")
            newest = there.records(Emergency)[-1]
            there.rig.command("cancel-emergency", "e-1", journal=newest.journal, seq=newest.seq - 1, by="d-7")
            await there.until(
                lambda: any(one.request == "e-1" for one in there.bodies(CommandResult)),
                "the older is not meant",
            )
            assert there.state().emergency
            there.rig.command(
                "cancel-emergency", "e-2", journal=newest.journal, seq=newest.seq, by="d-7", reason="by radio"
            )
            await there.until(lambda: not there.state().emergency, "dispatch ended it")
            await there.until(lambda: len(emergencies()) == 3, "the end is on record")
            assert emergencies() == [
                (True, True, "panel", None),
                (True, None, None, None),
                (False, None, "dispatch", "d-7"),
            ]

    asyncio.run(main())


def test_a_call_that_came_before_a_kill_could_be_outlived_is_delivered_again(folder: Path) -> None:
    async def main() -> None:
        async with cab(folder) as there:
            # The disk hangs while it takes the file of the run: to open a pipe takes until somebody reads.
            kept = there.rig.store_file / "run.json"
            await there.until(kept.is_file, "the file of the run is there")
            pipe = kept.with_name("run.json.new")
            os.mkfifo(pipe)
            there.rig.command("assign", "c-1", **CALL)
            await there.until(lambda: there.shows("I-7"), "the crew is shown it all the same")
            starts = there.rig.starts
            there.rig.agent.kill()
            pipe.unlink()
            assert b"I-7" not in kept.read_bytes()
            assert there.steps("I-7") == []
            await there.until(lambda: there.rig.starts > starts, "the agent is started again")
            await there.until(lambda: there.shows("I-7"), "the broker delivered it again")
            await there.until(lambda: there.steps("I-7") == ["received"], "and now it is received")

    asyncio.run(main())


def test_ten_thousand_messages_and_calls_in_a_minute_cost_no_press_and_no_memory(folder: Path) -> None:
    async def main() -> None:
        async with cab(folder) as there:
            before = there.rig.agent.memory_kib
            for number in range(10_000):
                if number % 2:
                    there.rig.command("message", f"t-{number}", text=f"{number} " + "x" * 400)
                else:
                    there.rig.command("assign", f"c-{number}", incident=f"I-{number}", notes="y" * 400)
                if number % 200 == 0:
                    await asyncio.sleep(0.05)
                if number == 5_000:
                    await there.rig.box.click("en_route", hold_s=0.02)
            await there.rig.box.wait_lamp("en_route", Lamp.DELIVERED, within_s=WITHIN_S)
            await there.press("on_scene")
            page = there.page.snapshot
            assert page is not None
            assert 0 < len(page["messages"]) <= 32
            assert page["call"] is not None
            assert there.rig.starts == 1
            after = there.rig.agent.memory_kib
            assert before is not None
            assert after is not None
            assert after - before < 16 * 1024, (before, after)

    asyncio.run(main())
