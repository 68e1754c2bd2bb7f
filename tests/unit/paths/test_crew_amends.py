"""Taking back, correcting and answering presses: the record stays, what holds follows at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.config import Buttons, Store
from agent.domain.crew import ButtonEdge
from agent.domain.health import HealthBoard
from agent.domain.record import (
    Amendment,
    Body,
    CommandResult,
    Emergency,
    Kind,
    StatusChange,
    Stream,
    Verdict,
    Withdrawal,
)
from agent.domain.state import State, StatusState
from agent.domain.time_base import TimeBase
from agent.hal.buttons import Lamp
from agent.outbox.outbox import Outbox
from agent.paths.crew_path import CrewPath
from agent.wire.body import unpack_body
from agent.wire.orders import Amend, Answer, CancelEmergency
from hil.sim.inline_worker import InlineWorker
from hil.sim.manual_clock import ManualClock

S = 1_000_000_000


class Voice:
    """A panel that notes what it is told."""

    def __init__(self) -> None:
        self.lamps: dict[str, Lamp] = {}
        self.acknowledged: list[int | None] = []

    def show(self, key: str, lamp: Lamp) -> None:
        self.lamps[key] = lamp

    def acknowledge(self, edge: ButtonEdge) -> None:
        self.acknowledged.append(edge.device_seq)


class Bench:
    """A crew path on a real store, and a clock that the test moves."""

    def __init__(self, folder: Path, *, receipts: bool = False, silent: bool = False) -> None:
        self.now_ns = 100 * S
        self.clock = ManualClock(lambda: self.now_ns, boot_id="ab" * 16, unix_ms=1_789_387_200_000)
        self.outbox = Outbox(Store(directory=folder), self.clock, InlineWorker(), HealthBoard())
        self.time_base = TimeBase()
        self.state: StatusState | None = None
        self.voice = Voice()
        self.path = CrewPath(
            Buttons().keys,
            self.clock,
            self.time_base,
            self.outbox,
            self,
            undo_s=10,
            receipts=receipts,
            silent=silent,
        )
        self.act = self.path.actions("4711")
        self._seq = 0

    def lamp(self, key: str) -> Lamp:
        """A call, because it changes behind the type checker's back."""
        return self.voice.lamps[key]

    def set_state(self, state: State) -> None:
        assert isinstance(state, StatusState)
        self.state = state

    def newest(self) -> StatusState:
        assert self.state is not None
        return self.state

    async def open(self) -> None:
        await self.outbox.open()
        utc = self.clock.system_utc()
        self.time_base.learn_system(
            utc.unix_ms, synchronised=True, max_error_ms=10, boottime_ns=self.clock.boottime_ns()
        )
        await self.path.open()
        self.take = self.path.attach(self.voice)

    async def close(self) -> None:
        await self.path.close()
        await self.outbox.close()

    def edge(self, key: str, pressed: bool) -> None:
        self._seq += 1
        self.take(ButtonEdge(key, pressed, self._seq, self.clock.boottime_ns(), device_session=7))

    def press(self, key: str, *, hold_s: float = 0.1) -> None:
        self.edge(key, True)
        self.now_ns += round(hold_s * S)
        self.edge(key, False)

    async def settle(self) -> None:
        async with asyncio.timeout(20):
            while self.path.snapshot()["presses_not_stored"]:
                await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)

    async def refusals(self) -> list[tuple[str, str | None]]:
        await self.outbox.flush()
        rows = await self.outbox.read(Stream.TRAIL, 0, max_records=100, max_bytes=1 << 20)
        told = [unpack_body(row.kind, row.body) for row in rows]
        return [(one.command, one.reason) for one in told if isinstance(one, CommandResult)]

    async def bodies(self) -> list[Body]:
        rows = await self.outbox.read(Stream.EVENTS, 0, max_records=100, max_bytes=1 << 20)
        return [unpack_body(row.kind, row.body) for row in rows]


