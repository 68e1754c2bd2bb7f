"""What a button panel must do, tried on the serial box through a PTY, and the part that reads it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.domain.health import HealthBoard, HealthReason
from agent.hal.buttons import ButtonEdge, Lamp
from agent.hal.errors import DeviceLostError, DeviceNotFoundError, HardwareError
from agent.sources.crew_panel import CrewPanel
from firmware_shims.serial_button_box import SerialButtonBox
from firmware_shims.serial_line import SerialLine
from firmware_shims.simulated.button_box import PtyButtonBox
from firmware_shims.system_clock import SystemClock

SILENT_AFTER_S = 3.0


@dataclass
class Rig:
    """A box on a PTY and the driver for it."""

    box: PtyButtonBox
    panel: SerialButtonBox

    async def edges(self, count: int) -> list[ButtonEdge]:
        """The next `count` edges."""
        found: list[ButtonEdge] = []
        async with asyncio.timeout(5):
            while len(found) < count:
                found += await self.panel.read()
        return found

    def new_panel(self) -> SerialButtonBox:
        """The driver as a restarted agent makes it."""
        line = SerialLine(str(self.box.link), 115_200)
        return SerialButtonBox(line, SystemClock(), silent_after_s=SILENT_AFTER_S)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[list[ButtonEdge]]:
        """Reads the panel all the while, as the agent does: answers and lamps need it."""
        found: list[ButtonEdge] = []

        async def read() -> None:
            while True:
                found.extend(await self.panel.read())

        task = asyncio.create_task(read())
        try:
            yield found
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@dataclass
class Seen:
    """What the agent's part was told."""

    edges: list[ButtonEdge] = field(default_factory=list)
    progress: int = 0


def on_rig(tmp_path: Path, test: Callable[[Rig], Coroutine[Any, Any, None]], *, opened: bool = True) -> None:
    async def run() -> None:
        box = PtyButtonBox(tmp_path / "buttons0", random.Random(7))
        await box.start()
        rig = Rig(box, SerialButtonBox(SerialLine("", 9600), SystemClock(), silent_after_s=SILENT_AFTER_S))
        rig.panel = rig.new_panel()
        try:
            if opened:
                await rig.panel.open()
            await test(rig)
        finally:
            await rig.panel.close()
            await box.stop()

    asyncio.run(run())


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


