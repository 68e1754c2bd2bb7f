"""Press, disk, lamp: what the crew is told is true at every moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from agent.config import Buttons, Store
from agent.domain.crew import ButtonEdge
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Alert, Draft, Kind, StatusChange, Stream
from agent.domain.stamp import Stamp
from agent.domain.state import State, StatusState
from agent.domain.time_base import TimeBase
from agent.hal.buttons import Lamp
from agent.outbox.entry import entry_of
from agent.outbox.fault import StoreDamagedError, StoreFaultError
from agent.outbox.outbox import Outbox
from agent.paths import crew_path
from agent.paths.crew_path import CrewPath
from agent.paths.panel_voice import PanelVoice
from agent.runtime.worker import Done
from agent.wire.body import unpack_body
from agent.wire.row import Row
from hil.sim.inline_worker import InlineWorker
from hil.sim.manual_clock import ManualClock

S = 1_000_000_000
T = TypeVar("T")


class Panel:
    """Notes what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    async def show(self, key: str, lamp: Lamp) -> None:
        self.told.append((key, lamp))

    async def sound(self, pattern_ms: Sequence[int]) -> None:
        """Nothing sounds here."""

    async def acknowledge(self, edge: ButtonEdge) -> None:
        self.told.append(("acknowledge", edge.device_seq))

    def lamp(self, key: str) -> object:
        return [lamp for name, lamp in self.told if name == key][-1]


class States:
    """Keeps the newest status state."""

    def __init__(self) -> None:
        self.status: StatusState | None = None

    def set_state(self, state: State) -> None:
        assert isinstance(state, StatusState)
        self.status = state

    def newest(self) -> StatusState | None:
        """The newest state; a call, because it changes behind the type checker's back."""
        return self.status