def run(
    folder: Path,
    work: Callable[[Bench], Awaitable[None]],
    *,
    receipts: bool = False,
    silent: bool = False,
) -> None:
    async def main() -> None:
        bench = Bench(folder, receipts=receipts, silent=silent)
        await bench.open()
        try:
            await work(bench)
        finally:
            await bench.close()

    asyncio.run(main())


def test_the_same_key_held_takes_the_status_back_and_the_one_before_holds_with_its_lamp(
    tmp_path: Path,
) -> None:
    async def work(bench: Bench) -> None:
        bench.press("en_route")
        await bench.settle()
        bench.now_ns += 30 * S
        bench.press("on_scene")
        await bench.settle()
        bench.now_ns += 3 * S
        bench.press("on_scene", hold_s=1.2)
        await bench.settle()
        assert bench.newest().status == "en_route"
        assert bench.newest().seq == 1
        taken_back = (await bench.bodies())[-1]
        assert isinstance(taken_back, Withdrawal)
        assert (taken_back.of_seq, taken_back.of_kind, taken_back.status) == (2, "status", "en_route")
        assert bench.lamp("on_scene") is Lamp.OFF
        assert bench.lamp("en_route") is Lamp.STORED

    run(tmp_path, work)


@pytest.mark.parametrize(("wait_s", "hold_s"), [(3, 0.5), (11, 1.5)])
def test_a_press_to_be_sure_and_one_too_late_take_nothing_back(
    tmp_path: Path, wait_s: int, hold_s: float
) -> None:
    async def work(bench: Bench) -> None:
        bench.press("en_route")
        bench.press("on_scene")
        bench.now_ns += wait_s * S
        bench.press("on_scene", hold_s=hold_s)
        await bench.settle()
        assert bench.newest().status == "on_scene"
        assert len(await bench.bodies()) == 2

    run(tmp_path, work)


def test_what_was_taken_back_stays_so_after_a_restart(tmp_path: Path) -> None:
    async def before(bench: Bench) -> None:
        bench.press("en_route")
        bench.press("on_scene")
        await bench.settle()
        assert bench.act["undo"]({}) == {"ok": True}
        await bench.settle()

    async def after(bench: Bench) -> None:
        assert bench.newest().status == "en_route"
        assert "error" in bench.act["undo"]({})

    run(tmp_path, before)
    run(tmp_path, after)


def test_a_status_after_a_withdrawal_holds_after_a_restart(tmp_path: Path) -> None:
    async def before(bench: Bench) -> None:
        bench.press("en_route")
        bench.act["undo"]({})
        await bench.settle()
        bench.press("on_scene")
        await bench.settle()

    async def after(bench: Bench) -> None:
        assert bench.newest().status == "on_scene"

    run(tmp_path, before)
    run(tmp_path, after)


