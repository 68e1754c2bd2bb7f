"""The black box: what passes is on the disk, and the disk never holds up what passes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest

from agent.domain.crew import ButtonEdge
from agent.hal.can import CanFrame
from agent.hal.clock import SystemUtc
from agent.hal.gnss import NmeaBytes
from agent.recorder import recorder as recorder_module
from agent.recorder.recorder import Recorder
from agent.recorder.recording_file import RecordingFile
from agent.recorder.recording_files import OneFile, RecordingFiles, RotatingFiles
from agent.runtime.worker import ThreadWorker
from firmware_shims.simulated.scripted_feed import ScriptedBus, ScriptedFeed
from hil.drive.items import ButtonItem, CanItem, ClockItem, IgnitionItem, NmeaItem, TimedItem
from hil.recording.mcap_file import RecordingReader

KIB = 1024


class StillClock:
    """A clock that stands at one second."""

    boot_id = "0123456789abcdef0123456789abcdef"

    def boottime_ns(self) -> int:
        return 1_000_000_000

    def suspended_ns(self) -> int:
        return 0

    def system_utc(self) -> SystemUtc:
        return SystemUtc(1_773_486_000_000, synchronised=True, max_error_ms=12)


class Panel(ScriptedFeed[ButtonEdge]):
    """A panel with lamps to look at."""

    def __init__(self) -> None:
        super().__init__("panel")
        self.calls: list[object] = []

    async def show(self, key: str, lamp: object) -> None:
        self.calls.append((key, lamp))

    async def acknowledge(self, edge: ButtonEdge) -> None:
        self.calls.append(edge)

    async def sound(self, pattern_ms: Sequence[int]) -> None:
        self.calls.append(pattern_ms)

    def noise(self) -> dict[str, int]:
        return {}


async def recording(
    files: RecordingFiles,
    while_running: Callable[[Recorder], Awaitable[None]],
    problems: list[str | None] | None = None,
) -> Recorder:
    """Run a recorder around `while_running`."""
    worker = ThreadWorker("recorder")
    tell = (problems if problems is not None else []).append
    recorder = Recorder(files, StillClock(), worker, metadata={"unit": "A1"}, on_problem=tell)
    task = asyncio.create_task(recorder.run(lambda: None))
    try:
        await asyncio.sleep(0)
        await while_running(recorder)
    finally:
        task.cancel()
        await asyncio.wait([task])
        await worker.close()
    assert task.cancelled()
    return recorder


async def until(condition: Callable[[], bool], within_s: float = 5) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


def read(path: Path) -> list[TimedItem]:
    reader = RecordingReader(path)
    items = list(reader.items())
    assert reader.found.damage is None
    return items


def test_everything_that_passes_is_recorded_and_passes_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "drive.mcap"
    nmea: ScriptedFeed[NmeaBytes] = ScriptedFeed("gnss")
    can = ScriptedBus("can")
    panel = Panel()
    chunk = NmeaBytes(b"$GPRMC,\xff", 3_000_000_000)
    frame = CanFrame(0x18FEF100, True, b"\x01\x02", 2_000_000_000)
    edge = ButtonEdge("on_scene", True, 7, 900_000_000, device_session=4)

    async def drive(recorder: Recorder) -> None:
        taps = recorder.nmea(nmea, "gnss"), recorder.can(can, "can1"), recorder.panel(panel, "buttons")
        for tap in taps:
            await tap.open()
        assert [tap.name for tap in taps] == ["gnss", "can", "panel"]
        nmea.say(chunk)
        can.say(frame)
        panel.say(edge)
        assert await taps[0].read() == (chunk,)
        assert await taps[1].read() == (frame,)
        assert await taps[2].read() == (edge,)
        await taps[2].acknowledge(edge)
        recorder.ignition(on=False)
        for tap in taps:
            await tap.close()

    asyncio.run(recording(OneFile(file), drive))
    assert panel.calls == [edge]
    assert read(file) == [
        ClockItem(1_000_000_000, 1_773_486_000_000, synchronised=True, max_error_ms=12),
        ButtonItem(1_000_000_000, "on_scene", True, 4, 7, 900_000_000),
        IgnitionItem(1_000_000_000, on=False),
        CanItem(2_000_000_000, "can1", 0x18FEF100, True, b"\x01\x02"),
        NmeaItem(3_000_000_000, b"$GPRMC,\xff"),
    ]


def test_metadata_says_which_unit_and_boot(tmp_path: Path) -> None:
    async def nothing(_: Recorder) -> None:
        return

    file = tmp_path / "drive.mcap"
    asyncio.run(recording(OneFile(file), nothing))
    reader = RecordingReader(file)
    list(reader.items())
    assert reader.found.metadata == {"format": "1", "boot_id": StillClock.boot_id, "unit": "A1"}


def frames(count: int) -> list[CanFrame]:
    return [CanFrame(0x123, False, os.urandom(8), 1_000_000_000 + index) for index in range(count)]


def test_what_was_flushed_is_readable_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "FLUSH_S", 0.05)
    file, cut = tmp_path / "drive.mcap", tmp_path / "cut.mcap"
    sent = frames(500)

    async def drive(recorder: Recorder) -> None:
        can = ScriptedBus("can")
        tap = recorder.can(can, "can0")
        await tap.open()
        for frame in sent:
            can.say(frame)
        await tap.read()
        before = file.stat().st_size if file.exists() else 0
        await until(lambda: file.exists() and file.stat().st_size > before + 4000)
        # What a power cut would leave: the file as it is now, while it is being written.
        cut.write_bytes(file.read_bytes())

    asyncio.run(recording(OneFile(file), drive))
    reader = RecordingReader(cut)
    found = [item for item in reader.items() if isinstance(item, CanItem)]
    assert [item.data for item in found] == [frame.data for frame in sent]
    assert reader.found.damage is not None
    assert "the end is missing" in reader.found.damage.why


def fill(files: RecordingFiles, megabytes: float) -> Recorder:
    """Record random frames, which do not compress."""

    async def drive(recorder: Recorder) -> None:
        can = ScriptedBus("can")
        tap = recorder.can(can, "can0")
        await tap.open()
        for _ in range(int(megabytes * 1024 / 40)):
            for frame in frames(1000):
                can.say(frame)
            await tap.read()
            await until(lambda: not recorder._pending or recorder.problem is not None)

    return asyncio.run(recording(files, drive))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush all the time, wait for nothing."""
    monkeypatch.setattr(recorder_module, "FLUSH_S", 0)
    monkeypatch.setattr(recorder_module, "TICK_S", 0.001)