class Bench:
    """A crew path on a real store, with everything else at hand."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(lambda: 100 * S, boot_id="ab" * 16, unix_ms=0)
        self.outbox = Outbox(Store(directory=folder), self.clock, InlineWorker(), HealthBoard())
        self.states = States()
        self.panel = Panel()
        self.path = CrewPath(Buttons().keys, self.clock, TimeBase(), self.outbox, self.states)

    async def open(self) -> None:
        await self.outbox.open()
        await self.path.open()
        voice = PanelVoice(self.panel)
        self.take = self.path.attach(voice)
        self.speaking = asyncio.get_running_loop().create_task(voice.run(lambda: None))

    async def close(self) -> None:
        self.speaking.cancel()
        await asyncio.gather(self.speaking, return_exceptions=True)
        await self.path.close()
        await self.outbox.close()

    def press(self, key: str, seq: int, at_ns: int = 90 * S) -> None:
        self.take(ButtonEdge(key, True, seq, at_ns, device_session=7))

    async def lamp_is(self, key: str, lamp: Lamp) -> None:
        """Wait until the panel was told so last."""
        async with asyncio.timeout(20):
            while self.panel.lamp(key) is not lamp:
                await asyncio.sleep(0.005)

    async def settle(self) -> None:
        async with asyncio.timeout(5):
            while self.path.snapshot()["presses_not_stored"]:
                await asyncio.sleep(0)
        for _ in range(10):  # what the panel is told goes through a task of its own
            await asyncio.sleep(0)


def test_not_stored_stored_acknowledged_delivered_in_this_order(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        bench.press("on_scene", 1)
        await bench.settle()
        assert bench.panel.told == [
            ("on_scene", Lamp.NOT_STORED),
            ("on_scene", Lamp.STORED),
            ("acknowledge", 1),
        ]
        assert bench.states.status is not None
        assert (bench.states.status.status, bench.states.status.seq) == ("on_scene", 1)
        bench.outbox.confirm(Stream.EVENTS, 1)
        await bench.settle()
        assert bench.panel.lamp("on_scene") is Lamp.DELIVERED
        await bench.close()

    asyncio.run(main())


def test_the_next_status_darkens_the_last_ones_lamp(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        bench.press("en_route", 1)
        bench.press("on_scene", 2)
        await bench.settle()
        assert bench.panel.lamp("en_route") is Lamp.OFF
        assert bench.panel.lamp("on_scene") is Lamp.STORED
        bench.outbox.confirm(Stream.EVENTS, 2)
        await bench.settle()
        assert bench.panel.lamp("en_route") is Lamp.OFF
        await bench.close()

    asyncio.run(main())


def test_a_restart_takes_up_status_lamps_and_what_is_on_record(tmp_path: Path) -> None:
    async def main() -> None:
        first = Bench(tmp_path)
        await first.open()
        first.press("transporting", 1)
        first.press("talk_request", 2, at_ns=95 * S)
        await first.settle()
        await first.close()

        second = Bench(tmp_path)
        await second.open()
        assert second.states.status is not None
        assert second.states.status.status == "transporting"
        second.press("transporting", 1)  # the box says again what nobody acknowledged
        second.press("talk_request", 2, at_ns=95 * S)
        await second.settle()
        assert second.outbox.last_seq(Stream.EVENTS) == 2
        assert ("acknowledge", 2) in second.panel.told
        await second.close()

    asyncio.run(main())


def test_a_press_from_before_the_computer_started_keeps_its_time(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        bench.press("on_scene", 1, at_ns=-3 * S)
        await bench.settle()
        row = await bench.outbox.latest(Kind.STATUS)
        assert row is not None
        assert row.boottime_ms == -3000
        await bench.close()

    asyncio.run(main())


def test_a_lost_edge_is_told_and_leaves_no_lamp_blinking(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        bench.press("on_scene", 1)
        bench.press("on_scene", 4)  # 2 and 3 never came, and it is no new status: told with the next edge
        bench.press("available", 5)
        await bench.settle()
        assert bench.panel.lamp("available") is Lamp.STORED
        rows = await bench.outbox.read(Stream.EVENTS, 0, max_records=10, max_bytes=10_000)
        bodies = [unpack_body(Kind(row.kind), row.body) for row in rows]
        assert [type(body) for body in bodies] == [StatusChange, Alert, StatusChange]
        await bench.close()

    asyncio.run(main())


class SlowWorker(InlineWorker):
    """Does its work only while the gate is open, as a disk that hesitates."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    def submit(self, work: Callable[[], T], done: Done, *, urgent: bool = False) -> None:
        if self.gate.is_set():
            super().submit(work, done, urgent=urgent)
        else:
            asyncio.get_running_loop().call_later(0.001, partial(self.submit, work, done, urgent=urgent))

    async def close(self) -> None:
        self.gate.set()


def slow_bench(folder: Path) -> tuple[Bench, SlowWorker]:
    bench, worker = Bench(folder), SlowWorker()
    bench.outbox = Outbox(Store(directory=folder), bench.clock, worker, HealthBoard())
    bench.path = CrewPath(Buttons().keys, bench.clock, TimeBase(), bench.outbox, bench.states)
    return bench, worker


def test_no_lamp_says_stored_while_a_later_press_of_its_key_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        bench, worker = slow_bench(tmp_path)
        await bench.open()
        worker.gate.clear()
        for seq, key in enumerate(("en_route", "on_scene", "en_route"), start=1):
            bench.press(key, seq)
        assert bench.states.status is not None
        assert (bench.states.status.status, bench.states.status.seq) == ("en_route", None)
        worker.gate.set()
        await bench.settle()
        # en_route was told not_stored twice and stored once: after its second press was on the disk.
        told = [lamp for key, lamp in bench.panel.told if key == "en_route"]
        assert told[-1] is Lamp.STORED
        assert told.count(Lamp.STORED) == 1
        acknowledged = [seq for key, seq in bench.panel.told if key == "acknowledge"]
        assert acknowledged == [1, 2, 3]
        assert bench.panel.lamp("on_scene") is Lamp.OFF
        assert bench.states.status.seq == 3
        await bench.close()

    asyncio.run(main())


def test_an_emergency_reaches_the_live_state_although_the_disk_does_not_take_it(tmp_path: Path) -> None:
    async def main() -> None:
        bench, worker = slow_bench(tmp_path)
        await bench.open()
        worker.gate.clear()
        bench.press("emergency", 1)
        state = bench.states.newest()
        assert state is not None
        assert state.emergency
        assert state.emergency_seq is None
        await asyncio.sleep(0)
        assert ("emergency", Lamp.STORED) not in bench.panel.told
        worker.gate.set()
        await bench.settle()
        state = bench.states.newest()
        assert state is not None
        assert state.emergency_seq == 1
        await bench.close()

    asyncio.run(main())