def test_a_press_of_the_page_says_so_and_carries_its_reason(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        assert bench.act["press"]({"key": "out_of_service", "reason": "fuel"}) == {"ok": True}
        await bench.settle()
        (body,) = await bench.bodies()
        assert isinstance(body, StatusChange)
        assert (body.made, body.reason) == ("panel", "fuel")
        assert bench.newest().reason == "fuel"
        assert "error" in bench.act["press"]({"key": "nothing"})
        for number, nonsense in enumerate(("x" * 5_000, "No Word", 7, ["fuel"])):
            key = ("available", "out_of_service")[number % 2]
            assert bench.act["press"]({"key": key, "reason": nonsense}) == {"ok": True}
            assert bench.newest().reason is None  # the press counts, whatever stands beside it

    run(tmp_path, work)


def test_the_pages_emergency_is_raised_repeated_and_cancelled_by_its_code(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.act["emergency"]({})
        bench.now_ns += 5 * S
        bench.act["emergency"]({})
        assert "error" in bench.act["cancel_emergency"]({"code": "0000"})
        assert bench.act["cancel_emergency"]({"code": "4711"}) == {"ok": True}
        await bench.settle()
        told = [(b.active, b.repeat, b.made) for b in await bench.bodies() if isinstance(b, Emergency)]
        assert told == [(True, None, "panel"), (True, True, "panel"), (False, None, "panel")]
        assert not bench.newest().emergency

    run(tmp_path, work)


def test_a_refusal_is_kept_lights_the_lamp_and_is_shown_until_the_next_press(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.press("on_scene")
        await bench.settle()
        journal = bench.outbox.journal
        bench.path.corrections.on_answer(Answer("a", journal + 1, 1, False, "no_incident", None))
        assert bench.lamp("on_scene") is Lamp.STORED
        bench.path.corrections.on_answer(Answer("b", journal, 1, False, "no_incident", "No incident."))
        bench.path.corrections.on_answer(Answer("again", journal, 1, False, "no_incident", "No incident."))
        bench.path.corrections.on_answer(Answer("nothing", journal, 99, False, "no_incident", None))
        await bench.settle()
        assert bench.lamp("on_scene") is Lamp.REFUSED
        assert bench.path.page()["status"]["refused"] == {"reason": "no_incident", "text": "No incident."}
        assert [body for body in await bench.bodies() if isinstance(body, Verdict)] == [
            Verdict(1, False, "no_incident", "No incident.", "b")
        ]
        bench.path.corrections.on_answer(Answer("c", journal, 1, True, None, None))
        assert bench.lamp("on_scene") is Lamp.STORED
        await asyncio.sleep(0)

    run(tmp_path, work)


def test_green_is_dispatchs_receipt_and_white_the_brokers(tmp_path: Path) -> None:
    def work_of(lamp: Lamp) -> Callable[[Bench], Awaitable[None]]:
        async def work(bench: Bench) -> None:
            bench.press("available")
            await bench.settle()
            bench.outbox.confirm(Stream.EVENTS, bench.outbox.last_seq(Stream.EVENTS))
            await bench.settle()
            assert bench.voice.lamps["available"] is lamp

        return work

    run(tmp_path / "a", work_of(Lamp.DELIVERED))
    run(tmp_path / "b", work_of(Lamp.RECEIVED), receipts=True)


def test_amendments_keep_the_original_and_the_state_follows(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.press("on_scene")
        await bench.settle()
        before = bench.newest().since
        assert before is not None
        assert bench.act["amend"]({"seq": 1, "earlier_s": 120}) == {"ok": True}
        after = bench.newest().since
        assert after is not None
        assert before.unix_ms - after.unix_ms == 120_000
        bench.path.corrections.on_amend(Amend("x", bench.outbox.journal, 1, "at_patient", None, "wrong key"))
        await bench.settle()
        assert bench.newest().status == "at_patient"
        told: list[Any] = [
            (body.field, body.made, body.why) for body in await bench.bodies() if isinstance(body, Amendment)
        ]
        assert told == [("utc", "panel", "crew"), ("status", "dispatch", "wrong key")]
        original = (await bench.bodies())[0]
        assert isinstance(original, StatusChange)
        assert original.status == "on_scene"

    run(tmp_path, work)


@pytest.mark.parametrize(
    "given", [{"seq": 9, "earlier_s": 60}, {"seq": 1, "earlier_s": -1}, {"seq": 1, "earlier_s": "x"}]
)
def test_an_amendment_of_nothing_or_by_nonsense_changes_nothing(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    async def work(bench: Bench) -> None:
        bench.press("on_scene")
        await bench.settle()
        assert "error" in bench.act["amend"](given)
        bench.path.corrections.on_amend(Amend("x", bench.outbox.journal, 99, "available", None, "?"))
        bench.path.corrections.on_amend(Amend("y", bench.outbox.journal, 1, "flying", None, "?"))
        await bench.settle()
        assert (await bench.outbox.latest(Kind.AMENDMENT)) is None
        assert bench.newest().status == "on_scene"

    run(tmp_path, work)


def test_a_silent_emergency_leaves_its_lamp_dark_and_is_told_as_silent(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.voice.lamps["emergency"] = Lamp.NOT_STORED  # as a box does by itself
        bench.press("emergency")
        assert bench.lamp("emergency") is Lamp.OFF
        await bench.settle()
        bench.outbox.confirm(Stream.EVENTS, bench.outbox.last_seq(Stream.EVENTS))
        await bench.settle()
        assert bench.lamp("emergency") is Lamp.OFF
        assert 1 in bench.voice.acknowledged
        (body,) = [body for body in await bench.bodies() if isinstance(body, Emergency)]
        assert body.silent
        assert bench.newest().emergency_silent
        assert bench.path.page()["emergency"]["sent"]
        assert bench.path.page()["emergency"]["silent"]
        # The lamps of other keys are lit as ever.
        bench.press("on_scene")
        await bench.settle()
        assert bench.lamp("on_scene") is Lamp.STORED

    run(tmp_path, work, silent=True)


@pytest.mark.parametrize("silent", [True, False])
def test_the_lamp_flickers_while_letting_go_cancels(tmp_path: Path, silent: bool) -> None:
    async def work(bench: Bench) -> None:
        def tick(after_s: float) -> Lamp:
            bench.now_ns += round(after_s * S)
            bench.path.tick()
            return bench.lamp("emergency")

        dark = Lamp.OFF if silent else Lamp.STORED
        bench.press("emergency")
        bench.now_ns += 20 * S
        bench.edge("emergency", True)
        await bench.settle()
        assert tick(4) is dark
        assert tick(2) is Lamp.NOT_STORED
        assert tick(12) is Lamp.NOT_STORED
        assert tick(1.5) is dark  # too late: who follows the lamp lets go before
        bench.now_ns += S
        bench.edge("emergency", False)
        bench.now_ns += 20 * S
        bench.edge("emergency", True)
        await bench.settle()
        assert tick(6) is Lamp.NOT_STORED
        bench.edge("emergency", False)
        await bench.settle()
        assert tick(1) is Lamp.OFF
        told = [(b.active, b.repeat) for b in await bench.bodies() if isinstance(b, Emergency)]
        assert told == [(True, None), (True, True), (True, True), (False, None)]
        assert not bench.newest().emergency
        assert bench.newest().emergency_silent is None

    run(tmp_path, work, silent=silent)


def test_only_what_is_pressed_while_the_test_button_is_held_is_a_test(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        def hold(held: bool = True) -> None:
            assert bench.act["emergency_test"]({"held": held}) == {"ok": True}

        def cancel() -> None:
            assert bench.act["cancel_emergency"]({"code": "4711"}) == {"ok": True}
            bench.now_ns += 20 * S

        hold()
        assert bench.path.page()["emergency"]["test_held"]
        bench.press("emergency")
        assert bench.newest().emergency_test
        assert bench.path.page()["emergency"]["is_test"]
        assert "error" in bench.act["emergency_test"]({"held": True})
        cancel()
        # Let go, and said no more.
        hold()
        hold(False)
        bench.now_ns += 1
        bench.press("emergency")
        cancel()
        hold()
        bench.now_ns += 2 * S
        assert not bench.path.page()["emergency"]["test_held"]
        bench.press("emergency")
        cancel()
        await bench.settle()
        told = [(b.active, b.test, b.repeat) for b in await bench.bodies() if isinstance(b, Emergency)]
        assert told == [
            (True, True, None),
            (False, True, None),
            (True, None, None),
            (False, None, None),
            (True, None, None),
            (False, None, None),
        ]

    run(tmp_path, work)


@pytest.mark.parametrize("after_s", [0.2, 1.0, 5.0])
def test_who_presses_again_while_a_test_stands_means_it_however_soon(tmp_path: Path, after_s: float) -> None:
    async def work(bench: Bench) -> None:
        bench.act["emergency_test"]({"held": True})
        bench.press("emergency")
        bench.now_ns += round(after_s * S)
        bench.press("emergency")
        assert bench.newest().emergency
        assert bench.newest().emergency_test is None
        await bench.settle()
        told = [(b.active, b.test, b.repeat) for b in await bench.bodies() if isinstance(b, Emergency)]
        assert told == [(True, True, None), (True, None, True)]

    async def after(bench: Bench) -> None:
        assert bench.newest().emergency
        assert bench.newest().emergency_test is None

    run(tmp_path, work)
    run(tmp_path, after)


def test_a_press_that_its_box_kept_from_before_is_no_test(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        at_ns = bench.clock.boottime_ns()
        bench.now_ns += 3 * S
        bench.act["emergency_test"]({"held": True})
        for seq, edge_ns in enumerate((at_ns, bench.clock.boottime_ns() + 60 * S), 1):
            bench.take(ButtonEdge("emergency", True, seq, edge_ns, device_session=seq))
            assert bench.newest().emergency_test is None
            bench.act["cancel_emergency"]({"code": "4711"})
            bench.act["emergency_test"]({"held": True})

    run(tmp_path, work)


def test_the_page_tests_itself_by_a_word_of_its_own_and_never_makes_an_alarm_that_stands_a_test(
    tmp_path: Path,
) -> None:
    async def work(bench: Bench) -> None:
        bench.act["emergency_test"]({"held": True})
        assert bench.act["emergency"]({}) == {"ok": True}  # the guard of the page does not ask the mode
        assert bench.newest().emergency_test is None
        assert "error" in bench.act["emergency"]({"test": True})
        bench.act["cancel_emergency"]({"code": "4711"})
        assert bench.act["emergency"]({"test": True}) == {"ok": True}
        assert bench.newest().emergency_test
        await bench.settle()

    run(tmp_path, work)


def test_who_cancelled_an_emergency_is_on_record(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.press("emergency")
        bench.act["cancel_emergency"]({"code": "4711", "by": "p-12"})
        bench.now_ns += 20 * S
        bench.press("emergency")
        bench.now_ns += 20 * S
        bench.press("emergency", hold_s=6)
        await bench.settle()
        bench.now_ns += 20 * S
        bench.press("emergency")
        await bench.settle()
        seq, journal = bench.newest().emergency_seq, bench.outbox.journal
        assert seq is not None
        for wrong in (seq - 1, seq + 1):
            bench.path.on_cancel_emergency(CancelEmergency("1", journal, wrong, "d-7", None))
        bench.path.on_cancel_emergency(CancelEmergency("2", journal ^ 1, seq, "d-7", None))
        assert bench.newest().emergency
        bench.path.on_cancel_emergency(CancelEmergency("3", journal, seq, "d-7", "Crew is well, by radio."))
        assert not bench.newest().emergency
        bench.path.on_cancel_emergency(CancelEmergency("4", journal, seq, "d-7", None))
        await bench.settle()
        ends = [one for one in await bench.bodies() if isinstance(one, Emergency) and not one.active]
        assert [(one.made, one.by, one.request, one.why) for one in ends] == [
            ("panel", "p-12", None, None),
            (None, None, None, None),  # from the key, whose name is in `input`
            ("dispatch", "d-7", "3", "Crew is well, by radio."),
        ]
        assert await bench.refusals() == [
            ("cancel-emergency", "other_emergency"),
            ("cancel-emergency", "other_emergency"),
            ("cancel-emergency", "other_emergency"),
            ("cancel-emergency", "no_emergency"),
        ]

    run(tmp_path, work)


def test_an_amendment_holds_after_a_restart_and_can_be_made_of_any_day(tmp_path: Path) -> None:
    async def before(bench: Bench) -> None:
        for key in ("en_route", "on_scene", "available"):
            bench.press(key)
        await bench.settle()
        journal = bench.outbox.journal
        bench.path.corrections.on_amend(
            Amend("1", journal, 3, "at_patient", 1_789_387_000_000, "wrong", "d-7")
        )
        await bench.settle()
        assert bench.newest().status == "at_patient"

    async def after(bench: Bench) -> None:
        state = bench.newest()
        assert (state.status, state.seq) == ("at_patient", 3)
        assert state.since is not None
        assert state.since.unix_ms == 1_789_387_000_000
        assert [one["token"] for one in bench.path.page()["recent"]] == ["at_patient", "on_scene", "en_route"]
        # One that the page no longer offers, too.
        for key in ("transporting", "available") * 5:
            bench.press(key)
        await bench.settle()
        bench.path.corrections.on_amend(Amend("2", bench.outbox.journal, 1, "staged", None, "late", None))
        await bench.settle()
        told = [one for one in await bench.bodies() if isinstance(one, Amendment)]
        assert [(one.of_seq, one.field, one.value, one.by) for one in told] == [
            (3, "status", "at_patient", "d-7"),
            (3, "utc", "2026-09-14T11:56:40.000+00:00", "d-7"),
            (1, "status", "staged", None),
        ]
        assert bench.newest().status == "available"

    run(tmp_path, before)
    run(tmp_path, after)


def test_the_lamp_and_the_time_of_the_status_are_true_after_a_restart_behind_a_request_to_talk(
    tmp_path: Path,
) -> None:
    async def before(bench: Bench) -> None:
        bench.press("on_scene")
        bench.now_ns += 30 * S
        bench.press("talk_request")
        await bench.settle()

    async def after(bench: Bench) -> None:
        assert (bench.newest().status, bench.newest().seq) == ("on_scene", 1)
        assert bench.newest().since is not None
        assert bench.lamp("on_scene") is Lamp.STORED
        assert bench.lamp("talk_request") is Lamp.STORED

    run(tmp_path, before)
    run(tmp_path, after)


def test_an_answer_or_amendment_to_nothing_is_refused_by_name(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.press("on_scene")
        bench.press("emergency")
        await bench.settle()
        journal, corrections = bench.outbox.journal, bench.path.corrections
        corrections.on_answer(Answer("1", journal, 99, True, None, None))
        corrections.on_answer(Answer("2", journal ^ 1, 1, True, None, None))
        corrections.on_amend(Amend("3", journal, 0, "available", None, "?"))
        corrections.on_amend(Amend("4", journal, 2, "available", None, "?"))  # an emergency is no status
        corrections.on_amend(Amend("5", journal, 1, "flying", None, "?"))
        await bench.settle()
        assert await bench.refusals() == [
            ("answer", "unknown_record"),
            ("answer", "other_journal"),
            ("amend", "unknown_record"),
            ("amend", "unknown_status"),
            ("amend", "unknown_record"),
        ]

    run(tmp_path, work)


def test_a_reason_can_be_given_afterwards(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        assert "error" in bench.act["reason"]({"reason": "fuel"})
        bench.press("out_of_service")
        await bench.settle()
        for _ in range(2):
            assert bench.act["reason"]({"reason": "fuel"}) == {"ok": True}
        assert bench.newest().reason == "fuel"
        for nonsense in ("", "no words", 5, None, "x" * 33, "fuel\n"):
            assert "error" in bench.act["reason"]({"reason": nonsense})
        await bench.settle()
        (told,) = [one for one in await bench.bodies() if isinstance(one, Amendment)]
        assert (told.of_seq, told.field, told.original, told.value) == (1, "reason", None, "fuel")

    async def after(bench: Bench) -> None:
        assert bench.newest().reason == "fuel"

    run(tmp_path, work)
    run(tmp_path, after)


def test_the_system_lamp_is_told_again_and_again_and_at_once_when_it_changes(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        shown: list[Lamp] = []

        class Noting(Voice):
            def show(self, key: str, lamp: Lamp) -> None:
                super().show(key, lamp)
                shown.append(lamp) if key == "system" else None

        said = Lamp.DELIVERED
        bench.path._system = lambda: said
        bench.voice = Noting()
        await bench.open()
        for _ in range(7):
            bench.path.tick()
        assert shown == [Lamp.DELIVERED] * 3
        said = Lamp.REFUSED
        bench.path.tick()
        bench.path.tick()
        assert shown[3:] == [Lamp.REFUSED]
        assert bench.path.snapshot()["lamps"] == {"system": "refused"}
        await bench.close()

    asyncio.run(main())


def test_a_press_from_the_future_is_kept_as_it_came_and_neither_undone_for_ever_nor_in_the_way(
    tmp_path: Path,
) -> None:
    async def work(bench: Bench) -> None:
        ahead_ns = bench.clock.boottime_ns() + 3_600 * S
        bench.take(ButtonEdge("on_scene", True, 1, ahead_ns, device_session=7))
        bench.take(ButtonEdge("on_scene", False, 2, ahead_ns + S // 10, device_session=7))
        await bench.settle()
        assert bench.newest().status == "on_scene"
        assert bench.path.page()["status"]["undo_s"] == 0
        assert "error" in bench.act["undo"]({})
        assert bench.lamp("on_scene") is Lamp.STORED
        bench.take(ButtonEdge("transporting", True, 3, bench.clock.boottime_ns(), device_session=7))
        await bench.settle()
        assert bench.newest().status == "transporting"
        assert [type(one) for one in await bench.bodies()] == [StatusChange, StatusChange]

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("keys", "tiles", "shown", "more"),
    [
        ({"f1": "en_route", "f2": "on_scene", "f3": "emergency"}, ["on_scene", "x"], ["f2"], ["f1"]),
        ({"f1": "en_route", "f2": "en_route", "f3": "staged"}, ["f2", "en_route"], ["f2", "f1"], ["f3"]),
        ({"f1": "en_route", "f2": "staged"}, ["nothing", "of this"], ["f1", "f2"], []),
        ({"f1": "en_route", "f2": "en_route", "f3": "emergency"}, None, ["f1"], []),
        ({"f3": "emergency"}, ["emergency"], [], []),
    ],
)
def test_the_page_has_tiles_whatever_the_keys_are_called(
    tmp_path: Path, keys: dict[str, str], tiles: list[str] | None, shown: list[str], more: list[str]
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        path = CrewPath(keys, bench.clock, bench.time_base, bench.outbox, bench)
        page = path.page(tiles)
        assert [one["key"] for one in page["keys"]] == shown
        assert [one["key"] for one in page["more_keys"]] == more

    asyncio.run(main())


def test_amendments_of_one_press_that_come_together_follow_each_other(tmp_path: Path) -> None:
    async def before(bench: Bench) -> None:
        for key in ("en_route", "on_scene"):
            bench.press(key)
        await bench.settle()

    async def after(bench: Bench) -> None:
        bench.path._standing.recent.clear()  # as of a press that lies far back
        for number, status in enumerate(("staged", "at_patient", "staged")):
            bench.path.corrections.on_amend(Amend(str(number), bench.outbox.journal, 1, status, None, "?"))
        await bench.settle()
        told = [(one.original, one.value) for one in await bench.bodies() if isinstance(one, Amendment)]
        assert told == [("en_route", "staged"), ("staged", "at_patient"), ("at_patient", "staged")]

    run(tmp_path, before)
    run(tmp_path, after)


def test_the_age_of_a_status_whose_time_was_corrected_is_that_of_the_new_time(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.press("on_scene")
        await bench.settle()
        bench.now_ns += 10 * S
        assert 10 <= bench.path.page()["status"]["age_s"] < 11
        bench.act["amend"]({"seq": 1, "earlier_s": 120})
        assert 130 <= bench.path.page()["status"]["age_s"] < 131

    run(tmp_path, work)
