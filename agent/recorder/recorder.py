"""The black box: what the drivers read is written to recordings while it passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Generic, NoReturn, TypeVar

from agent.hal.buttons import ButtonEdge, ButtonPanel, Lamp
from agent.hal.can import CanFeed, CanFilter, CanFrame
from agent.hal.clock import Clock
from agent.hal.feed import Feed
from agent.hal.gnss import NmeaBytes, NmeaFeed
from agent.hal.samples import Sample, SampleFeed
from agent.recorder.recording_file import RecordingFile
from agent.recorder.recording_files import RecordingFiles
from agent.recorder.recording_format import (
    CAN_TOPIC_PREFIX,
    CLOCK_TOPIC,
    EDGES_SUFFIX,
    IGNITION_TOPIC,
    NMEA_SUFFIX,
    RECORDER_TOPIC,
    SAMPLES_SUFFIX,
    pack_can,
    pack_json,
    pack_nmea,
)
from agent.runtime.worker import Worker

FLUSH_S = 5.0
"""How much of a recording a power cut may take."""
CLOCK_EVERY_S = 10.0
RETRY_S = 60.0
"""How long recording rests after the disk refused."""
TICK_S = 0.5
WRITE_AT_BYTES = 256 * 1024
"""Written before the next flush is due once so much has gathered."""
PENDING_MAX_BYTES = 4 * 1024 * 1024
"""More is not kept while the disk is slow: it is dropped and counted in the recording."""
FRAME_BYTES = 64
"""What a frame that waits is taken to cost."""

_Message = tuple[str, int, int, bytes]
"""Topic, log time, publish time, payload."""
_Encode = Callable[[], Iterator[_Message]]

Item = TypeVar("Item")


class Recorder:
    """Takes copies of what passes and writes them on a worker of its own: no feed ever waits for the disk.

    Used from the event loop only; encoding and writing happen on `worker`. A disk that refuses ends recording
    for a while, never a feed.

    Attributes:
        problem: why nothing is being recorded, None when all is well.
        dropped: items that were not recorded because the disk was too slow.
    """

    def __init__(
        self,
        files: RecordingFiles,
        clock: Clock,
        worker: Worker,
        *,
        metadata: Mapping[str, str],
        on_problem: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        """Store the arguments.

        Args:
            files: where recordings go.
            clock: for times and the recorded state of the system clock.
            worker: does the writing; not the outbox's, which must never wait for it. Closed by its owner.
            metadata: for each file; the boot id is added.
            on_problem: told when recording stops, and with None when it goes on.
        """
        self.problem: str | None = None
        self.dropped = 0
        self._files = files
        self._clock = clock
        self._worker = worker
        self._metadata = {"boot_id": clock.boot_id, **metadata}
        self._on_problem = on_problem
        self._pending: list[_Encode] = []
        self._pending_bytes = 0
        self._dropped_told = 0
        self._running = False
        self._enough = asyncio.Event()
        self._file: RecordingFile | None = None

    def nmea(self, feed: NmeaFeed, name: str) -> NmeaFeed:
        """`feed` of the receiver called `name`, recorded."""
        topic = name + NMEA_SUFFIX
        return RecordedFeed(feed, lambda reads: self._took_nmea(topic, reads))

    def can(self, feed: CanFeed, name: str) -> CanFeed:
        """`feed` of the bus called `name`, recorded: everything that is heard, listened for or not."""
        topic = CAN_TOPIC_PREFIX + name
        return RecordedBus(feed, lambda frames: self._took_frames(topic, frames))

    def panel(self, panel: ButtonPanel, name: str) -> ButtonPanel:
        """`panel` called `name`, its edges recorded."""
        topic = name + EDGES_SUFFIX
        return RecordedPanel(panel, lambda edges: self._took_edges(topic, edges))

    def samples(self, feed: SampleFeed, name: str) -> SampleFeed:
        """`feed` of the sensor called `name`, recorded."""
        topic = name + SAMPLES_SUFFIX
        return RecordedFeed(feed, lambda samples: self._took_samples(topic, samples))

    def ignition(self, *, on: bool) -> None:
        """Record that the ignition was switched."""
        now_ns = self._clock.boottime_ns()
        self._take(FRAME_BYTES, 1, lambda: iter([(IGNITION_TOPIC, now_ns, now_ns, pack_json(on=on))]))

    async def run(self, progress: Callable[[], None]) -> NoReturn:
        """Write until cancelled; then write what is left and close the file."""
        loop = asyncio.get_running_loop()
        flush_s = clock_s = retry_s = loop.time()
        self._running = True
        try:
            while True:
                progress()
                now_s = loop.time()
                if now_s >= clock_s:
                    clock_s = now_s + CLOCK_EVERY_S
                    self._take_clock()
                if now_s >= retry_s and (now_s >= flush_s or self._enough.is_set()):
                    flush = now_s >= flush_s
                    flush_s = now_s + FLUSH_S if flush else flush_s
                    if not await self._write(flush=flush):
                        retry_s = loop.time() + RETRY_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._enough.wait()
        finally:
            await self._finish()

    async def _write(self, *, flush: bool) -> bool:
        batch, self._pending, self._pending_bytes = self._pending, [], 0
        self._enough.clear()
        dropped = self.dropped
        try:
            await self._worker.run(lambda: self._write_batch(batch, dropped, flush=flush))
        except OSError as error:
            self._say(f"{self._files}: {error.strerror or error}")
            return False
        self._say(None)
        return True

    async def _finish(self) -> None:
        self._running = False
        if self.problem is None:
            await self._write(flush=True)
        with suppress(OSError):
            await self._worker.run(self._close_file)

    def _say(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self._on_problem(problem)
        if problem is not None:
            self._pending, self._pending_bytes = [], 0

    def _write_batch(self, batch: Sequence[_Encode], dropped: int, *, flush: bool) -> None:
        """Runs on the worker."""
        messages = [message for encode in batch for message in encode()]
        if dropped > self._dropped_told and messages:
            last_ns = max(message[1] for message in messages)
            messages.append((RECORDER_TOPIC, last_ns, last_ns, pack_json(dropped=dropped)))
            self._dropped_told = dropped
        # Feeds are read side by side: one order for all of them, so that a reader needs to look ahead little.
        messages.sort(key=lambda message: message[1])
        try:
            if self._file is None:
                self._file = self._files.create(self._metadata)
            for message in messages:
                self._file.add(*message)
            if flush:
                self._file.flush(sync=True)
                self._files.check_room()
            if self._files.is_full(self._file.size_bytes):
                self._close_file()
        except OSError:
            if self._file is not None:
                self._file.abandon()
                self._file = None
            raise

    def _close_file(self) -> None:
        """Runs on the worker."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _took_nmea(self, topic: str, reads: Sequence[NmeaBytes]) -> None:
        size = sum(len(read.data) for read in reads)
        self._take(size, len(reads), lambda: _nmea_messages(topic, reads))

    def _took_frames(self, topic: str, frames: Sequence[CanFrame]) -> None:
        self._take(FRAME_BYTES * len(frames), len(frames), lambda: _can_messages(topic, frames))

    def _took_edges(self, topic: str, edges: Sequence[ButtonEdge]) -> None:
        now_ns = self._clock.boottime_ns()
        self._take(FRAME_BYTES * len(edges), len(edges), lambda: _edge_messages(topic, now_ns, edges))

    def _took_samples(self, topic: str, samples: Sequence[Sample]) -> None:
        self._take(FRAME_BYTES * len(samples), len(samples), lambda: _sample_messages(topic, samples))

    def _take_clock(self) -> None:
        now_ns, utc = self._clock.boottime_ns(), self._clock.system_utc()
        payload = pack_json(unix_ms=utc.unix_ms, synchronised=utc.synchronised, max_error_ms=utc.max_error_ms)
        self._take(len(payload), 1, lambda: iter([(CLOCK_TOPIC, now_ns, now_ns, payload)]))

    def _take(self, size: int, count: int, encode: _Encode) -> None:
        if self.problem is not None or not self._running or self._pending_bytes + size > PENDING_MAX_BYTES:
            self.dropped += count
            return
        self._pending.append(encode)
        self._pending_bytes += size
        if self._pending_bytes >= WRITE_AT_BYTES:
            self._enough.set()


