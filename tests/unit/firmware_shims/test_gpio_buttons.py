"""The GPIO shim above the kernel: lost and merged edges, levels. The kernel's side is tried in the rig."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gpiod")

from gpiod import EdgeEvent
from gpiod.line import Value

from agent.hal.buttons import ButtonEdge, Lamp
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from firmware_shims.gpio_buttons import ButtonGpio, GpioButtons, labelled
from firmware_shims.system_clock import SystemClock

DOWN, UP = EdgeEvent.Type.RISING_EDGE, EdgeEvent.Type.FALLING_EDGE


@dataclass
class FakeRequest:
    """The part of `gpiod.LineRequest` that the shim uses, with a pipe for its descriptor."""

    levels: dict[int, Value]
    lit: dict[int, Value] = field(default_factory=dict)
    queue: list[EdgeEvent] = field(default_factory=list)
    gone: bool = False
    released: bool = False

    def __post_init__(self) -> None:
        self.fd, self._end = os.pipe()

    def edge(self, kind: EdgeEvent.Type, line_seqno: int, at_ns: int = 5) -> None:
        self.queue.append(EdgeEvent(kind.value, at_ns, 2, line_seqno, line_seqno))
        os.write(self._end, b".")

    def get_values(self, offsets: Iterable[int]) -> list[Value]:
        if self.gone:
            raise OSError(errno.ENODEV, "No such device")
        return [self.levels[offset] for offset in offsets]

    def set_values(self, values: dict[int, Value]) -> None:
        if self.gone:
            raise OSError(errno.ENODEV, "No such device")
        self.lit |= values

    def wait_edge_events(self, timeout: float) -> bool:
        return bool(self.queue)

    def read_edge_events(self) -> list[EdgeEvent]:
        os.read(self.fd, len(self.queue))
        events, self.queue = self.queue, []
        return events

    def release(self) -> None:
        if not self.released:
            os.close(self.fd)
            os.close(self._end)
        self.released = True


class OnFakeRequest(GpioButtons):
    """The shim with the library's request exchanged."""

    def __init__(self, settings: ButtonGpio, clock: SystemClock, bench: Bench) -> None:
        super().__init__(settings, clock)
        self._bench = bench

    def _request_lines(self) -> Any:
        return self._bench.request


class Bench:
    """A shim on a fake request."""

    def __init__(self) -> None:
        self.request = FakeRequest({2: Value.INACTIVE, 3: Value.INACTIVE})
        settings = ButtonGpio(lines={"scene": 2, "help": 3}, lamp_lines={"scene": 4})
        self.panel = OnFakeRequest(settings, SystemClock(), self)

    def level(self, offset: int, *, down: bool) -> None:
        self.request.levels[offset] = Value.ACTIVE if down else Value.INACTIVE

    async def edges(self, within_s: float = 0.05) -> list[ButtonEdge]:
        found: list[ButtonEdge] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    found += await self.panel.read()
        return found