def test_press_and_release_arrive_in_order_with_the_time_of_the_press(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        clock = SystemClock()
        before_ns = clock.boottime_ns()
        rig.box.press("on_scene")
        rig.box.release("on_scene")
        edges = await rig.edges(2)
        assert [(edge.key, edge.pressed, edge.device_seq) for edge in edges] == [
            ("on_scene", True, 1),
            ("on_scene", False, 2),
        ]
        assert {edge.device_session for edge in edges} == {rig.box.firmware.session}
        # The box counts whole milliseconds.
        assert all(before_ns - 5_000_000 <= edge.at_boottime_ns <= clock.boottime_ns() for edge in edges)

    on_rig(tmp_path, run)


def test_box_keeps_a_press_until_it_is_acknowledged(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        rig.box.press("on_scene")
        rig.box.release("on_scene")
        press, release = await rig.edges(2)
        async with rig.reading() as more:
            await rig.panel.acknowledge(release)
            assert rig.box.firmware.unacknowledged == 2, "not before the press ahead of it"
            await rig.panel.acknowledge(press)
            await rig.box.wait_acknowledged()
        assert more == []

    on_rig(tmp_path, run)


def test_press_outlives_a_kill_of_the_agent_between_reading_and_storing(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        pressed_ns = SystemClock().boottime_ns()
        rig.box.press("on_scene")
        (first,) = await rig.edges(1)
        await rig.panel.close()
        rig.panel = rig.new_panel()
        await asyncio.sleep(1.2)  # the press grows old; its time must not
        await rig.panel.open()
        (again,) = await rig.edges(1)
        assert (again.device_session, again.device_seq) == (first.device_session, first.device_seq)
        assert abs(again.at_boottime_ns - pressed_ns) < 1_000_000_000
        await rig.panel.acknowledge(again)
        async with rig.reading():
            await rig.box.wait_acknowledged()

    on_rig(tmp_path, run)


def test_press_while_the_cable_is_out_arrives_after_it_with_its_own_time(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        rig.box.unplug()
        with pytest.raises(DeviceLostError):
            await rig.edges(1)
        await rig.panel.close()
        with pytest.raises(DeviceNotFoundError):
            await rig.panel.open()
        pressed_ns = SystemClock().boottime_ns()
        rig.box.press("en_route")
        await asyncio.sleep(1.2)
        rig.box.plug()
        await rig.panel.open()
        (edge,) = await rig.edges(1)
        assert edge.key == "en_route"
        assert abs(edge.at_boottime_ns - pressed_ns) < 1_000_000_000

    on_rig(tmp_path, run)


def test_one_driver_gives_an_edge_once_also_across_a_replug(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        rig.box.press("en_route")
        (edge,) = await rig.edges(1)
        await rig.panel.close()
        await rig.panel.acknowledge(edge)  # committed while the panel was away
        await rig.panel.open()
        async with rig.reading() as more:
            await rig.box.wait_acknowledged()
        assert more == []

    on_rig(tmp_path, run)


def test_new_agent_goes_on_where_the_box_forgot(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        rig.box.press("en_route")
        (edge,) = await rig.edges(1)
        await rig.panel.acknowledge(edge)
        async with rig.reading():
            await rig.box.wait_acknowledged()
        await rig.panel.close()
        rig.panel = rig.new_panel()
        await rig.panel.open()
        rig.box.release("en_route")
        (release,) = await rig.edges(1)
        assert release.device_seq == 2

    on_rig(tmp_path, run)


def test_power_cycle_of_the_box_begins_a_new_session_and_gets_its_lamps_back(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        rig.box.press("en_route")
        (before,) = await rig.edges(1)
        await rig.panel.show("en_route", Lamp.STORED)
        async with rig.reading() as more:
            await rig.box.wait_lamp("en_route", Lamp.STORED)
            rig.box.power_cycle()
            assert rig.box.firmware.lamps == {}
            await rig.box.wait_lamp("en_route", Lamp.STORED)
            rig.box.press("on_scene")
            await until(lambda: bool(more))
        await rig.panel.acknowledge(before)  # of a session that is over: nothing to say
        assert more[0].device_seq == 1
        assert more[0].device_session != before.device_session
        assert rig.box.firmware.unacknowledged == 1

    on_rig(tmp_path, run)


def test_lamp_says_not_stored_from_the_press_until_told_otherwise(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        async with rig.reading() as edges:
            rig.box.press("on_scene")
            await until(lambda: bool(edges))
            assert rig.box.firmware.lamps == {"on_scene": Lamp.NOT_STORED}
            for lamp in (Lamp.STORED, Lamp.DELIVERED, Lamp.OFF):
                await rig.panel.show("on_scene", lamp)
                await rig.box.wait_lamp("on_scene", lamp)
        assert [change.lamp for change in rig.box.firmware.changes] == [
            Lamp.NOT_STORED,
            Lamp.STORED,
            Lamp.DELIVERED,
            Lamp.OFF,
        ]

    on_rig(tmp_path, run)


def test_lamp_shown_while_closed_is_shown_once_open(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        await rig.panel.show("on_scene", Lamp.DELIVERED)
        await rig.panel.open()
        async with rig.reading():
            await rig.box.wait_lamp("on_scene", Lamp.DELIVERED)

    on_rig(tmp_path, run, opened=False)


def test_nothing_is_lost_by_a_cancelled_read(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        found: list[ButtonEdge] = []
        for n in range(40):
            (rig.box.press if n % 2 == 0 else rig.box.release)("on_scene")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.001 * (n % 4)):
                    found += await rig.panel.read()
        if len(found) < 40:
            found += await rig.edges(40 - len(found))
        assert [edge.device_seq for edge in found] == list(range(1, 41))

    on_rig(tmp_path, run)


def test_close_is_idempotent_and_a_closed_panel_reads_nothing(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        await rig.panel.close()
        await rig.panel.close()
        with pytest.raises(HardwareError):
            await rig.panel.read()

    on_rig(tmp_path, run)


def test_part_of_the_agent_names_its_health_and_goes_on_when_run_again(tmp_path: Path) -> None:
    async def run(rig: Rig) -> None:
        health, seen = HealthBoard(), Seen()
        crew_panel = CrewPanel(rig.panel, SystemClock(), health, stuck_after_s=0.2)

        def progress() -> None:
            seen.progress += 1

        running = asyncio.create_task(crew_panel.run(seen.edges.append, progress))
        rig.box.press("on_scene")
        rig.box.press("en_route")
        rig.box.release("en_route")
        await until(lambda: len(seen.edges) == 3)
        await until(lambda: health.details().get(HealthReason.BUTTON_STUCK) == "on_scene")
        rig.box.release("on_scene")
        await until(lambda: not health.reasons())
        rig.box.unplug()
        with pytest.raises(DeviceLostError):
            await running
        assert health.reasons() == (HealthReason.BUTTONS_LOST,)
        for edge in seen.edges:
            await crew_panel.acknowledge(edge)
        await crew_panel.show("on_scene", Lamp.STORED)
        rig.box.plug()
        running = asyncio.create_task(crew_panel.run(seen.edges.append, progress))
        await rig.box.wait_acknowledged()
        await rig.box.wait_lamp("on_scene", Lamp.STORED)
        await until(lambda: not health.reasons())
        assert len(seen.edges) == 4
        assert seen.progress >= 4
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    on_rig(tmp_path, run, opened=False)