def _nmea_messages(topic: str, reads: Sequence[NmeaBytes]) -> Iterator[_Message]:
    for read in reads:
        at_ns = read.received_boottime_ns
        yield topic, at_ns, at_ns, pack_nmea(read.data)


def _can_messages(topic: str, frames: Sequence[CanFrame]) -> Iterator[_Message]:
    for frame in frames:
        at_ns = frame.received_boottime_ns
        yield topic, at_ns, at_ns, pack_can(frame.can_id, frame.extended, frame.data)


def _sample_messages(topic: str, samples: Sequence[Sample]) -> Iterator[_Message]:
    for sample in samples:
        at_ns = sample.received_boottime_ns
        payload = pack_json(signal=sample.signal, value=sample.value, unit=sample.unit)
        yield topic, at_ns, at_ns, payload


def _edge_messages(topic: str, received_ns: int, edges: Sequence[ButtonEdge]) -> Iterator[_Message]:
    for edge in edges:
        payload = pack_json(
            key=edge.key,
            pressed=edge.pressed,
            device_session=edge.device_session,
            device_seq=edge.device_seq,
            inferred=edge.inferred,
        )
        yield topic, received_ns, edge.at_boottime_ns, payload


class RecordedFeed(Generic[Item]):
    """A feed that shows what it reads to a recorder and is otherwise the feed itself."""

    def __init__(self, feed: Feed[Item], took: Callable[[Sequence[Item]], None]) -> None:
        self._feed = feed
        self._took = took

    @property
    def name(self) -> str:
        """The feed's own name."""
        return self._feed.name

    async def open(self) -> None:
        """Open the feed. Raises HardwareError."""
        await self._feed.open()

    async def read(self) -> Sequence[Item]:
        """What the feed read. Raises HardwareError."""
        items = await self._feed.read()
        self._took(items)
        return items

    async def close(self) -> None:
        """Close the feed."""
        await self._feed.close()


