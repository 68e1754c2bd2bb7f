"""What of the run a restart knows: the call that stands, never one that ended; mangled files harm nobody."""

from __future__ import annotations

import asyncio
import errno
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.config.crew import Crew
from agent.domain.call import Call
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.places import Places
from agent.domain.record import Body, CallRecord, Draft
from agent.domain.state import State
from agent.domain.time_base import TimeBase
from agent.paths import run_memory
from agent.paths.run_memory import RunMemory
from agent.paths.run_path import RunPath
from agent.wire.orders import Assign, SignOn, Text
from hil.sim.inline_worker import InlineWorker
from hil.sim.manual_clock import ManualClock

S = 1_000_000_000
CALL = Call("I-7", address="12 Beacon St", lat_deg=42.36, lon_deg=-71.06, alternates=("M4",))


class Run:
    """A run path of one start of the agent."""

    def __init__(
        self, remembered: Mapping[str, Any] | None = None, *, boot: str = "a", seconds: int = 100
    ) -> None:
        self.bodies: list[Body] = []
        self.times_ns: list[int] = []
        self.kept: dict[str, Any] = {}
        self.disk: asyncio.Future[None] | None = None
        """Done when what is given to keep is on the disk; None for at once."""
        self.seq = 10
        self.now_ns = 0
        clock = ManualClock(lambda: self.now_ns, boot_id=boot * 32, unix_ms=0)
        self.path = RunPath(
            Crew(),
            "A1",
            Places(),
            clock,
            TimeBase(),
            records=self,
            states=self,
            newest_seq=lambda: self.seq,
            keep=self._keep,
        )
        self.now_ns = seconds * S
        self.path.open(remembered)

    def _keep(self, picture: Mapping[str, Any]) -> asyncio.Future[None] | None:
        self.kept = json.loads(json.dumps(picture))
        return self.disk

    def put(self, draft: Draft) -> None:
        self.bodies.append(draft.body)
        self.times_ns.append(draft.stamp.boottime_ns)

    stage = put

    def set_state(self, state: State) -> None:
        """Nobody looks."""

    def steps(self) -> list[str]:
        return [body.step for body in self.bodies if isinstance(body, CallRecord)]


@pytest.mark.parametrize("boot", ["a", "b"])
def test_call_crew_and_what_was_not_read_hold_after_a_restart(boot: str) -> None:
    before = Run()
    before.path.calls.on_assign(Assign("1", CALL))
    before.path.calls.on_message(Text("m", "Use the rear gate", None))
    before.path.aboard.on_sign_on(SignOn("2", ("p-1", "p-2"), "p-2", "A9"))
    before.path.actions()["available_for_calls"]({"value": False})
    after = Run(before.kept, boot=boot, seconds=130)
    shown = after.path.snapshot()
    assert shown["call"]["address"] == "12 Beacon St"
    assert shown["call"]["alternates"] == ["M4"]
    assert not shown["call"]["acknowledged"]
    assert [one["text"] for one in shown["messages"]] == ["Use the rear gate"]
    assert (shown["crew"], shown["driver"], shown["unit"]["call_sign"]) == (["p-1", "p-2"], "p-2", "A9")
    assert shown["available_for_calls"] is False
    after.path.calls.on_assign(Assign("1", CALL))
    after.path.calls.on_message(Text("m", "Use the rear gate", None))
    assert after.bodies == []
    # Nobody has acknowledged it for 30 s: in another boot, the waiting begins anew.
    after.path.tick()
    assert after.steps() == (["unacknowledged"] if boot == "a" else [])


def test_nothing_of_a_call_that_ended_is_kept() -> None:
    run = Run()
    run.path.calls.on_assign(Assign("1", CALL))
    run.path.status_holds("on_scene", pressed=True)
    assert "Beacon" in json.dumps(run.kept)
    run.path.status_holds("available", pressed=True)
    assert "Beacon" not in json.dumps(run.kept)
    assert Run(run.kept).path.incident is None


def test_a_press_that_ended_the_call_ends_it_also_when_the_kill_came_between_the_two_files() -> None:
    run = Run()
    run.path.calls.on_assign(Assign("1", CALL))
    after = Run(run.kept)
    after.path.status_holds("available", pressed=False, seq=11)
    assert after.path.incident is None
    assert after.steps() == ["ended"]
    # The status of before the call ends nothing.
    after = Run(run.kept)
    after.path.status_holds("available", pressed=False, seq=10)
    assert after.path.incident == "I-7"


def test_the_end_of_a_call_is_taken_back_with_the_press_that_made_it() -> None:
    run = Run()
    run.path.calls.on_assign(Assign("1", CALL))
    run.path.status_holds("on_scene", pressed=True)
    run.path.status_holds("available", pressed=True)
    run.path.taken_back("on_scene")
    assert run.path.incident == "I-7"
    assert run.steps() == ["received", "acknowledged", "ended", "reopened"]
    # But not when something else came since.
    run.path.status_holds("available", pressed=True)
    run.path.calls.on_assign(Assign("2", Call("I-8")))
    run.path.taken_back("on_scene")
    assert run.path.incident == "I-8"