def rotating(folder: Path, reserve_bytes: int = 0) -> RotatingFiles:
    return RotatingFiles(folder, budget_bytes=400 * KIB, file_bytes=100 * KIB, reserve_bytes=reserve_bytes)


@pytest.mark.usefixtures("quick")
def test_files_rotate_within_the_budget_and_the_oldest_goes(tmp_path: Path) -> None:
    (tmp_path / "notes-from-somebody.mcap").write_bytes(b"")
    fill(rotating(tmp_path), 1.0)
    files = sorted(tmp_path.glob("0*.mcap"))
    assert 2 <= len(files) <= 5
    assert sum(file.stat().st_size for file in files) <= 500 * KIB
    numbers = [int(file.name[:8]) for file in files]
    assert numbers == list(range(numbers[0], numbers[0] + len(files)))
    assert numbers[0] > 1
    assert all(file.name.endswith("-01234567.mcap") for file in files)
    assert all(read(file) for file in files)
    assert (tmp_path / "notes-from-somebody.mcap").exists()
    # The next boot goes on counting.
    fill(rotating(tmp_path), 0.05)
    assert max(int(file.name[:8]) for file in tmp_path.glob("0*.mcap")) == numbers[-1] + 1


@pytest.mark.usefixtures("quick")
def test_the_last_of_the_disk_is_left_to_the_outbox_and_feeds_go_on(tmp_path: Path) -> None:
    problems: list[str | None] = []

    async def drive(recorder: Recorder) -> None:
        await until(lambda: recorder.problem is not None)
        nmea: ScriptedFeed[NmeaBytes] = ScriptedFeed("gnss")
        tap = recorder.nmea(nmea, "gnss")
        await tap.open()
        nmea.say(NmeaBytes(b"x", 1))
        assert await tap.read()
        assert recorder.dropped == 1

    asyncio.run(recording(rotating(tmp_path, reserve_bytes=1 << 60), drive, problems))
    assert len(problems) == 1
    assert "left to the outbox" in str(problems[0])
    assert not list(tmp_path.glob("*.mcap"))


class FullFiles(OneFile):
    """A disk that is full at first."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.refusals = 1

    def create(self, metadata: Mapping[str, str]) -> RecordingFile:
        if self.refusals:
            self.refusals -= 1
            raise OSError(28, "No space left on device")
        return super().create(metadata)


@pytest.mark.usefixtures("quick")
def test_recording_goes_on_when_the_disk_takes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.02)
    problems: list[str | None] = []

    async def drive(recorder: Recorder) -> None:
        await until(lambda: problems[-1:] == [None])

    asyncio.run(recording(FullFiles(tmp_path / "drive.mcap"), drive, problems))
    assert problems == [f"{tmp_path / 'drive.mcap'}: No space left on device", None]
    read(tmp_path / "drive.mcap")


def test_memory_is_bounded_when_the_disk_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "PENDING_MAX_BYTES", 64 * 1000)
    monkeypatch.setattr(recorder_module, "TICK_S", 60)

    async def drive(recorder: Recorder) -> None:
        can = ScriptedBus("can")
        tap = recorder.can(can, "can0")
        await tap.open()
        for _ in range(20):
            for frame in frames(100):
                can.say(frame)
            await tap.read()
        assert recorder._pending_bytes <= 64 * 1000
        assert recorder.dropped > 500

    asyncio.run(recording(OneFile(tmp_path / "drive.mcap"), drive))
    reader = RecordingReader(tmp_path / "drive.mcap")
    recorded = sum(isinstance(item, CanItem) for item in reader.items())
    assert 500 < recorded < 1500
    assert reader.found.unknown == {"recorder/state": 1}


def test_a_recording_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "drive.mcap"
    file.write_bytes(b"precious")
    problems: list[str | None] = []

    async def drive(recorder: Recorder) -> None:
        await until(lambda: recorder.problem is not None)

    asyncio.run(recording(OneFile(file), drive, problems))
    assert file.read_bytes() == b"precious"
    assert "exists" in str(problems[0])


def test_mcap_is_not_loaded_before_a_file_is_opened() -> None:
    import subprocess
    import sys

    script = "import sys, agent.recorder.recorder; sys.exit('mcap' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
