"""The outbox as the rest of the agent sees it: asynchronous, ordered, honest about what is on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Alert, AlertCode, Draft, Kind, Stream
from agent.domain.stamp import Stamp, UtcSource
from agent.hal.clock import Clock
from agent.outbox.backlog import Backlog, Waiting
from agent.outbox.entry import entry_of
from agent.outbox.fault import OutboxClosedError, StoreFaultError
from agent.outbox.keeper import Keeper, Report
from agent.outbox.writer import Writer
from agent.runtime.worker import Worker
from agent.wire.row import Row

T = TypeVar("T")

_TICK_S = 0.5
"""How often `run` reports progress and looks for work."""
_SLICE_PAUSE_S = 0.02
"""Between two slices of upkeep, so that they take a part of the disk's time only."""
_LOOK_EVERY_S = 600.0
"""How often delivered records are looked at for their age."""
_UTC_AGREES_MS = 60_000
"""Stamps that differ by less tell the same time."""
_UTC_AGREED_FOR_MS = 600_000
"""Stamps that agree for so long are believed."""
_STALL_TOLD_AFTER_S = 10.0
"""A disk that has not answered for so long is told as a fault."""
_STALLED_AFTER_S = 60.0
"""After so long without an answer progress is no longer reported."""


class Outbox:
    """Durable store-and-forward. Used from one event loop; blocking work is done by the worker.

    `journal` and `boot` are 0 until the store could be opened: with a disk that refuses, `open` returns all
    the same, the health board names the reason, and what is put waits in memory until the disk takes it.
    """

    def __init__(
        self,
        settings: config.Store,
        clock: Clock,
        worker: Worker,
        health: HealthBoard,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._worker = worker
        self._health = health
        self._keeper = Keeper(settings, clock, entropy=entropy)
        self._report = Report()
        self._confirmed: dict[Stream, int] = dict.fromkeys(Stream, 0)
        self._writer = Writer(
            self._keeper,
            self._work,
            health,
            report=lambda: self._report,
            confirmed=self._confirmed,
            on_grown=self._tell_grown,
        )
        self._log_full = asyncio.Event()
        self._outstanding = 0
        self._answered_s = 0.0
        self._stall_told = False
        self._utc_offset_ms: int | None = None
        # An offset that would move the time forward, and the CLOCK_BOOTTIME at which it was first heard of.
        self._utc_claim: tuple[int, int] | None = None
        self._on_appended: list[Callable[[Stream], None]] = []
        self._on_confirmed: list[Callable[[Stream, int], None]] = []
        self._opened = False
        self._closed = False

    # ------------------------------------------------------------------ opening and closing

    @property
    def journal(self) -> int:
        """Random number made with the store, the identity of its sequences; 0 until it could be opened."""
        return self._report.journal

    @property
    def boot(self) -> int:
        """The store's count of this boot, from 1. 0 until the store could be opened."""
        return self._report.boot

    @property
    def boot_ids(self) -> Mapping[int, str]:
        """The kernel's id of every boot that this store remembers, by the store's own count."""
        return self._report.boot_ids

    @property
    def set_asides(self) -> int:
        """How often a damaged store was set aside since the start: what was stored may not be any more."""
        return self._report.set_asides

    async def open(self) -> None:
        """Open the store: make, migrate or salvage it as needed, and register this boot.

        Whatever the folder holds, this returns: what can not be used is set aside, and what the disk refuses
        is named and tried again.
        """
        try:
            await self._work(self._keeper.open)
        except StoreFaultError as fault:
            self._writer.refuse(fault)
        self._opened = True

    async def close(self) -> None:
        """Store what the disk takes, mark the store clean and release it and the worker. Idempotent.

        Records that the disk refused to the end are lost with the process: their futures raise
        OutboxClosedError.
        """
        if self._closed:
            return
        self._closed = True
        if self._opened:
            try:
                # Upkeep that was cancelled may still be at work, and find what dispatch must be told.
                await self._work(lambda: None)
                await self._writer.close()
            finally:
                # Cancelled by a deadline, before a disk that never answers: nothing is left waiting for it.
                self._writer.abandon()
            try:
                await self._work(self._keeper.close)
            except StoreFaultError as fault:
                self._health.raise_(fault.reason, fault.detail)
        await self._worker.close()

    # ------------------------------------------------------------------ writing

    def put(self, draft: Draft) -> asyncio.Future[int]:
        """Store a record by itself; what is staged goes with it.

        The future resolves to the sequence number after the commit reached the disk. While the disk refuses
        it stays pending, records keep their order, and the health board names the reason. Cancelling it does
        not take the record back. Raises ValueError for a trail record, which would overtake what is staged,
        OutboxClosedError before `open` and after `close`.
        """
        if not draft.kind.durable_at_once:
            raise ValueError(f"a record of kind {draft.kind.token} is staged, not put")
        self._take_note(draft)
        return self._writer.put(entry_of(draft))

    def stage(self, draft: Draft) -> None:
        """Store a trail record with the next commit, at the latest after `group_commit_s`.

        While the disk refuses, the oldest beyond a bound are dropped and later told by a gap record. Raises
        ValueError for a kind that must be `put`, OutboxClosedError before `open` and after `close`.
        """
        if draft.kind.durable_at_once:
            raise ValueError(f"a record of kind {draft.kind.token} is put, not staged")
        self._take_note(draft)
        self._writer.stage(entry_of(draft), disk_answers=not self._stall_told)

    async def flush(self) -> None:
        """Commit what is staged and what was confirmed, now. Returns when the disk took or refused it."""
        await self._writer.flush()

    def confirm(self, stream: Stream, through_seq: int) -> None:
        """Everything up to `through_seq` was delivered.

        Cheap: it reaches the disk with the next commit or within `group_commit_s`. A crash before that sends
        some records twice.
        """
        through_seq = min(through_seq, self.last_seq(stream))
        if through_seq <= self._confirmed[stream]:
            return
        self._confirmed[stream] = through_seq
        self._writer.note_confirmed()
        for listener in self._on_confirmed:
            listener(stream, through_seq)

    async def begin_new_journal(self, why: str, *, resend_after: Mapping[Stream, int] | None = None) -> None:
        """Go on under another journal: readers were told of this one by somebody else, or at another time.

        Nothing that waits is lost: it goes out in the new journal, under the sequence numbers that it has.
        What was delivered is no longer kept for a replay. An alert says why.

        Args:
            why: one plain sentence, for the alert.
            resend_after: for streams of which readers may have taken records for repeats of others: the
                number after which everything is to go out again, as far as it is still kept.

        Raises StoreFaultError when the disk refuses: the journal is as before, the health board names the
        reason, and the caller asks again later.
        """
        if self._closed or not self._opened:
            raise OutboxClosedError("the outbox is not open")
        alert = entry_of(Draft(Stamp(self._clock.boottime_ns()), Alert(AlertCode.JOURNAL_BEGUN, why)))
        confirmed = dict(self._confirmed)
        try:
            await self._work(
                lambda: self._keeper.begin_journal(
                    alert, confirmed=confirmed, resend_after=resend_after or {}
                ),
                urgent=True,
            )
        except StoreFaultError as fault:
            self._writer.refuse(fault)
            raise
        self._tell_grown(Stream)

    # ------------------------------------------------------------------ reading

    async def read(
        self,
        stream: Stream,
        after_seq: int,
        *,
        max_records: int,
        max_bytes: int,
        last_seq: int | None = None,
    ) -> list[Row]:
        """Stored rows after `after_seq`, ascending; what is no longer kept is told by gap rows.

        Args:
            stream: which.
            after_seq: the last sequence number the reader has.
            max_records: at most so many rows.
            max_bytes: at most so many bytes of bodies, but always one row if there is any.
            last_seq: nothing beyond this; for a replay.

        Raises StoreFaultError when the disk can not be read.
        """
        return await self._work(
            lambda: self._keeper.read(
                stream, after_seq, max_records=max_records, max_bytes=max_bytes, last_seq=last_seq
            )
        )

    async def latest(self, kind: Kind) -> Row | None:
        """The newest stored record of `kind`; emergency, status and alert stay even when all else is trimmed.

        Raises StoreFaultError when the disk can not be read.
        """
        return await self._work(lambda: self._keeper.latest(kind))

    def confirmed(self, stream: Stream) -> int:
        """Everything up to here was delivered."""
        return self._confirmed[stream]

    def last_seq(self, stream: Stream) -> int:
        """Newest sequence number on the disk; 0 when there never was one."""
        return self._report.last_seq(stream)

    def backlog(self) -> Backlog:
        """What waits, from memory: asking costs nothing."""
        report = self._report
        return Backlog(
            streams={stream: self._waiting(stream) for stream in Stream},
            unsaved=self._writer.unsaved,
            stored_bytes=report.stored_bytes,
            replay_records=sum(counters.replay_records for counters in report.counters.values()),
            replay_bytes=sum(counters.replay_bytes for counters in report.counters.values()),
        )

    def _waiting(self, stream: Stream) -> Waiting:
        counters, oldest = self._report.counters[stream], self._report.oldest[stream]
        left = counters.last_seq - self._confirmed[stream]
        if left == 0 or oldest is None:
            return Waiting()
        return Waiting(
            # Confirmations that no commit has saved yet are counted by sequence numbers.
            records=min(left, counters.waiting_records),
            bytes=counters.waiting_bytes,
            oldest_boot=oldest.boot,
            oldest_boottime_ms=oldest.boottime_ms,
            oldest_utc_ms=oldest.utc_ms,
        )

    def on_appended(self, listener: Callable[[Stream], None]) -> None:
        """Call `listener` on the loop after each commit that added to a stream."""
        self._on_appended.append(listener)

    def on_confirmed(self, listener: Callable[[Stream, int], None]) -> None:
        """Call `listener` on the loop whenever a stream's delivered watermark moved."""
        self._on_confirmed.append(listener)

    def _tell_grown(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            for listener in self._on_appended:
                listener(stream)

    # ------------------------------------------------------------------ upkeep

    async def run(self, progress: Callable[[], None]) -> None:
        """Commit groups in time and keep the store within its budget; until cancelled.

        Args:
            progress: called at least once a second while the disk answers.

        Raises what ended the writer, if it was no fault of the disk.
        """
        loop = asyncio.get_running_loop()
        looked_s = loop.time()
        while True:
            self._writer.check()
            now_s = loop.time()
            self._watch(now_s, progress)
            if self._writer.group_due(now_s, self._settings.group_commit_s):
                self._writer.want_commit()
            pause_s = _TICK_S
            if not self._writer.refused and (self._report.work_due or now_s - looked_s >= _LOOK_EVERY_S):
                looked_s = now_s
                await self._maintain(progress)
                pause_s = _SLICE_PAUSE_S if self._report.work_due else _TICK_S
            # Many presses in a row fill the log between two ticks. No wait_for: in Python 3.11 it can lose
            # the cancellation that ends this loop.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._log_full.wait()
            self._log_full.clear()

    async def _maintain(self, progress: Callable[[], None]) -> None:
        """One slice of upkeep; progress is reported also while it waits behind something slow."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._slice(), name="outbox-upkeep")
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_TICK_S)
                self._watch(loop.time(), progress)
            task.result()
        except StoreFaultError as fault:
            self._writer.refuse(fault)
        finally:
            task.cancel()

    async def _slice(self) -> None:
        now_utc_ms = self._now_utc_ms()
        await self._work(lambda: self._keeper.maintain(now_utc_ms))

    def _watch(self, now_s: float, progress: Callable[[], None]) -> None:
        """Report progress, unless the disk has not answered for very long; name a disk that is slow."""
        stalled_s = now_s - self._answered_s if self._outstanding else 0.0
        if stalled_s >= _STALL_TOLD_AFTER_S:
            self._stall_told = True
            detail = f"the disk has not answered for {stalled_s:.0f} s"
            self._health.raise_(HealthReason.STORE_IO_ERROR, detail)
        elif self._stall_told:
            self._stall_told = False
            if not self._writer.refused:
                self._health.clear(HealthReason.STORE_IO_ERROR)
        if stalled_s < _STALLED_AFTER_S or self._keeper.mending:
            progress()

    # ------------------------------------------------------------------ the worker

    async def _work(self, work: Callable[[], T], *, urgent: bool = False) -> T:
        """Have the worker do `work`, and learn how things stand after it."""
        loop = asyncio.get_running_loop()
        if self._outstanding == 0:
            self._answered_s = loop.time()
        self._outstanding += 1
        try:
            result, report = await self._worker.run(partial(self._done_and_reported, work), urgent=urgent)
        finally:
            self._outstanding -= 1
            self._answered_s = loop.time()
        self._adopt(report)
        return result

    def _done_and_reported(self, work: Callable[[], T]) -> tuple[T, Report]:
        return work(), self._keeper.report()

    def _adopt(self, report: Report) -> None:
        before, self._report = self._report, report
        if report.journal != before.journal:
            # Of another store nothing was delivered but what it says itself.
            for stream in Stream:
                self._confirmed[stream] = report.confirmed_seq(stream)
        self._tell_what_happened(before, report)
        if report.log_full and not self._writer.refused:
            self._log_full.set()
        for stream in Stream:
            self._confirmed[stream] = max(self._confirmed[stream], report.confirmed_seq(stream))
        if report.over_budget:
            self._health.raise_(HealthReason.STORE_OVER_BUDGET)
        else:
            self._health.clear(HealthReason.STORE_OVER_BUDGET)
        if report.set_asides > before.set_asides:
            self._tell_grown([Stream.EVENTS])  # by the alert that tells of it

    def _tell_what_happened(self, before: Report, now: Report) -> None:
        """Alerts of what the worker met; a salvage has written its own into the new store."""
        if now.replaced != before.replaced:
            self._tell(AlertCode.STORE_REPLACED, "the store in use was replaced; a new journal began")
        if now.moves != before.moves:
            self._tell(
                AlertCode.STORE_MOVED, "the store's file was deleted or replaced while in use; all is kept"
            )
        if now.replaced_rows and not before.replaced_rows:
            # Once a run: how many there are, and which, gap records tell.
            self._tell(AlertCode.STORE_RECORD_DAMAGED, "what a record held was garbled; gaps tell of each")

    def _tell(self, code: str, text: str) -> None:
        if not self._writer.ended:
            self._writer.put(entry_of(Draft(Stamp(self._clock.boottime_ns()), Alert(code, text))))

    # ------------------------------------------------------------------ time

    def _take_note(self, draft: Draft) -> None:
        if self._closed or not self._opened:
            raise OutboxClosedError("the outbox is not open")
        utc = draft.stamp.utc
        if utc is not None and utc.source >= UtcSource.NTP:
            boottime_ms = draft.stamp.boottime_ns // 1_000_000
            self._believe(utc.unix_ms - boottime_ms, boottime_ms)

    def _believe(self, offset_ms: int, boottime_ms: int) -> None:
        """Take an earlier UTC at once, a later one when the stamps have agreed on it for a while.

        By this time delivered records are deleted for their age: one stamp of a receiver with a wrong date
        must not empty the window.
        """
        if self._utc_offset_ms is not None and offset_ms <= self._utc_offset_ms + _UTC_AGREES_MS:
            self._utc_offset_ms, self._utc_claim = offset_ms, None
        elif self._utc_claim is None or abs(offset_ms - self._utc_claim[0]) > _UTC_AGREES_MS:
            self._utc_claim = offset_ms, boottime_ms
        elif boottime_ms - self._utc_claim[1] >= _UTC_AGREED_FOR_MS:
            self._utc_offset_ms, self._utc_claim = offset_ms, None

    def _now_utc_ms(self) -> int | None:
        """UTC as trusted as that of the records; None before there is one."""
        if self._utc_offset_ms is None:
            return None
        return self._clock.boottime_ns() // 1_000_000 + self._utc_offset_ms