class RecordedBus(RecordedFeed[CanFrame]):
    """A bus whose frames are recorded; what its driver knows to be lost passes through."""

    def __init__(self, bus: CanFeed, took: Callable[[Sequence[CanFrame]], None]) -> None:
        super().__init__(bus, took)
        self._bus = bus

    @property
    def overruns(self) -> int:
        """Frames lost since the bus was opened."""
        return self._bus.overruns

    @property
    def error_frames(self) -> int:
        """Error frames since the bus was opened."""
        return self._bus.error_frames

    def listen_for(self, wanted: Sequence[CanFilter]) -> None:
        """Not passed on: a recording is to hold what the vehicle file does not name, too."""


class RecordedPanel(RecordedFeed[ButtonEdge]):
    """A panel whose edges are recorded; lamps and acknowledgements pass through."""

    def __init__(self, panel: ButtonPanel, took: Callable[[Sequence[ButtonEdge]], None]) -> None:
        super().__init__(panel, took)
        self._panel = panel

    async def show(self, key: str, lamp: Lamp) -> None:
        """See ButtonPanel."""
        await self._panel.show(key, lamp)

    async def acknowledge(self, edge: ButtonEdge) -> None:
        """See ButtonPanel."""
        await self._panel.acknowledge(edge)

    async def sound(self, pattern_ms: Sequence[int]) -> None:
        """See ButtonPanel."""
        await self._panel.sound(pattern_ms)

    def noise(self) -> Mapping[str, int]:
        """See ButtonPanel."""
        return self._panel.noise()