@pytest.mark.parametrize(
    "remembered",
    [
        {"calls": 5},
        {"calls": {"call": {"fields": {"incident": 7}}}},
        {"calls": {"call": {"fields": {"incident": "I-1", "lat_deg": 400, "lon_deg": 0}}}},
        {"calls": {"commands": [1]}},
        {"messages": [{"id": ["x"]}]},
        {"messages": 7},
        {"roster": {"crew": ["a b"], "driver": None, "call_sign": "A1", "for_calls": True, "since": None}},
        {"roster": []},
        {"call_after_seq": "x"},
    ],
)
def test_what_makes_no_sense_is_left_out(remembered: dict[str, Any]) -> None:
    run = Run({"boot_id": "a" * 32, **remembered})
    assert run.path.incident is None
    assert run.path.snapshot()["crew"] == []
    run.path.calls.on_assign(Assign("1", CALL))
    assert run.path.incident == "I-7"


def test_the_file_is_written_whole_for_the_agent_alone_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "store" / "run.json"

    async def main() -> None:
        memory = RunMemory(file, InlineWorker(), HealthBoard())
        assert await memory.read() == {}
        memory.keep({"calls": 1})
        memory.keep({"calls": 2})
        await memory.close()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert [path.name for path in file.parent.iterdir()] == ["run.json"]
        assert (await RunMemory(file, InlineWorker(), HealthBoard()).read())["calls"] == 2
        for raw in (b"", b"[1]", b'{"v": 99}', b"\xff", b"[" * 100_000, b'{"v": 1' + b" " * 300_000 + b"}"):
            file.write_bytes(raw)
            health = HealthBoard()
            assert await RunMemory(file, InlineWorker(), health).read() == {}
            assert "damaged" in health.details()[HealthReason.RUN_NOT_KEPT]

    asyncio.run(main())


def test_a_disk_that_refuses_is_named_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_memory, "_RETRY_S", 0.01)
    folder = tmp_path / "store"
    folder.write_text("in the way")

    async def main() -> None:
        health = HealthBoard()
        memory = RunMemory(folder / "run.json", InlineWorker(), health)
        memory.keep({"calls": 1})
        async with asyncio.timeout(30):
            while HealthReason.RUN_NOT_KEPT not in health.reasons():
                await asyncio.sleep(0.01)
            folder.unlink()
            while HealthReason.RUN_NOT_KEPT in health.reasons():
                await asyncio.sleep(0.01)
        assert json.loads((folder / "run.json").read_bytes())["calls"] == 1
        await memory.close()

    asyncio.run(main())


def test_a_bad_moment_of_the_disk_costs_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_memory, "_TRY_AGAIN_S", 0.0)
    file = tmp_path / "run.json"
    file.write_text('{"v": 1, "calls": 7}')
    refusals = [errno.EMFILE, errno.EIO, errno.EMFILE]
    read = RunMemory._read

    def now_and_then(memory: RunMemory) -> bytes:
        if refusals:
            raise OSError(refusals.pop(), "refused")
        return read(memory)

    monkeypatch.setattr(RunMemory, "_read", now_and_then)
    health = HealthBoard()
    assert asyncio.run(RunMemory(file, InlineWorker(), health).read())["calls"] == 7
    assert not health.reasons()


def test_a_call_is_told_as_received_and_forgotten_by_the_broker_only_when_it_would_outlive_a_kill() -> None:
    async def main() -> None:
        run = Run()
        first = run.disk = asyncio.get_running_loop().create_future()
        assert run.path.calls.on_assign(Assign("1", CALL)) is first
        second = run.disk = asyncio.get_running_loop().create_future()
        run.now_ns += 5 * S
        run.path.actions()["acknowledge_call"]({"incident": "I-7"})
        assert run.path.snapshot()["call"]["address"] == "12 Beacon St"  # the crew need not wait
        assert run.bodies == []
        second.set_result(None)
        await asyncio.sleep(0.01)
        assert run.steps() == []
        first.set_result(None)
        await asyncio.sleep(0.01)
        assert run.steps() == ["received", "acknowledged"]
        # With the time at which it came, not at which the disk had it.
        assert [at_ns // S for at_ns in run.times_ns] == [100, 105]

    asyncio.run(main())


def test_what_is_to_be_kept_is_done_when_it_is_on_the_disk_or_the_disk_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_memory, "_RETRY_S", 0.01)
    file = tmp_path / "store" / "run.json"

    async def main() -> None:
        health = HealthBoard()
        memory = RunMemory(file, InlineWorker(), health)
        tried = [memory.keep({"calls": 1}), memory.keep({"calls": 1}), memory.keep({"calls": 2})]
        async with asyncio.timeout(30):
            await asyncio.gather(*tried)
        assert json.loads(file.read_bytes())["calls"] == 2
        async with asyncio.timeout(30):
            while not memory.keep({"calls": 2}).done():  # it is there already
                await asyncio.sleep(0.001)
            file.unlink()
            file.parent.rmdir()
            file.parent.write_text("in the way")
            await memory.keep({"calls": 3})
        assert HealthReason.RUN_NOT_KEPT in health.reasons()
        waiting = memory.keep({"calls": 4})
        await memory.close()
        assert waiting.done()
        assert memory.keep({"calls": 5}).done()

    asyncio.run(main())
