"""Keeps the seconds before and after a moment: an impact, or what the crew or dispatch asks to be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from agent.domain.record import RecordingKept, SignalValue
from agent.hal.can import CanFrame
from agent.hal.clock import Clock
from agent.hal.gnss import NmeaBytes, NmeaFeed
from agent.recorder.kept_recordings import KeptFile, KeptRecordings
from agent.recorder.recorder import RecordedFeed
from agent.recorder.recording_file import RecordingFile
from agent.recorder.recording_format import (
    CLOCK_TOPIC,
    KEPT_TOPIC,
    NMEA_SUFFIX,
    SIGNALS_TOPIC,
    pack_json,
    pack_nmea,
)
from agent.recorder.window_ring import Segment, WindowRing, messages_of
from agent.runtime.worker import Worker

RING_NS = 60_000_000_000
TICK_S = 0.5
QUICK_S, QUICK_FOR_S = 0.2, 5.0
"""Just after the event the supply may go any moment: it is flushed so often, for so long."""
SLOW_S = 1.0
RETRY_S = 2.0
MOST_AFTER_S = 120.0
"""Moments that come during a recording lengthen it, to at most this after the first."""
AT_ONCE, REFILL_S = 5, 6 * 3600.0
"""Recordings that the machine itself begins: so many in a row, and one more in this time."""
IMPACT = "impact"

Announce = Callable[[RecordingKept, int], Awaitable[object]]
"""Puts a record, dated to a CLOCK_BOOTTIME; done when it is on the disk."""


@dataclass(slots=True)
class _Moment:
    trigger: str
    why: str
    at_ns: int
    from_ns: int
    until_ns: int
    context: Mapping[str, Any]
    file: RecordingFile | None = None
    taken: int = 0
    id: str = ""


class MomentRecorder:
    """A ring of the last minute in memory, and a file for each moment that is kept. Event loop only.

    Nothing is written before a moment comes. Then the seconds before it are on the disk with the first
    flush, and what follows with one each 0.2 s, later each second. The disk's work is done by `worker`.

    Args:
        kept: where the files are.
        clock: boot time.
        worker: does the writing; closed by its owner.
        metadata: for each file.
        before_s: seconds before the moment that are kept.
        after_s: seconds after it.
        announce: tells of a recording, once it is begun and once it is whole.
        context: fields of `RecordingKept` that hold now: position, incident.
        on_problem: told why nothing can be kept, and with None when it can again.

    Attributes:
        ring: the last minute.
        left_out: impacts that were not recorded, because they were too many.
    """

    def __init__(
        self,
        kept: KeptRecordings,
        clock: Clock,
        worker: Worker,
        *,
        metadata: Mapping[str, str],
        before_s: float,
        after_s: float,
        announce: Announce,
        context: Callable[[], Mapping[str, Any]],
        on_problem: Callable[[str | None], None],
    ) -> None:
        self._kept = kept
        self._clock = clock
        self._worker = worker
        self._metadata = {"boot_id": clock.boot_id, **metadata}
        self._before_ns, self._after_ns = round(before_s * 1e9), round(after_s * 1e9)
        self._announce = announce
        self._context = context
        self._on_problem = on_problem
        self.ring = WindowRing(RING_NS)
        self._moment: _Moment | None = None
        self._come = asyncio.Event()
        self._telling: set[asyncio.Task[None]] = set()
        self._spent, self._spent_ns = 0.0, 0
        self._progress: Callable[[], None] = lambda: None
        self.left_out = 0

    # ------------------------------------------------------------------ what is taken

    def nmea(self, feed: NmeaFeed, name: str) -> NmeaFeed:
        """`feed` of the receiver called `name`, taken into the ring."""
        topic = name + NMEA_SUFFIX

        def took(reads: Any) -> None:
            for read in reads:
                self.ring.message(topic, read.received_boottime_ns, pack_nmea(read.data))

        taken: RecordedFeed[NmeaBytes] = RecordedFeed(feed, took)
        return taken

    def frames(self, topic: str, frames: list[CanFrame]) -> None:
        """Take frames of a bus."""
        self.ring.frames(topic, frames)

    def signals(self, values: Mapping[str, SignalValue | None], at_ns: int) -> None:
        """Take vehicle signals as they were told."""
        if values:
            self.ring.message(SIGNALS_TOPIC, at_ns, pack_json(**values))

    def keep(self, trigger: str, why: str, at_ns: int) -> bool:
        """Keep the seconds around a moment.

        Args:
            trigger: "impact", "crew" or "dispatch".
            why: what was seen, for a person.
            at_ns: CLOCK_BOOTTIME of the moment.

        Returns:
            False for an impact that is one of too many: a loose sensor fills no disk.
        """
        moment = self._moment
        if moment is not None:
            latest_ns = moment.at_ns + round(MOST_AFTER_S * 1e9)
            moment.until_ns = max(moment.until_ns, min(at_ns + self._after_ns, latest_ns))
        elif trigger == IMPACT and not self._may_begin(at_ns):
            self.left_out += 1
            return False
        else:
            from_ns = max(at_ns - self._before_ns, self.ring.oldest_ns(at_ns))
            until_ns = at_ns + self._after_ns
            self._moment = _Moment(trigger, why, at_ns, from_ns, until_ns, self._context())
        self.ring.message(KEPT_TOPIC, at_ns, pack_json(trigger=trigger, why=why, end=False))
        self._come.set()
        return True

    def snapshot(self) -> dict[str, Any]:
        """For `mdt status`."""
        moment = self._moment
        return {
            "recording": None if moment is None else {"id": moment.id, "trigger": moment.trigger},
            "left_out": self.left_out,
        }

    # ------------------------------------------------------------------ what is written

    async def run(self, progress: Callable[[], None]) -> NoReturn:
        """Write until cancelled; what is being recorded then is told of at the next start."""
        telling_left, self._progress = True, progress
        try:
            while True:
                progress()
                self._come.clear()
                if telling_left:
                    telling_left = not await self._disk(self._tell_left)
                await self._step()
                await self._rest()
        finally:
            await self._stop()

    async def _rest(self) -> None:
        moment, pause_s = self._moment, TICK_S
        if moment is not None:
            age_s = (self._clock.boottime_ns() - moment.at_ns) / 1e9
            pause_s = RETRY_S / 4 if moment.file is None else QUICK_S if age_s < QUICK_FOR_S else SLOW_S
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._come.wait()

    async def _step(self) -> None:
        moment = self._moment
        if moment is None:
            return
        now_ns = self._clock.boottime_ns()
        is_over = now_ns >= moment.until_ns
        if is_over:
            self.ring.message(KEPT_TOPIC, now_ns, pack_json(trigger=moment.trigger, why="", end=True))
        was_begun = moment.file is not None
        number, segments = self.ring.taken_after(moment.taken)
        utc = self._clock.system_utc()
        stamp = (CLOCK_TOPIC, now_ns, now_ns, pack_json(
            unix_ms=utc.unix_ms, synchronised=utc.synchronised, max_error_ms=utc.max_error_ms,
        ))  # fmt: skip

        async def write() -> None:
            await self._worker.run(lambda: self._write(moment, segments, stamp), urgent=True)

        if not await self._disk(write):
            if is_over:
                self._moment = None
            return
        moment.taken = number
        if not was_begun:
            self._tell(_begun(moment), moment.at_ns)
        if is_over:
            self._moment = None
            await self._finish(moment)

    def _write(self, moment: _Moment, segments: list[Segment], stamp: tuple[str, int, int, bytes]) -> None:
        """Runs on the worker."""
        messages = messages_of(segments, moment.from_ns)
        try:
            if moment.file is None:
                metadata = {**self._metadata, "trigger": moment.trigger, "why": moment.why}
                moment.file = self._kept.create(metadata)
                moment.id = moment.file.path.name.partition(".")[0]
                messages.append(stamp)
            for message in messages:
                moment.file.add(*message)
            moment.file.flush(sync=True)
        except OSError:
            if moment.file is not None:
                moment.file.abandon()
                # Begun anew from the ring, in another file: what is in this one stays what it is.
                moment.file, moment.taken = None, 0
            raise

    async def _finish(self, moment: _Moment) -> None:
        async def finish() -> None:
            found = await self._worker.run(lambda: self._close(moment))
            self._tell(_whole(moment, found), moment.at_ns, then=found.id)

        await self._disk(finish)

    def _close(self, moment: _Moment) -> KeptFile:
        """Runs on the worker."""
        assert moment.file is not None
        moment.file.close()
        return self._kept.look_at(moment.id)

    async def _tell_left(self) -> None:
        """Tell of what an earlier run began and did not tell the end of."""
        for recording in await self._worker.run(self._kept.prepare):
            found = await self._worker.run(lambda one=recording: self._kept.look_at(one))  # type: ignore[misc]  # bound now
            body = RecordingKept(
                recording=found.id,
                trigger=found.trigger or IMPACT,
                size_bytes=found.size_bytes,
                sha256=found.sha256,
                complete=found.complete,
            )
            self._tell(body, self._clock.boottime_ns(), then=found.id)

    def _tell(self, body: RecordingKept, at_ns: int, *, then: str | None = None) -> None:
        async def tell() -> None:
            # Cancelled at the stop, the record is still stored: only the waiting ends.
            await self._announce(body, at_ns)
            if then is not None:
                await self._disk(lambda: self._worker.run(lambda: self._kept.told(then)))

        task = asyncio.get_running_loop().create_task(tell(), name="tell-recording")
        self._telling.add(task)
        task.add_done_callback(self._told)

    def _told(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # The store ended before it had the record: the next start tells of it.
            self._on_problem(f"{self._kept}: {task.exception()}")

    async def _disk(self, work: Callable[[], Awaitable[Any]]) -> bool:
        doing = asyncio.ensure_future(work())
        try:
            # A card may stand still for a minute: that is no reason to start the agent anew.
            while not (await asyncio.wait({doing}, timeout=TICK_S))[0]:
                self._progress()
            doing.result()
        except OSError as error:
            self._on_problem(f"{self._kept}: {error.strerror or error}")
            return False
        finally:
            doing.cancel()
        self._on_problem(None)
        return True

    async def _stop(self) -> None:
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)
        moment, self._moment = self._moment, None
        if moment is not None and moment.file is not None:
            with suppress(OSError):
                await self._worker.run(moment.file.close)

    def _may_begin(self, at_ns: int) -> bool:
        self._spent = max(0.0, self._spent - max(0, at_ns - self._spent_ns) / 1e9 / REFILL_S)
        self._spent_ns = max(self._spent_ns, at_ns)
        if self._spent + 1 > AT_ONCE:
            return False
        self._spent += 1
        return True


def _begun(moment: _Moment) -> RecordingKept:
    return RecordingKept(
        recording=moment.id,
        trigger=moment.trigger,
        from_boottime_ms=moment.from_ns // 1_000_000,
        incident=moment.context.get("incident"),
        position=moment.context.get("position"),
    )


def _whole(moment: _Moment, found: KeptFile) -> RecordingKept:
    return RecordingKept(
        recording=found.id,
        trigger=moment.trigger,
        from_boottime_ms=moment.from_ns // 1_000_000,
        to_boottime_ms=moment.until_ns // 1_000_000,
        size_bytes=found.size_bytes,
        sha256=found.sha256,
        complete=found.complete,
        incident=moment.context.get("incident"),
        position=moment.context.get("position"),
    )