def test_a_store_that_opens_late_is_taken_up_and_nothing_false_is_said_before(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        first = Bench(tmp_path / "data")
        await first.open()
        first.press("transporting", 1)
        first.press("emergency", 2)
        await first.settle()
        await first.close()

        folder = tmp_path / "data"
        aside = tmp_path / "aside"
        folder.rename(aside)
        folder.write_text("what can not be opened as a folder")
        second = Bench(folder)
        running = asyncio.get_running_loop().create_task(second.outbox.run(lambda: None))
        await second.open()
        assert second.states.newest() is None
        crew = asyncio.get_running_loop().create_task(second.path.run(lambda: None))
        folder.unlink()
        aside.rename(folder)
        async with asyncio.timeout(10):
            while (state := second.states.newest()) is None:
                await asyncio.sleep(0.01)
        assert state.status == "transporting"
        assert state.emergency
        for task in (crew, running):
            task.cancel()
        await asyncio.gather(crew, running, return_exceptions=True)
        await second.close()

    asyncio.run(main())


@pytest.mark.parametrize("carried_over", [True, False])
def test_another_store_in_the_place_of_ours_takes_no_press_for_delivered(
    tmp_path: Path, carried_over: bool
) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        crew = asyncio.get_running_loop().create_task(bench.path.run(lambda: None))
        bench.press("en_route", 1)
        bench.press("on_scene", 2)
        await bench.settle()
        keeper, journal = bench.outbox._store._keeper, bench.outbox.journal
        assert bench.states.status is not None
        assert (bench.states.status.seq, bench.states.status.journal) == (2, journal)
        row = await bench.outbox.latest(Kind.STATUS)
        assert row is not None
        on_scene = unpack_body(Kind.STATUS, row.body)

        def replace_store() -> None:
            keeper._store.close()
            for path in tmp_path.glob("outbox*"):
                path.unlink()
            keeper._known_journal = 0
            keeper.open()
            if carried_over:
                keeper.append([entry_of(Draft(Stamp(90 * S), on_scene))], confirmed={}, dropped=())

        await bench.outbox._store.do(lambda _: replace_store())
        assert bench.outbox.journal not in (0, journal)
        bench.outbox.confirm(Stream.EVENTS, bench.outbox.last_seq(Stream.EVENTS) - carried_over)
        async with asyncio.timeout(10):
            while (state := bench.states.newest()) is None or state.journal == journal:
                await asyncio.sleep(0.01)
        await bench.settle()
        assert state.status == "on_scene"
        assert state.seq == (1 if carried_over else None)
        assert bench.panel.lamp("on_scene") is (Lamp.STORED if carried_over else Lamp.NOT_STORED)
        # What is not there is stored again.
        await bench.outbox.flush()
        await bench.settle()
        assert bench.panel.lamp("on_scene") is Lamp.STORED
        state = bench.states.newest()
        assert state is not None
        assert state.seq is not None
        row = await bench.outbox.latest(Kind.STATUS)
        assert row is not None
        assert (row.seq, unpack_body(Kind.STATUS, row.body)) == (state.seq, on_scene)

        bench.press("transporting", 3)
        await bench.settle()
        assert bench.panel.lamp("on_scene") is Lamp.OFF
        assert bench.panel.lamp("transporting") is Lamp.STORED
        bench.outbox.confirm(Stream.EVENTS, bench.outbox.last_seq(Stream.EVENTS))
        await bench.settle()
        assert bench.panel.lamp("transporting") is Lamp.DELIVERED
        crew.cancel()
        await asyncio.gather(crew, return_exceptions=True)
        await bench.close()

    asyncio.run(main())


@pytest.mark.parametrize("lost", [True, False])
def test_after_a_salvage_each_lamp_says_whether_its_press_is_still_there(tmp_path: Path, lost: bool) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.open()
        crew = asyncio.get_running_loop().create_task(bench.path.run(lambda: None))
        for seq, key in enumerate(("en_route", "on_scene", "talk_request"), 1):
            bench.press(key, seq)
        await bench.settle()
        keeper, journal = bench.outbox._store._keeper, bench.outbox.journal

        def damage() -> None:
            if lost:
                keeper._store.file.connection.execute("DELETE FROM events WHERE seq = 2")
            keeper._set_aside(StoreDamagedError("a test"), carry=True)
            keeper.open()

        await bench.outbox._store.do(lambda _: damage())
        assert bench.outbox.journal == journal
        await bench.lamp_is("on_scene", (Lamp.NOT_STORED if lost else Lamp.STORED))
        assert bench.states.status is not None
        assert bench.states.status.seq == (None if lost else 2)
        bench.outbox.confirm(Stream.EVENTS, bench.outbox.last_seq(Stream.EVENTS))
        await bench.lamp_is("on_scene", (Lamp.NOT_STORED if lost else Lamp.DELIVERED))
        await bench.lamp_is("talk_request", Lamp.DELIVERED)
        # What is not there is stored again, and delivered once.
        await bench.outbox.flush()
        last_seq = bench.outbox.last_seq(Stream.EVENTS)
        await bench.lamp_is("on_scene", (Lamp.STORED if lost else Lamp.DELIVERED))
        assert bench.states.newest().seq == (last_seq if lost else 2)  # type: ignore[union-attr]  # see above
        bench.outbox.confirm(Stream.EVENTS, last_seq)
        await bench.lamp_is("on_scene", Lamp.DELIVERED)
        crew.cancel()
        await asyncio.gather(crew, return_exceptions=True)
        await bench.close()

    asyncio.run(main())


def test_a_disk_that_can_not_be_read_ends_nothing_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        first = Bench(tmp_path)
        await first.open()
        first.press("transporting", 1)
        await first.settle()
        await first.close()
        monkeypatch.setattr(crew_path, "_TICK_S", 0.01)
        second, asked = Bench(tmp_path), 0
        read_latest = second.outbox.latest

        async def latest(kind: Kind) -> Row | None:
            nonlocal asked
            asked += 1
            if asked < 4:
                raise StoreFaultError(HealthReason.STORE_IO_ERROR, "not now")
            return await read_latest(kind)

        monkeypatch.setattr(second.outbox, "latest", latest)
        await second.open()
        assert second.states.newest() is None
        crew = asyncio.get_running_loop().create_task(second.path.run(lambda: None))
        async with asyncio.timeout(10):
            while (state := second.states.newest()) is None:
                await asyncio.sleep(0.01)
        assert state.status == "transporting"
        crew.cancel()
        await asyncio.gather(crew, return_exceptions=True)
        await second.close()

    asyncio.run(main())


@pytest.mark.parametrize(("key", "kind"), [("emergency", Kind.EMERGENCY), ("talk_request", Kind.STATUS)])
def test_pressed_twice_around_a_restart_is_one_record(key: str, kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        for seq, at_ns in ((1, 90 * S), (2, 91 * S), (3, 95 * S)):
            bench = Bench(tmp_path)
            await bench.open()
            bench.press(key, seq, at_ns)
            await bench.settle()
            assert bench.panel.told[-1] in ((key, Lamp.STORED), ("acknowledge", seq))
            await bench.close()
        bench = Bench(tmp_path)
        await bench.outbox.open()
        stored = await bench.outbox.read(Stream.EVENTS, 0, max_records=10, max_bytes=1 << 20)
        await bench.outbox.close()
        assert [row.boottime_ms for row in stored if row.kind == kind] == [90_000, 95_000]

    asyncio.run(main())


def test_pressed_twice_around_a_reboot_is_two_records_since_their_times_can_not_be_compared(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        for boot in ("ab", "cd"):
            bench = Bench(tmp_path)
            bench.clock._boot_id = boot * 16
            await bench.open()
            bench.press("emergency", 1 if boot == "ab" else 2, 90 * S)
            await bench.settle()
            last_seq = bench.outbox.last_seq(Stream.EVENTS)
            await bench.close()
        assert last_seq == 2

    asyncio.run(main())
