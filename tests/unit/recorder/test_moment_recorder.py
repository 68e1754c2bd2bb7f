"""The seconds around a moment are kept: before it, after it, through a loss of power, and within bounds."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.domain.record import RecordingKept
from agent.hal.can import CanFrame
from agent.hal.clock import SystemUtc
from agent.recorder.kept_recordings import KeptRecordings
from agent.recorder.moment_recorder import AT_ONCE, MomentRecorder
from agent.recorder.window_ring import SEGMENT_NS, WindowRing, messages_of
from agent.runtime.worker import ThreadWorker
from hil.drive.items import CanItem
from hil.recording.mcap_file import RecordingReader

S = 1_000_000_000
TOPIC = "can/can0"


class SetClock:
    """A clock that the test sets."""

    boot_id = "0123456789abcdef0123456789abcdef"

    def __init__(self) -> None:
        self.now_ns = 100 * S

    def boottime_ns(self) -> int:
        return self.now_ns

    def suspended_ns(self) -> int:
        return 0

    def system_utc(self) -> SystemUtc:
        return SystemUtc(1_773_486_000_000, synchronised=True, max_error_ms=12)


class Bench:
    """A recorder in a folder, with what it told."""

    def __init__(self, folder: Path, *, keep: int = 5) -> None:
        self.clock = SetClock()
        self.kept = KeptRecordings(folder, keep)
        self.told: list[RecordingKept] = []
        self.problems: list[str | None] = []
        self.store_takes = True
        self.worker = ThreadWorker("impact")
        self.recorder = MomentRecorder(
            self.kept,
            self.clock,
            self.worker,
            metadata={"unit": "A1"},
            before_s=30,
            after_s=30,
            announce=self._announce,
            context=lambda: {"incident": "4711"},
            on_problem=self.problems.append,
        )

    async def _announce(self, body: RecordingKept, at_ns: int) -> object:
        del at_ns
        self.told.append(body)
        if not self.store_takes:
            await asyncio.get_running_loop().create_future()
        return 1

    def say(self, at_s: float, can_id: int = 0x120) -> None:
        self.recorder.frames(TOPIC, [CanFrame(can_id, False, bytes(8), round(at_s * S))])

    async def has_told(self, count: int) -> None:
        await until(lambda: len(self.told) == count)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.recorder.run(lambda: None))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self.worker.close()
        assert task.cancelled()


def looped(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that runs in an event loop of its own."""

    @functools.wraps(test)
    def run(**given: Any) -> None:
        async def main() -> None:
            await test(**given)

        asyncio.run(main())

    return run


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def frames_in(path: Path) -> list[int]:
    return [item.t_ns // S for item in RecordingReader(path).items() if isinstance(item, CanItem)]


@looped
async def test_the_seconds_before_and_after_are_one_recording_with_its_digest(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for second in range(101):
        bench.say(second)
    async with bench.running():
        bench.recorder.keep("impact", "a wall", 100 * S)
        await bench.has_told(1)
        for second in range(101, 140):
            bench.clock.now_ns = second * S
            bench.say(second)
        await until(lambda: len(bench.told) == 2 and not bench.kept.untold())
    begun, whole = bench.told
    assert (begun.recording, begun.trigger, begun.complete, begun.sha256) == (
        whole.recording,
        "impact",
        None,
        None,
    )
    assert (whole.complete, whole.incident) == (True, "4711")
    assert (whole.from_boottime_ms, whole.to_boottime_ms) == (70_000, 130_000)
    path = bench.kept.path_of(whole.recording)
    assert path is not None
    assert path.suffix == ".mcap"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == whole.sha256
    assert path.stat().st_size == whole.size_bytes
    seconds = frames_in(path)
    assert (seconds[0], set(range(70, 131)) - set(seconds)) == (70, set())


@looped
async def test_what_was_flushed_survives_and_is_told_at_the_next_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for second in range(60, 100):
        bench.say(second)
    async with bench.running():
        bench.recorder.keep("impact", "a wall", 100 * S)
        await bench.has_told(1)
        (untold,) = bench.kept.untold()
        # The supply goes now: what the disk has is what there is.
        before_the_cut = (bench.kept.path_of(untold) or tmp_path).read_bytes()
    dead = tmp_path / "after"
    dead.mkdir()
    (dead / f"{untold}.mcap.untold").write_bytes(before_the_cut)
    later = Bench(dead)
    async with later.running():
        await until(lambda: not later.kept.untold() and len(later.told) == 1)
    (told,) = later.told
    assert (told.recording, told.trigger, told.complete) == (untold, "impact", False)
    assert told.sha256 == hashlib.sha256(before_the_cut).hexdigest()
    path = later.kept.path_of(untold)
    assert path is not None
    assert set(range(70, 100)) <= set(frames_in(path))


@pytest.mark.parametrize("cut", [0, 1, 20, 200])
@looped
async def test_a_torn_file_is_told_too_and_ends_nothing(tmp_path: Path, cut: int) -> None:
    (tmp_path / "000001-01234567.mcap.untold").write_bytes((b"\x89MCAP0\r\n" * 40)[:cut])
    bench = Bench(tmp_path)
    async with bench.running():
        await until(lambda: not bench.kept.untold())
    assert [told.complete for told in bench.told] == [False]


@looped
async def test_a_recording_is_told_of_again_when_the_store_did_not_have_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.store_takes = False
    bench.say(99)
    async with bench.running():
        bench.recorder.keep("crew", "the crew asked for it", 100 * S)
        await bench.has_told(1)
        bench.clock.now_ns = 140 * S
        await bench.has_told(2)
    later = Bench(tmp_path)
    async with later.running():
        await until(lambda: not later.kept.untold() and len(later.told) == 1)
    assert (later.told[0].recording, later.told[0].complete) == (bench.told[0].recording, True)


@looped
async def test_a_moment_during_a_recording_lengthens_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.running():
        bench.recorder.keep("impact", "first", 100 * S)
        bench.clock.now_ns = 125 * S
        bench.recorder.keep("crew", "second", 125 * S)
        bench.say(125)
        await bench.has_told(1)
        bench.clock.now_ns = 160 * S
        await bench.has_told(2)
    assert bench.told[1].to_boottime_ms == 155_000


@looped
async def test_a_loose_sensor_fills_neither_the_disk_nor_the_journal(tmp_path: Path) -> None:
    bench = Bench(tmp_path, keep=3)
    async with bench.running():
        for turn in range(AT_ONCE + 4):
            bench.recorder.keep("impact", "loose", bench.clock.now_ns)
            if turn < AT_ONCE:
                await bench.has_told(2 * turn + 1)
            bench.clock.now_ns += 40 * S
            await bench.has_told(min(turn + 1, AT_ONCE) * 2)
        assert bench.recorder.left_out == 4
        assert bench.recorder.keep("crew", "people are not bounded", bench.clock.now_ns)
        await bench.has_told(2 * AT_ONCE + 1)
    assert len(bench.kept.listing()) == 3
    numbers = [int(name.partition("-")[0]) for name in bench.kept.listing()]
    assert numbers == [AT_ONCE - 1, AT_ONCE, AT_ONCE + 1]


@looped
async def test_a_disk_that_refuses_is_told_and_the_window_is_kept_once_it_takes_again(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.write_bytes(b"not a folder")
    bench = Bench(folder)
    for second in range(80, 100):
        bench.say(second)
    async with bench.running():
        bench.recorder.keep("impact", "a wall", 100 * S)
        await until(lambda: any(bench.problems))
        folder.unlink()
        await bench.has_told(1)
        bench.clock.now_ns = 131 * S
        await bench.has_told(2)
    path = bench.kept.path_of(bench.told[1].recording)
    assert path is not None
    assert set(range(80, 100)) <= set(frames_in(path))


def test_the_ring_holds_a_minute_and_no_more_than_its_bytes() -> None:
    ring = WindowRing(60 * S, most_bytes=40_000)
    for tick in range(2000):
        ring.frames(TOPIC, [CanFrame(0x1FFFFFFF, True, bytes([tick % 256]) * 8, tick * S // 10)] * 5)
    assert ring.dropped_bytes > 0
    _, segments = ring.taken_after(0)
    messages = messages_of(segments, 0)
    assert sum(len(segment.frames[TOPIC]) for segment in segments) <= 40_000 + 11 * 5 * 21
    assert messages[-1][1] == 1999 * S // 10
    assert [one[1] for one in messages] == sorted(one[1] for one in messages)


def test_what_was_taken_from_the_ring_does_not_change_any_more() -> None:
    ring = WindowRing(60 * S)
    ring.frames(TOPIC, [CanFrame(1, False, b"", 5 * S)])
    number, first = ring.taken_after(0)
    ring.frames(TOPIC, [CanFrame(2, False, b"\x01", 5 * S + SEGMENT_NS // 4)])
    assert len(messages_of(first, 0)) == 1
    number, second = ring.taken_after(number)
    assert len(messages_of(second, 0)) == 1
    assert ring.taken_after(number) == (number, [])
