"""The outbox as the rest of the agent sees it: asynchronous, ordered, honest about what is on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from agent import config
from agent.domain.health import HealthBoard
from agent.domain.record import Alert, AlertCode, Draft, Kind, Stream
from agent.domain.stamp import Stamp, UtcSource
from agent.hal.clock import Clock
from agent.outbox.backlog import Backlog, Waiting
from agent.outbox.deposit import Deposit, Fate
from agent.outbox.entry import STREAM_OF_KIND, Entry, entries_of, entry_of
from agent.outbox.fault import STORE_REASONS, OutboxClosedError, StoreFaultError
from agent.outbox.keeper import Keeper
from agent.outbox.store_worker import StoreWorker
from agent.outbox.writer import Writer
from agent.runtime.worker import Worker
from agent.wire.row import Row

T = TypeVar("T")

_READING = "reading"
"""Owner of the reasons that say that the disk can not be read."""
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
        self._health = health
        self._store = StoreWorker(settings, clock, worker, health, entropy=entropy)
        self._writer = Writer(self._store)
        self._utc_offset_ms: int | None = None
        # An offset that would move the time forward, and the CLOCK_BOOTTIME at which it was first heard of.
        self._utc_claim: tuple[int, int] | None = None
        self.before_store: Callable[[Draft], Draft | None] = lambda draft: draft
        """What of a record may leave the vehicle; None for nothing of one that is staged."""
        self._opened = False
        self._closed = False

    # ------------------------------------------------------------------ opening and closing

    @property
    def journal(self) -> int:
        """Random number made with the store, the identity of its sequences; 0 until it could be opened."""
        return self._store.report.journal

    @property
    def boot(self) -> int:
        """The store's count of this boot, from 1. 0 until the store could be opened."""
        return self._store.report.boot

    @property
    def boot_ids(self) -> Mapping[int, str]:
        """The kernel's id of every boot that this store remembers, by the store's own count."""
        return self._store.report.boot_ids

    @property
    def set_asides(self) -> int:
        """How often a damaged store was set aside since the start: what was stored may not be any more."""
        return self._store.report.set_asides

    async def open(self) -> None:
        """Open the store: make, migrate or salvage it as needed, and register this boot.

        Whatever the folder holds, this returns: what can not be used is set aside, and what the disk refuses
        is named and tried again.
        """
        try:
            await self._store.do(Keeper.open)
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
                await self._store.do(lambda _: None)
                await self._writer.close()
            finally:
                # Cancelled by a deadline, before a disk that never answers: nothing is left waiting for it.
                self._writer.abandon()
            try:
                await self._store.do(Keeper.close)
            except StoreFaultError as fault:
                self._health.raise_(fault.reason, fault.detail)
        await self._store.close()

    # ------------------------------------------------------------------ writing

    def put(self, draft: Draft) -> Deposit:
        """Store a record by itself; what is staged goes with it.

        The deposit is a future that resolves to the sequence number after the commit reached the disk. While
        the disk refuses it stays pending, records keep their order, and the health board names the reason.
        Afterwards the deposit goes on saying what is true of the record, see there.

        Raises ValueError for a trail record, which would overtake what is staged, OutboxClosedError before
        `open` and after `close`.
        """
        if not draft.kind.durable_at_once:
            raise ValueError(f"a record of kind {draft.kind.token} is staged, not put")
        self._take_note(draft)
        return self._writer.put(entry_of(self.before_store(draft) or draft))

    def follow(self, row: Row) -> Deposit:
        """A deposit for a record that was read, of an earlier run perhaps."""
        deposit = Deposit(Entry(row.kind, *row[3:]), ours=False)
        delivered = row.seq <= self._store.confirmed[STREAM_OF_KIND[row.kind]]
        deposit.now(row.seq, Fate.DELIVERED if delivered else Fate.STORED)
        deposit.set_result(row.seq)
        self._store.deposits.add(deposit)
        return deposit

    def stage(self, draft: Draft) -> None:
        """Store a trail record with the next commit, at the latest after `group_commit_s`.

        While the disk refuses, the oldest beyond a bound are dropped and later told by a gap record. Raises
        ValueError for a kind that must be `put`, OutboxClosedError before `open` and after `close`.
        """
        if draft.kind.durable_at_once:
            raise ValueError(f"a record of kind {draft.kind.token} is put, not staged")
        self._take_note(draft)
        told = self.before_store(draft)
        if told is None:
            return
        for entry in entries_of(told):
            self._writer.stage(entry)

    async def flush(self) -> None:
        """Commit what is staged and what was confirmed, now. Returns when the disk took or refused it."""
        await self._writer.flush()

    def confirm(self, stream: Stream, through_seq: int) -> None:
        """Everything up to `through_seq` was delivered.

        Cheap: it reaches the disk with the next commit or within `group_commit_s`. A crash before that sends
        some records twice.
        """
        through_seq = min(through_seq, self.last_seq(stream))
        if through_seq > self._store.confirmed[stream]:
            self._store.confirm(stream, through_seq)
            self._writer.note_confirmed()

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
        confirmed = dict(self._store.confirmed)

        def begin(keeper: Keeper) -> None:
            keeper.begin_journal(alert, confirmed=confirmed, resend_after=resend_after or {})

        try:
            await self._store.do(begin, urgent=True)
        except StoreFaultError as fault:
            self._writer.refuse(fault)
            raise
        self._store.tell_grown(Stream)

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

        def read(keeper: Keeper) -> list[Row]:
            return keeper.read(
                stream, after_seq, max_records=max_records, max_bytes=max_bytes, last_seq=last_seq
            )

        return await self._read(read)

    async def latest(self, kind: Kind) -> Row | None:
        """The newest stored record of `kind`; emergency, status and alert stay even when all else is trimmed.

        Raises StoreFaultError when the disk can not be read.
        """
        return await self._read(lambda keeper: keeper.latest(kind))

    async def _read(self, read: Callable[[Keeper], T]) -> T:
        """Read, and name a disk that can not be read: also while it is written to without trouble."""
        try:
            found = await self._store.do(read)
        except StoreFaultError as fault:
            self._health.raise_(fault.reason, fault.detail, owner=_READING)
            raise
        self._health.clear(*STORE_REASONS, owner=_READING)
        return found

    def confirmed(self, stream: Stream) -> int:
        """Everything up to here was delivered."""
        return self._store.confirmed[stream]

    def last_seq(self, stream: Stream) -> int:
        """Newest sequence number on the disk; 0 when there never was one."""
        return self._store.report.last_seq(stream)

    def backlog(self) -> Backlog:
        """What waits, from memory: asking costs nothing."""
        report = self._store.report
        return Backlog(
            streams={stream: self._waiting(stream) for stream in Stream},
            unsaved=self._writer.unsaved,
            stored_bytes=report.stored_bytes,
            replay_records=sum(counters.replay_records for counters in report.counters.values()),
            replay_bytes=sum(counters.replay_bytes for counters in report.counters.values()),
        )

    def _waiting(self, stream: Stream) -> Waiting:
        report = self._store.report
        counters, oldest = report.counters[stream], report.oldest[stream]
        left = counters.last_seq - self._store.confirmed[stream]
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
        self._store.on_appended.append(listener)

    def on_confirmed(self, listener: Callable[[Stream, int], None]) -> None:
        """Call `listener` on the loop whenever a stream's delivered watermark moved."""
        self._store.on_confirmed.append(listener)

    # ------------------------------------------------------------------ upkeep

    async def run(self, progress: Callable[[], None]) -> None:
        """Commit groups in time and keep the store within its budget; until cancelled.

        Args:
            progress: called at least once a second while the disk answers.

        Raises what ended the writer, if it was no fault of the disk.
        """
        loop = asyncio.get_running_loop()
        store, looked_s = self._store, loop.time()
        while True:
            self._writer.check()
            now_s = loop.time()
            store.watch(progress)
            self._writer.tend(now_s, self._settings.group_commit_s)
            pause_s = _TICK_S
            if not store.refused and (store.report.work_due or now_s - looked_s >= _LOOK_EVERY_S):
                looked_s = now_s
                await self._maintain(progress)
                pause_s = _SLICE_PAUSE_S if store.report.work_due else _TICK_S
            # Many presses in a row fill the log between two ticks. No wait_for: in Python 3.11 it can lose
            # the cancellation that ends this loop.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await store.log_full.wait()
            store.log_full.clear()

    async def _maintain(self, progress: Callable[[], None]) -> None:
        """One slice of upkeep; progress is reported also while it waits behind something slow."""
        now_utc_ms = self._now_utc_ms()
        maintained = self._store.do(lambda keeper: keeper.maintain(now_utc_ms))
        task = asyncio.get_running_loop().create_task(maintained, name="outbox-upkeep")
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_TICK_S)
                self._store.watch(progress)
            task.result()
        except StoreFaultError as fault:
            self._writer.refuse(fault)
        finally:
            task.cancel()

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