@pytest.fixture
def chips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of chips with labels; the first may not be opened."""
    labels = {"gpiochip0": None, "gpiochip1": "brcmvirt-gpio", "gpiochip4": "pinctrl-rp1"}
    for name in labels:
        (tmp_path / name).touch()

    class FakeChip:
        def __init__(self, path: str) -> None:
            self.label, self.num_lines = labels[Path(path).name], 54
            if self.label is None:
                raise PermissionError(errno.EACCES, "Permission denied")

        def __enter__(self) -> FakeChip:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def get_info(self) -> FakeChip:
            return self

    monkeypatch.setattr("gpiod.Chip", FakeChip)
    return tmp_path


def test_a_chip_is_found_by_its_label_whatever_its_number(chips: Path) -> None:
    assert labelled("pinctrl-rp1", chips) == str(chips / "gpiochip4")
    with pytest.raises(PermissionError):
        labelled("pinctrl-bcm2711", chips)  # it may be the one that may not be opened
    (chips / "gpiochip0").unlink()
    with pytest.raises(OSError, match="no GPIO chip is labelled 'pinctrl-bcm2711'"):
        labelled("pinctrl-bcm2711", chips)


def test_a_label_names_the_panel_and_its_lines() -> None:
    settings = ButtonGpio(chip_label="pinctrl-rp1", lines={"scene": 2})
    assert settings.takes() == ("pinctrl-rp1 line 2",)
    assert settings.files() == ()
    assert GpioButtons(settings, SystemClock()).name == "pinctrl-rp1 lines 2"


def shape(edges: list[ButtonEdge]) -> str:
    return " ".join(f"{'+' if e.pressed else '-'}{e.key}{'?' if e.inferred else ''}" for e in edges)


def on_bench(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        bench = Bench()
        try:
            await bench.panel.open()
            await test(bench)
        finally:
            await bench.panel.close()
            bench.request.release()

    asyncio.run(run())


def test_edges_become_presses_and_releases_in_boot_time() -> None:
    async def run(bench: Bench) -> None:
        bench.request.edge(DOWN, 1, at_ns=1_000_000_000)
        bench.request.edge(UP, 2, at_ns=1_150_000_000)
        press, release = await bench.edges()
        assert shape([press, release]) == "+scene -scene"
        assert abs(release.at_boottime_ns - press.at_boottime_ns - 150_000_000) == 0
        assert press.device_seq is press.device_session is None

    on_bench(run)


def test_gap_of_an_odd_number_of_edges_leaves_a_press_that_was_hidden() -> None:
    async def run(bench: Bench) -> None:
        bench.level(2, down=True)
        bench.request.edge(DOWN, 1)
        bench.request.edge(DOWN, 3)  # its release was dropped
        assert shape(await bench.edges()) == "+scene -scene? +scene"
        assert bench.panel.lost_edges == 1

    on_bench(run)


def test_lost_last_edge_is_found_by_the_level() -> None:
    async def run(bench: Bench) -> None:
        bench.request.edge(DOWN, 1)  # and is up again: merged into nothing
        assert shape(await bench.edges()) == "+scene -scene?"
        bench.level(2, down=True)  # nobody wakes us
        assert shape(await bench.edges(1.3)) == "+scene?"
        bench.request.edge(DOWN, 2)  # the edge comes late: it was told already
        assert await bench.edges() == []

    on_bench(run)


def test_chip_that_goes_away_is_lost_and_its_state_is_kept() -> None:
    async def run(bench: Bench) -> None:
        bench.level(2, down=True)
        bench.request.edge(DOWN, 1)
        assert shape(await bench.edges()) == "+scene"
        bench.request.gone = True
        with pytest.raises(DeviceLostError, match="the chip was removed"):
            await bench.panel.show("scene", Lamp.STORED)
        with pytest.raises(DeviceLostError, match="the chip was removed"):
            await bench.edges(1.5)
        await bench.panel.close()
        with pytest.raises(DeviceLostError):
            await bench.panel.read()
        bench.request = FakeRequest({2: Value.INACTIVE, 3: Value.ACTIVE})
        await bench.panel.open()
        assert bench.request.lit == {4: Value.ACTIVE}, "shown again"
        assert shape(await bench.edges(1.3)) == "-scene? +help?"

    on_bench(run)


def test_chip_that_is_not_there_is_not_found() -> None:
    async def run() -> None:
        panel = GpioButtons(ButtonGpio(chip="/dev/null", lines={"scene": 2}), SystemClock())
        with pytest.raises(DeviceNotFoundError, match="/dev/null"):
            await panel.open()
        await panel.close()

    asyncio.run(run())


def test_lamp_blinks_while_not_stored() -> None:
    async def run(bench: Bench) -> None:
        await bench.panel.show("scene", Lamp.NOT_STORED)
        seen: set[Value] = set()
        async with asyncio.timeout(3):
            while seen != {Value.ACTIVE, Value.INACTIVE}:
                seen.add(bench.request.lit[4])
                await asyncio.sleep(0.02)
        await bench.panel.show("scene", Lamp.DELIVERED)
        assert bench.request.lit[4] is Value.ACTIVE
        await bench.panel.show("help", Lamp.STORED)  # has no lamp
        assert set(bench.request.lit) == {4}

    on_bench(run)
