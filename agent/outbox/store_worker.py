"""The event loop's side of the store: its worker, what that reports, and whether it answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Alert, AlertCode, Draft, Stream
from agent.domain.stamp import Stamp
from agent.hal.clock import Clock
from agent.outbox.deposit import Deposit, Fate
from agent.outbox.entry import Entry, entry_of
from agent.outbox.fault import STORE_REASONS, StoreFaultError
from agent.outbox.keeper import Keeper, Report
from agent.runtime.worker import Done, Worker, deliver

T = TypeVar("T")

_SLOW_S = 2.0
"""Work that takes longer keeps a press waiting, and is told."""
_QUICK_FOR_S = 30.0
"""A disk that was slow counts as quick again once nothing was slow for so long."""
_STALL_TOLD_AFTER_S = 10.0
"""A disk that has not answered for so long is told as a fault."""
_STALLED_AFTER_S = 60.0
"""After so long without an answer progress is no longer reported."""


class StoreWorker:
    """Everything that is done to the store is done here, one after the other. Used from one event loop.

    Attributes:
        report: how things stood after the last work.
        confirmed: everything up to here was delivered, of each stream; what no commit has saved included.
        refused: the disk takes nothing, and the health board says why.
        stalled: the disk has not answered for long.
        log_full: set when the log is to be brought home before it outgrows its size.
        deposits: those that somebody still holds.
        lost: those that were on the disk, are there no more, and were not delivered.
        alerts: what dispatch is to be told of what happened, for whoever writes next.
    """

    def __init__(
        self,
        settings: config.Store,
        clock: Clock,
        worker: Worker,
        health: HealthBoard,
        *,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._clock = clock
        self._worker = worker
        self._health = health
        self._keeper = Keeper(settings, clock, entropy=entropy)
        self.report = Report()
        self.confirmed: dict[Stream, int] = dict.fromkeys(Stream, 0)
        self.refused = False
        self.stalled = False
        self.log_full = asyncio.Event()
        self.deposits: WeakSet[Deposit] = WeakSet()
        self.lost: deque[Deposit] = deque()
        self.alerts: deque[Entry] = deque()
        self.on_appended: list[Callable[[Stream], None]] = []
        self.on_confirmed: list[Callable[[Stream, int], None]] = []
        self._outstanding = 0
        self._answered_s = 0.0
        self._slow_s = 0.0
        self._slow_until_s = 0.0

    def submit(self, work: Callable[[Keeper], T], done: Done, *, urgent: bool = False) -> None:
        """Have `work` done, learn how things stand after it, and call `done` with what came of it."""
        if self._outstanding == 0:
            self._answered_s = asyncio.get_running_loop().time()
        self._outstanding += 1
        self._worker.submit(
            partial(self._done_and_reported, work), partial(self._answer, done), urgent=urgent
        )

    def _answer(self, done: Done, answer: tuple[Any, Report] | None, failure: BaseException | None) -> None:
        self._outstanding -= 1
        self._note_answer(asyncio.get_running_loop().time())
        if answer is None:
            done(None, failure)
            return
        result, report = answer
        self._adopt(report)
        done(result, None)

    async def do(self, work: Callable[[Keeper], T], *, urgent: bool = False) -> T:
        """Have `work` done and learn how things stand after it. Raises StoreFaultError."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.submit(work, partial(deliver, future), urgent=urgent)
        return await future

    def _done_and_reported(self, work: Callable[[Keeper], T]) -> tuple[T, Report]:
        return work(self._keeper), self._keeper.report()

    async def close(self) -> None:
        """Release the worker."""
        await self._worker.close()

    # ------------------------------------------------------------------ what it reports

    def _adopt(self, report: Report) -> None:
        before, self.report = self.report, report
        if report.journal != before.journal:
            # Of another store nothing was delivered but what it says itself.
            self.confirmed.update(dict.fromkeys(Stream, 0))
        for stream, counters in report.counters.items():
            self.confirmed[stream] = max(self.confirmed[stream], counters.confirmed_seq)
        if report.log_full and not self.refused:
            self.log_full.set()
        if report.over_budget:
            self._health.raise_(HealthReason.STORE_OVER_BUDGET)
        elif before.over_budget:
            self._health.clear(HealthReason.STORE_OVER_BUDGET)
        self._tell_what_happened(before, report)
        if report.events is not None:
            self._find_again(report.events, another_journal=report.journal != before.journal)
        if report.set_asides > before.set_asides:
            self.tell_grown([Stream.EVENTS])  # by the alert that tells of it

    def _tell_what_happened(self, before: Report, now: Report) -> None:
        """Alerts of what the worker met; a salvage has written its own into the new store."""
        if now.replaced != before.replaced:
            self._tell(AlertCode.STORE_REPLACED, "the store in use was replaced; a new journal began")
        if now.moves != before.moves:
            self._tell(AlertCode.STORE_MOVED, "the file was deleted or replaced while in use; all is kept")
        if now.replaced_rows and not before.replaced_rows:
            # Once a run: how many there are, and which, gap records tell.
            self._tell(AlertCode.STORE_RECORD_DAMAGED, "what a record held was garbled; gaps tell of each")

    def _tell(self, code: str, text: str) -> None:
        self.alerts.append(entry_of(Draft(Stamp(self._clock.boottime_ns()), Alert(code, text))))

    def tell_grown(self, streams: Iterable[Stream]) -> None:
        """Tell those who listen that something was added to `streams`."""
        for stream in streams:
            for listener in self.on_appended:
                listener(stream)

    # ------------------------------------------------------------------ deposits

    def settle(self, deposit: Deposit, seq: int) -> None:
        """A deposit is on the disk."""
        delivered = seq <= self.confirmed[deposit.stream]
        deposit.now(seq, Fate.DELIVERED if delivered else Fate.STORED)
        if not deposit.done():
            deposit.set_result(seq)

    def confirm(self, stream: Stream, through_seq: int) -> None:
        """A stream was delivered up to here."""
        self.confirmed[stream] = through_seq
        for deposit in tuple(self.deposits):
            if deposit.fate is Fate.STORED and deposit.stream is stream and (deposit.seq or 0) <= through_seq:
                deposit.now(deposit.seq, Fate.DELIVERED)
        for listener in self.on_confirmed:
            listener(stream, through_seq)

    def _find_again(
        self, events: Iterable[tuple[int, tuple[int, int, bytes]]], *, another_journal: bool
    ) -> None:
        """The store was mended or replaced: each deposit is where that has it, or it is not stored."""
        content_at = dict(events)
        seq_of = {content: seq for seq, content in content_at.items()}
        for deposit in tuple(self.deposits):
            if deposit.seq is None:
                continue
            there = content_at.get(deposit.seq) == deposit.content
            seq = deposit.seq if there else seq_of.get(deposit.content)
            if seq is not None:
                delivered = seq <= self.confirmed[deposit.stream]
                deposit.now(seq, Fate.DELIVERED if delivered else Fate.STORED)
            elif deposit.fate is Fate.STORED:
                deposit.now(None, Fate.NOT_STORED)
                if deposit.ours:
                    self.lost.append(deposit)
            elif another_journal:
                deposit.now(None, Fate.DELIVERED)

    # ------------------------------------------------------------------ a disk that refuses, or is slow

    def refuse(self, fault: StoreFaultError) -> None:
        """The disk refused: name it."""
        self.refused = True
        self._health.clear(*(reason for reason in STORE_REASONS if reason is not fault.reason))
        self._health.raise_(fault.reason, fault.detail)

    def accept(self) -> None:
        """The disk takes what it is given."""
        self.refused = False
        self._health.clear(*STORE_REASONS)

    def watch(self, progress: Callable[[], None]) -> None:
        """Report progress, unless the disk has not answered for very long; name a disk that is slow."""
        now_s = asyncio.get_running_loop().time()
        stalled_s = now_s - self._answered_s if self._outstanding else 0.0
        if stalled_s >= _SLOW_S:
            self._note_slow(stalled_s, now_s)
        elif self._slow_s and now_s >= self._slow_until_s:
            self._slow_s = 0.0
            self._health.clear(HealthReason.STORE_SLOW)
        if stalled_s >= _STALL_TOLD_AFTER_S:
            self.stalled = True
            detail = f"the disk has not answered for {stalled_s:.0f} s"
            self._health.raise_(HealthReason.STORE_IO_ERROR, detail)
        elif self.stalled:
            self.stalled = False
            if not self.refused:
                self._health.clear(HealthReason.STORE_IO_ERROR)
        if stalled_s < _STALLED_AFTER_S or self._keeper.mending:
            progress()

    def _note_answer(self, now_s: float) -> None:
        took_s = now_s - self._answered_s
        if took_s >= _SLOW_S:
            self._note_slow(took_s, now_s)
        self._answered_s = now_s

    def _note_slow(self, took_s: float, now_s: float) -> None:
        self._slow_s = max(self._slow_s, took_s)
        self._slow_until_s = now_s + _QUICK_FOR_S
        detail = f"the disk took {self._slow_s:.1f} s for one piece of work; presses wait as long"
        self._health.raise_(HealthReason.STORE_SLOW, detail)
