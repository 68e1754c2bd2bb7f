"""What is on its way to the disk: order, groups, and patience with a disk that refuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from agent.domain.health import HealthReason
from agent.domain.record import Stream, token_of
from agent.outbox.deposit import Deposit
from agent.outbox.entry import STREAM_OF_KIND, Entry
from agent.outbox.fault import OutboxClosedError, StoreFaultError
from agent.outbox.keeper import Keeper
from agent.outbox.store_worker import StoreWorker

STAGED_MAX = 20_000
"""Trail records held in memory while the disk refuses: five hours at one a second, about 6 MB."""
BATCH_MAX = 5_000
"""Records in one commit, so that a press never waits behind more."""
CONFIRM_STEP = 10_000
"""Sequence numbers after which a watermark is persisted before its time: accounting for them is a scan."""
_CONFIRM_STEP_OF_PRESS = 1_000
_RETRY_FIRST_S = 0.25
_RETRY_MAX_S = 2.0
_TRIES_AT_CLOSE = 3
"""A moment in which the disk refuses must not be the end of a press."""
_STREAMS = tuple(Stream)
"""Going through an enumeration itself takes ten times as long; a press waits for it."""


@dataclass(slots=True)
class Batch:
    """What one transaction is to hold.

    Attributes:
        presses: records whose callers wait.
        staged: trail records.
        dropped: (kind token, count) of trail records that memory could not hold.
        confirmed: watermarks to persist, as far as one commit takes them.
        flushes: those who wait for all that was staged.
    """

    presses: list[Deposit]
    staged: list[Entry] = field(default_factory=list)
    dropped: tuple[tuple[str, int], ...] = ()
    confirmed: dict[Stream, int] = field(default_factory=dict)
    flushes: list[asyncio.Future[None]] = field(default_factory=list)

    def entries(self) -> list[Entry]:
        """All records, in the order in which they are written."""
        return [*[press.entry for press in self.presses], *self.staged]


class Writer:
    """Commits what it is given, in order, one transaction at a time. Used from one event loop."""

    def __init__(self, store: StoreWorker) -> None:
        self.ended = False
        self._store = store
        self._presses: deque[Deposit] = deque()
        self._staged: deque[Entry] = deque()
        self._staged_since_s: float | None = None
        self._confirmed_since_s: float | None = None
        self._dropped: Counter[str] = Counter()
        self._flushes: list[asyncio.Future[None]] = []
        self._doubtful: Batch | None = None
        self._in_flight = 0
        self._under_way = False
        self._group_max = BATCH_MAX
        self._commit_wanted = False
        self._closing = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    # ------------------------------------------------------------------ what comes in

    def put(self, entry: Entry) -> Deposit:
        """Take a record to be written at once."""
        deposit = Deposit(entry)
        self._store.deposits.add(deposit)
        self._presses.append(deposit)
        self._wake.set()
        self._kick()
        return deposit

    def stage(self, entry: Entry) -> None:
        """Take a record to be written with a group."""
        if not self._staged:
            self._staged_since_s = asyncio.get_running_loop().time()
        self._staged.append(entry)
        if len(self._staged) < BATCH_MAX:
            return
        if self._store.refused or self._store.stalled:
            self._drop_excess()
        else:
            self.want_commit()

    def note_confirmed(self) -> None:
        """A watermark moved: it is to be persisted within the group's time, or now if it moved far."""
        if self._confirmed_since_s is None:
            self._confirmed_since_s = asyncio.get_running_loop().time()
        report = self._store.report
        far = any(
            seq - report.confirmed_seq(stream) >= CONFIRM_STEP
            for stream, seq in self._store.confirmed.items()
        )
        if far and not self._store.refused:
            self.want_commit()

    @property
    def unsaved(self) -> int:
        """Records that no commit has covered."""
        doubtful = 0 if self._doubtful is None else len(self._doubtful.entries())
        return len(self._staged) + len(self._presses) + self._in_flight + doubtful

    def tend(self, now_s: float, group_commit_s: float) -> None:
        """Ask for a commit when something has waited for its time; several times a second."""
        if self._task is None and (self._store.refused or self._presses):
            self.want_commit()  # something unexpected ended the writer before it was through
        if self._store.lost or self._store.alerts:
            self.want_commit()
        if self._store.refused:
            return
        since = [at_s for at_s in (self._staged_since_s, self._confirmed_since_s) if at_s is not None]
        if since and now_s - min(since) >= group_commit_s:
            self.want_commit()

    def want_commit(self) -> None:
        """Commit what is staged, soon."""
        self._commit_wanted = True
        self._kick()

    async def flush(self) -> None:
        """Commit everything now; returns when the disk took or refused it."""
        store = self._store
        unsaved = self._under_way or self._staged or self._presses or self._dropped or self._doubtful
        if not (unsaved or store.alerts or store.lost or self._unsaved_confirmations()):
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushes.append(waiter)
        self._wake.set()
        self.want_commit()
        await waiter

    def refuse(self, fault: StoreFaultError) -> None:
        """The disk refused somebody: name it, and keep trying."""
        self._store.refuse(fault)
        self.want_commit()

    def check(self) -> None:
        """Raise what ended the writer, if anything did; it starts again with the next record."""
        self._note_end()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _note_end(self) -> None:
        """Let go of a task that is done, and keep what ended it for `check`."""
        if self._task is None or not self._task.done():
            return
        task, self._task = self._task, None
        if not task.cancelled():
            self._failure = task.exception() or self._failure

    async def close(self) -> None:
        """Write what the disk takes; the futures of the rest raise OutboxClosedError. Idempotent."""
        self._closing = True
        self._wake.set()
        for _ in range(_TRIES_AT_CLOSE):
            await self.flush()
            if self._task is not None:
                await asyncio.wait({self._task})
                self._note_end()
            if not self._presses and self._doubtful is None:
                break
        self.abandon()

    def abandon(self) -> None:
        """End at once; the futures of what is not written raise OutboxClosedError. Idempotent."""
        self.ended = True
        if self._task is not None:
            self._task.cancel()
        doubtful = [] if self._doubtful is None else self._doubtful.presses
        for press in (*doubtful, *self._presses):
            if not press.done():
                press.set_exception(OutboxClosedError("the outbox was closed while the disk refused"))
                press.exception()  # a caller that went away is no error of its own

    # ------------------------------------------------------------------ what goes out

    def _kick(self) -> None:
        self._note_end()
        if self._task is None and not self._under_way:
            self._under_way = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Commit what waits. One commit at a time, and the next after it: this keeps records in order.

        A press waits for each step of this, so there is no task while the disk takes what it is given.
        """
        if self._store.refused or self._doubtful is not None:
            self._be_patient()
            return
        self._wake.clear()
        try:
            self._take_in()
            batch = self._take(presses_only=False)
            entries = self._written(batch)
            if entries is None:
                self._ended(batch, [], None)
            else:
                work, ended = self._append(batch, entries), partial(self._ended, batch)
                self._store.submit(work, ended, urgent=bool(batch.presses))
        except Exception as error:  # noqa: BLE001 - raised by `check`
            self._under_way = False
            self._note_failure(error)

    def _ended(self, batch: Batch, seqs: list[int], failure: BaseException | None) -> None:
        self._under_way = False
        self._in_flight = 0
        if failure is not None:
            self._failed(batch, failure)
            if not isinstance(failure, StoreFaultError):
                self._note_failure(failure)
                return
            self._note_refusal(failure)
            if self.ended:
                self.abandon()
            elif not self._closing:
                self._be_patient(after_s=_RETRY_FIRST_S)
            return
        try:
            self._committed(batch, seqs, presses_only=False)
        except Exception as error:  # noqa: BLE001 - raised by `check`
            self._note_failure(error)
        else:
            if self._presses or self._commit_wanted:
                self._kick()

    def _note_failure(self, error: BaseException) -> None:
        self._failure = error
        self._end_flushes()

    def _be_patient(self, *, after_s: float = 0.0) -> None:
        self._under_way = False
        writing = self._write(after_s)
        self._task = asyncio.get_running_loop().create_task(writing, name="outbox-writer")

    async def _write(self, back_off_s: float) -> None:
        """Commit until nothing waits, on a disk that refuses."""
        try:
            while self._presses or self._commit_wanted:
                if back_off_s:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(back_off_s):
                            await self._wake.wait()
                self._wake.clear()
                try:
                    await self._commit_once()
                except StoreFaultError as fault:
                    self._note_refusal(fault)
                    if self._closing:
                        return
                    back_off_s = min(2 * back_off_s, _RETRY_MAX_S) or _RETRY_FIRST_S
                else:
                    back_off_s = 0.0
        finally:
            self._end_flushes()

    def _note_refusal(self, fault: StoreFaultError) -> None:
        self._store.refuse(fault)
        self._commit_wanted = True
        self._end_flushes()

    async def _commit_once(self) -> None:
        """One transaction. Raises StoreFaultError; then everything is held as before, in the same order."""
        store = self._store
        if store.refused:
            await self._recover()
        self._take_in()
        # What little room there is belongs to the presses: the trail follows when they are on the disk.
        presses_only = store.refused and bool(self._presses)
        batch = self._take(presses_only=presses_only)
        seqs: list[int] = []
        entries = self._written(batch)
        if entries is not None:
            try:
                seqs = await store.do(self._append(batch, entries), urgent=bool(batch.presses))
            except BaseException as error:
                self._failed(batch, error)
                raise
            finally:
                self._in_flight = 0
        self._committed(batch, seqs, presses_only=presses_only)

    def _written(self, batch: Batch) -> list[Entry] | None:
        """The records of a commit, which may be none; None when there is nothing at all to write."""
        entries = batch.entries()
        self._in_flight = len(entries)
        return entries if entries or batch.confirmed or batch.dropped else None

    def _append(self, batch: Batch, entries: list[Entry]) -> Callable[[Keeper], list[int]]:
        most_confirmed = _CONFIRM_STEP_OF_PRESS if batch.presses else 2 * CONFIRM_STEP
        return lambda keeper: keeper.append(
            entries, confirmed=batch.confirmed, dropped=batch.dropped, most_confirmed=most_confirmed
        )

    def _failed(self, batch: Batch, error: BaseException) -> None:
        if isinstance(error, StoreFaultError) and error.in_doubt:
            self._doubtful = batch
            # Whoever waits for a flush waits until the disk took or refused it, and it refused.
            self._flushes[:0] = batch.flushes
            batch.flushes = []
        else:
            self._put_back(batch)
        if batch.staged:
            self._group_max = max(1, len(batch.staged) // 4)

    def _committed(self, batch: Batch, seqs: list[int], *, presses_only: bool) -> None:
        store = self._store
        if not presses_only:
            self._group_max = min(BATCH_MAX, 2 * self._group_max)
            if store.refused and (not self._staged or self._group_max == BATCH_MAX):
                store.accept()
        if self._unsaved_confirmations():
            # So many at once that a commit did not hold them, or some came meanwhile: those wait for their
            # time, or a drain would be one commit after the other.
            self._confirmed_since_s = self._confirmed_since_s or asyncio.get_running_loop().time()
            report = store.report
            held = all(report.confirmed_seq(stream) >= seq for stream, seq in batch.confirmed.items())
            self._commit_wanted |= not (batch.presses or self._presses) and (self._closing or not held)
        if store.refused or store.lost or store.alerts:
            # While this lasts nobody else asks for a commit, also not for what was staged during this one.
            self._commit_wanted = True
        self._settle(batch, seqs)

    async def _recover(self) -> None:
        """Ask the disk again, and learn what became of a commit in doubt. Raises StoreFaultError."""
        try:
            came_through = await self._store.do(Keeper.recover, urgent=True)
        except StoreFaultError as fault:
            # On a full disk the log, which is written out beforehand, may still hold a press.
            if fault.reason is HealthReason.STORE_FULL and self._presses and self._doubtful is None:
                return
            raise
        doubtful, self._doubtful = self._doubtful, None
        if doubtful is not None and came_through:
            self._settle(doubtful, self._newest_seqs(doubtful.entries()))
        elif doubtful is not None:
            self._put_back(doubtful)

    def _newest_seqs(self, entries: list[Entry]) -> list[int]:
        """Sequence numbers of entries that are the newest on the disk."""
        report = self._store.report
        streams = [STREAM_OF_KIND[entry.kind] for entry in entries]
        next_seq = {stream: report.last_seq(stream) + 1 - streams.count(stream) for stream in Stream}
        seqs = []
        for stream in streams:
            seqs.append(next_seq[stream])
            next_seq[stream] += 1
        return seqs

    def _take_in(self) -> None:
        """Queue what the store's worker found to be written: alerts, and presses that a damage has taken."""
        store = self._store
        while store.alerts:
            self._presses.append(Deposit(store.alerts.popleft()))
        while store.lost:
            self._presses.append(store.lost.popleft())

    def _take(self, *, presses_only: bool) -> Batch:
        batch = Batch([self._presses.popleft() for _ in range(min(len(self._presses), BATCH_MAX))])
        if presses_only:
            return batch
        batch.staged = [self._staged.popleft() for _ in range(min(len(self._staged), self._group_max))]
        if self._dropped:
            batch.dropped = tuple(self._dropped.items())
            self._dropped = Counter()
        batch.confirmed = self._unsaved_confirmations()
        self._confirmed_since_s = None
        self._commit_wanted = bool(self._staged)
        if not self._staged:
            self._staged_since_s = None
            batch.flushes, self._flushes = self._flushes, []
        return batch

    def _unsaved_confirmations(self) -> dict[Stream, int]:
        counters = self._store.report.counters
        return {s: seq for s, seq in self._store.confirmed.items() if seq > counters[s].confirmed_seq}

    def _put_back(self, batch: Batch) -> None:
        self._presses.extendleft(reversed(batch.presses))
        self._staged.extendleft(reversed(batch.staged))
        self._dropped.update(dict(batch.dropped))
        self._flushes[:0] = batch.flushes
        if self._staged:
            self._staged_since_s = asyncio.get_running_loop().time()
        if self._store.refused:
            self._drop_excess()

    def _drop_excess(self) -> None:
        while len(self._staged) > STAGED_MAX:
            self._dropped[token_of(self._staged.popleft().kind)] += 1

    def _settle(self, batch: Batch, seqs: list[int]) -> None:
        for press, seq in zip(batch.presses, seqs, strict=False):
            self._store.settle(press, seq)
        for waiter in batch.flushes:
            if not waiter.done():
                waiter.set_result(None)
        grown = {press.stream for press in batch.presses}
        if batch.staged or batch.dropped:
            grown.add(Stream.TRAIL)
        self._store.tell_grown([stream for stream in _STREAMS if stream in grown])

    def _end_flushes(self) -> None:
        flushes, self._flushes = self._flushes, []
        for waiter in flushes:
            if not waiter.done():
                waiter.set_result(None)
