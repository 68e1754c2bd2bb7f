"""The computer's own troubles: what is not known is no trouble, and a hung disk holds up nothing."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.domain.device_health import REASONS, ComputerState, unwell
from agent.domain.health import HealthBoard, HealthReason
from agent.paths import computer_watch
from agent.paths.computer_watch import ComputerWatch
from agent.runtime.worker import ThreadWorker
from firmware_shims.computer import LinuxComputer


def test_what_is_not_known_is_no_reason() -> None:
    assert unwell(ComputerState()) == {}


@pytest.mark.parametrize(
    ("state", "reason", "detail"),
    [
        (ComputerState(cpu_c=81.4), HealthReason.COMPUTER_HOT, "81 degrees"),
        (ComputerState(is_under_voltage=True), HealthReason.UNDER_VOLTAGE, "now"),
        (
            ComputerState(is_under_voltage=False, was_under_voltage=True),
            HealthReason.UNDER_VOLTAGE,
            "since the computer started",
        ),
        (ComputerState(memory_free_mib=20.4), HealthReason.MEMORY_LOW, "20 MiB left"),
        (ComputerState(disk_free_mib=300, disk_mib=10_000), HealthReason.DISK_LOW, "300 MiB left, 3%"),
        (ComputerState(disk_free_mib=50, disk_mib=500), HealthReason.DISK_LOW, "50 MiB left, 10%"),
        (ComputerState(disk_errors=3), HealthReason.DISK_ERRORS, "3 counted by the file system"),
        (ComputerState(disk_worn_percent=90), HealthReason.DISK_WORN, "90 % of its life is used"),
    ],
)
def test_each_trouble_has_its_reason(state: ComputerState, reason: HealthReason, detail: str) -> None:
    assert unwell(state) == {reason: detail}
    assert reason in REASONS


def test_figures_that_are_well_are_no_reason() -> None:
    well = ComputerState(
        cpu_c=79, is_under_voltage=False, was_under_voltage=False, memory_free_mib=100,
        disk_free_mib=5000, disk_mib=10_000, disk_errors=0, disk_worn_percent=70,
    )  # fmt: skip
    assert unwell(well) == {}


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_a_raspberry_pi_is_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    number = data.stat().st_dev
    root = tmp_path / "root"
    put(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    put(root, "sys/class/thermal/thermal_zone0/temp", "67123\n")
    put(root, "sys/class/thermal/thermal_zone1/type", "battery\n")
    put(root, "sys/class/thermal/thermal_zone1/temp", "99000\n")
    put(root, "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    put(root, "proc/meminfo", "MemTotal:  948304 kB\nMemAvailable:  512000 kB\n")
    put(root, "proc/uptime", "361.42 1203.11\n")
    put(root, "sys/fs/ext4/mmcblk0p3/errors_count", "2\n")
    put(root, "sys/block/mmcblk0/device/life_time", "0x02 0x09\n")
    device = root / "sys/devices/mmc/block/mmcblk0/mmcblk0p3"
    device.mkdir(parents=True)
    link = root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(device)
    state = LinuxComputer(data / "not" / "yet", root).read()
    assert state.cpu_c == 67.123
    assert (state.is_under_voltage, state.is_throttled, state.was_under_voltage) == (True, True, True)
    assert state.memory_free_mib == 500
    assert state.uptime_s == 361.42
    assert (state.disk_errors, state.disk_worn_percent) == (2, 90)
    assert state.disk_free_mib is not None
    assert state.disk_mib is not None
    assert 0 < state.disk_free_mib <= state.disk_mib


def test_a_computer_that_tells_nothing_is_unknown_and_never_0(tmp_path: Path) -> None:
    state = LinuxComputer(tmp_path, tmp_path / "no-root").read()
    assert state.disk_mib is not None
    known = {name for name in ComputerState.__slots__ if getattr(state, name) is not None}
    assert known == {"disk_free_mib", "disk_mib", "disk_read_only"}


@pytest.mark.parametrize("text", ["", "warm", "0x", "-", "99999999999999999999x"])
def test_files_with_nonsense_are_unknown(tmp_path: Path, text: str) -> None:
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", text)
    put(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", text)
    put(tmp_path, "proc/meminfo", f"MemAvailable: {text} kB\n{text}")
    put(tmp_path, "proc/uptime", text)
    state = LinuxComputer(tmp_path, tmp_path).read()
    assert (state.cpu_c, state.is_throttled, state.memory_free_mib, state.uptime_s) == (None,) * 4


def test_without_a_free_descriptor_everything_is_unknown_and_nothing_raises(tmp_path: Path) -> None:
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "67123")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    computer = LinuxComputer(tmp_path, tmp_path)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        state = computer.read()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert state.cpu_c is None
    assert computer.read().cpu_c == 67.123


def run(read: Callable[[], ComputerState], script: Callable[[HealthBoard, list[int]], object]) -> None:
    async def main() -> None:
        board, progress = HealthBoard(), [0]
        watch = ComputerWatch(read, ThreadWorker("computer"), board)

        def progressed() -> None:
            progress[0] += 1

        running = asyncio.create_task(watch.run(progressed))
        try:
            async with asyncio.timeout(20):
                while not script(board, progress):
                    await asyncio.sleep(0.005)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await watch.close()

    asyncio.run(main())


def test_reasons_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computer_watch, "EVERY_S", 0.02)
    monkeypatch.setattr(computer_watch, "TICK_S", 0.01)
    states = iter([ComputerState(cpu_c=90), ComputerState(cpu_c=90), ComputerState()])
    seen: set[tuple[HealthReason, ...]] = set()

    def script(board: HealthBoard, _: list[int]) -> bool:
        seen.add(board.reasons())
        return (HealthReason.COMPUTER_HOT,) in seen and board.reasons() == ()

    run(lambda: next(states, ComputerState()), script)


def test_a_disk_that_hangs_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computer_watch, "TICK_S", 0.01)
    hung = threading.Event()

    def read() -> ComputerState:
        hung.wait(20)
        return ComputerState()

    def script(_: HealthBoard, progress: list[int]) -> bool:
        if progress[0] > 5:
            hung.set()
        return hung.is_set()

    run(read, script)


def test_a_modem_that_vanishes_and_what_else_may_be_a_hand_is_told() -> None:
    from agent.domain.modem import ModemState
    from hil.sim.inline_worker import InlineWorker
    from tests.unit.uplink.publisher_rig import virtually

    async def work() -> None:
        health = HealthBoard()
        modem = ModemState(is_there=True, state="connected", signal_percent=80)
        states = [ComputerState(modem=modem)] * 8 + [ComputerState(modem=ModemState(is_there=False))] * 100
        watch = ComputerWatch(lambda: states.pop(0), InlineWorker(), health)
        running = asyncio.ensure_future(watch.run(lambda: None))
        await asyncio.sleep(75)
        assert health.reasons() == ()
        await asyncio.sleep(15)
        assert health.reasons() == (HealthReason.MODEM_LOST, HealthReason.TAMPER)
        assert "modem_lost" in health.details()[HealthReason.TAMPER]
        states[:] = [ComputerState(modem=modem)] * 100
        await asyncio.sleep(15)
        assert health.reasons() == ()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await watch.close()

    virtually(work)
