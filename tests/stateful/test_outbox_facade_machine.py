"""The whole outbox on a disk that refuses, stalls, leaves a commit in doubt, loses power and goes bad.

What is real: the facade, the writer, the keeper, SQLite, the files, and the operating system's refusals. What
is the machine's: time, which jumps, and when a stalled disk answers.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent import config
from agent.domain.fix import FixMode
from agent.domain.health import HealthBoard
from agent.domain.record import Alert, Body, Draft, Emergency, Gap, Kind, Position, StatusChange, Stream
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.hal.clock import SystemUtc
from agent.outbox import writer as writer_module
from agent.outbox.deposit import Deposit
from agent.outbox.fault import STORE_REASONS, OutboxClosedError
from agent.outbox.keeper import Keeper
from agent.outbox.outbox import Outbox
from agent.outbox.retention import Retention
from agent.outbox.writer import Writer
from agent.wire.body import unpack_body
from hil.rig import DiskTrouble
from hil.sim.hurt_disk import HurtWorker
from hil.sim.virtual_loop import VirtualLoop

T = TypeVar("T")
BUDGET_BYTES, REPLAY_BYTES = 12_000, 3_000
STAGED_MAX = 40
EPOCH_MS = 1_790_000_000_000
HEALED_WITHIN_S = 30.0
SALVAGE_MARGIN = 10_000
"""Sequence numbers that a salvage leaves out."""


class StallingWorker(HurtWorker):
    """A disk that is also able not to answer: what it was told then is done once it answers, in order."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stalled = False
        self._jobs: list[tuple[bool, Callable[[], Any], asyncio.Future[Any]]] = []

    async def run(self, work: Callable[[], T], *, urgent: bool = False) -> T:
        await asyncio.sleep(0)
        if not self.stalled and not self._jobs:
            return await super().run(work, urgent=urgent)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.append((urgent, work, future))
        return await future

    async def answer(self) -> None:
        """Do all that waits, the urgent first; what was cancelled meanwhile is done as well."""
        self.stalled = False
        while self._jobs:
            at = next((at for at, job in enumerate(self._jobs) if job[0]), 0)
            urgent, work, future = self._jobs.pop(at)
            try:
                result = await super().run(work, urgent=urgent)
            except BaseException as error:  # noqa: BLE001 - handed on, whatever it is
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)


class DoubtfulConnection:
    """A connection whose next COMMIT is reported as a failed flush, whether it was done or lost."""

    def __init__(self, connection: sqlite3.Connection, *, done: bool) -> None:
        self._connection = connection
        self._done = done
        self._told = False

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql != "COMMIT" or self._told:
            return self._connection.execute(sql, *arguments)
        self._told = True
        self._connection.execute("COMMIT" if self._done else "ROLLBACK")
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class MachineClock:
    """Boot time is the loop's."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.boot_id = "1" * 32

    def boottime_ns(self) -> int:
        return self._loop.now_ns

    def suspended_ns(self) -> int:
        return 0

    def system_utc(self) -> SystemUtc:
        return SystemUtc(EPOCH_MS + self._loop.now_ns // 1_000_000, synchronised=True, max_error_ms=20)


@dataclass(slots=True)
class Press:
    """One call of `put`.

    Attributes:
        number: which, over all lives.
        stored: what `put` gave back.
        place: journal and sequence number, once it said so.
        binding: whether the store must still have it: until it goes bad.
    """

    number: int
    stored: Deposit
    place: tuple[int, int] | None = None
    binding: bool = True

    @property
    def again(self) -> bool:
        """True when damage took it, and it was stored once more."""
        return self.place is not None and self.stored.seq not in (None, self.place[1])


@dataclass(slots=True)
class Life:
    """From one start of the process to its end."""

    presses: list[Press] = field(default_factory=list)
    staged: list[int] = field(default_factory=list)


class OutboxFacadeMachine(RuleBasedStateMachine):
    """Drives an Outbox; the model is what it has promised."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="facade-machine-"))
        self.folders = 0
        self.loop = VirtualLoop()
        self.clock = MachineClock(self.loop)
        self.rng = random.Random(3)
        self.numbers = 0
        self.presses: list[Press] = []
        self.flushed: set[int] = set()
        self.pending_flushes: list[asyncio.Task[None]] = []
        self.life = Life()
        self.aside_seen = 0
        self.dropped = 0
        self.trail_confirmed = False
        self.before = (writer_module.STAGED_MAX, writer_module.BATCH_MAX)
        writer_module.STAGED_MAX, writer_module.BATCH_MAX = STAGED_MAX, STAGED_MAX

    @initialize()
    def begin(self) -> None:
        self._start(self.root / "0")

    def teardown(self) -> None:
        try:
            if hasattr(self, "outbox"):
                self.heal_and_compare()
                self._end(close=True)
        finally:
            writer_module.STAGED_MAX, writer_module.BATCH_MAX = self.before
            self.loop.close()
            shutil.rmtree(self.root)

    # ------------------------------------------------------------------ the process

    def _start(self, folder: Path) -> None:
        self.folder = folder
        self.health = HealthBoard()
        self.worker = StallingWorker(folder)
        store = config.Store(directory=folder, synchronous="OFF", group_commit_s=10)
        self.outbox = Outbox(store, self.clock, self.worker, self.health)
        _make_small(self.outbox._store._keeper)
        self._count_dropped(self.outbox._writer)
        self.life = Life()
        self.pending_flushes = []
        self._do(self.outbox.open())
        self.running = self.loop.create_task(self.outbox.run(lambda: None))

    def _count_dropped(self, writer: Writer) -> None:
        drop_excess = writer._drop_excess

        def counted() -> None:
            before = len(writer._staged)
            drop_excess()
            self.dropped += before - len(writer._staged)

        writer._drop_excess = counted  # type: ignore[method-assign]  # the same, and counted

    def _do(self, work: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(600):
                return await work

        return self.loop.run_until_complete(bounded())

    def _on_loop(self, call: Callable[..., T], *arguments: Any) -> T:
        async def called() -> T:
            return call(*arguments)

        return self.loop.run_until_complete(called())

    def _pass(self, seconds: float) -> None:
        self._do(asyncio.sleep(seconds))
        if self.running.done():
            self.running.result()
        for press in self.life.presses:
            if press.place is None and press.stored.done() and not press.stored.cancelled():
                press.place = (self.outbox.journal, press.stored.result())
        self.pending_flushes = [task for task in self.pending_flushes if not task.done()]

    def _end(self, *, close: bool) -> None:
        if self.worker.stalled:
            self._do(self.worker.answer())
        self.running.cancel()
        self._do(asyncio.gather(self.running, *self.pending_flushes, return_exceptions=True))
        if not close:
            # Power is gone: what is on the disk now is what the next start finds.
            self.folders += 1
            after = self.root / str(self.folders)
            if self.folder.exists():
                shutil.copytree(self.folder, after)
            self.folder = after
        refused = self.worker.trouble is not None
        self._do(self.outbox.close())
        for press in self.life.presses:
            assert press.stored.done(), "nobody waits for an outbox that is closed"
            if press.place is not None or press.stored.cancelled():
                continue
            left_out = isinstance(press.stored.exception(), OutboxClosedError)
            assert refused or not left_out, "a disk that takes everything leaves nobody out"
            if close and not left_out:
                press.place = (self.outbox.journal, press.stored.result())
        self.presses += self.life.presses

    # ------------------------------------------------------------------ what happens

    def _draft(self, body: Body) -> Draft:
        now_ns = self.loop.now_ns
        return Draft(Stamp(now_ns, Utc(EPOCH_MS + now_ns // 1_000_000, UtcSource.GNSS, 50)), body)

    @rule(kind=st.sampled_from(["status", "emergency", "alert"]), count=st.integers(1, 3))
    def put(self, kind: str, count: int) -> None:
        for _ in range(count):
            self.numbers += 1
            bodies: dict[str, Body] = {
                "status": StatusChange("on_scene", "en_route", "on_scene", self.numbers),
                "emergency": Emergency(True, "emergency", self.numbers),
                "alert": Alert(f"press-{self.numbers}", "a test"),
            }
            stored = self._on_loop(self.outbox.put, self._draft(bodies[kind]))
            self.life.presses.append(Press(self.numbers, stored))
        self._pass(0.0)

    @rule(count=st.integers(1, 2 * STAGED_MAX), step_s=st.sampled_from([0.01, 1.0, 40.0]))
    def stage(self, count: int, step_s: float) -> None:
        for _ in range(count):
            self.numbers += 1
            lat_deg = 40 + self.numbers / 1e5
            lon_deg = -71 + self.rng.random() / 100
            body = Position(lat_deg, lon_deg, 5.0, 10.0, 90.0, FixMode.FIX_3D, 9, 0.9)
            self._on_loop(self.outbox.stage, self._draft(body))
            self.life.staged.append(self.numbers)
            self._pass(step_s)

    @rule()
    def flush(self) -> None:
        self.pending_flushes.append(self.loop.create_task(self.outbox.flush()))
        self._pass(0.01)

    @rule(seconds=st.sampled_from([0.0, 0.3, 3.0, 11.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self._pass(seconds)

    @rule(part=st.floats(0, 1), stream=st.sampled_from(list(Stream)))
    def confirm(self, part: float, stream: Stream) -> None:
        last_seq, confirmed = self.outbox.last_seq(stream), self.outbox.confirmed(stream)
        self.trail_confirmed |= stream is Stream.TRAIL
        self._on_loop(self.outbox.confirm, stream, confirmed + int(part * (last_seq - confirmed)))
        self._pass(0.0)

    @rule(trouble=st.sampled_from([None, *get_args(DiskTrouble)]))
    def disk_says(self, trouble: DiskTrouble | None) -> None:
        self.worker.trouble = trouble
        self._pass(0.0)

    @rule()
    def disk_stalls(self) -> None:
        self.worker.stalled = True

    @precondition(lambda self: self.worker.stalled)
    @rule()
    def disk_answers(self) -> None:
        self._do(self.worker.answer())
        self._pass(0.0)

    @rule(done=st.booleans())
    def next_commit_is_in_doubt(self, done: bool) -> None:
        store = self.outbox._store._keeper._store
        if store.is_open:
            doubtful: Any = DoubtfulConnection(store.file.connection, done=done)
            store.file._held = doubtful

    @precondition(lambda self: any(not press.stored.done() for press in self.life.presses))
    @rule()
    def caller_goes_away(self) -> None:
        next(press for press in self.life.presses if not press.stored.done()).stored.cancel()
        self._pass(0.0)

    @rule()
    def power_goes(self) -> None:
        self._end(close=False)
        self._start(self.folder)

    @rule()
    def orderly_restart(self) -> None:
        self._end(close=True)
        self._start(self.folder)

    @rule(stream=st.sampled_from(list(Stream)), at=st.floats(0, 0.999))
    def record_goes_bad(self, stream: Stream, at: float) -> None:
        """A bit of a record turns over while the store is in use, and no page shows it."""
        store = self.outbox._store._keeper._store
        if not store.is_open or store.in_doubt or self.worker.trouble is not None:
            return
        # The alert that tells of a salvage is looked for.
        statement = f"SELECT seq FROM {stream} WHERE kind NOT IN ({Kind.ALERT.value}, {Kind.GAP.value})"
        seqs = [seq for (seq,) in store.file.connection.execute(statement)]
        if seqs:
            seq = seqs[int(at * len(seqs))]
            store.file.connection.execute(
                f"UPDATE {stream} SET boottime_ms = boottime_ms + 64 WHERE seq = {seq}"
            )

    @rule(instead=st.sampled_from([None, b"", b"no database", bytes(8192)]))
    def store_loses_its_name(self, instead: bytes | None) -> None:
        """Somebody deletes the files, or puts others there; the next commit notices."""
        self.worker.trouble = None
        if self.worker.stalled:
            self._do(self.worker.answer())
        self._pass(HEALED_WITHIN_S)
        for path in self.folder.glob("outbox.db*"):
            path.unlink()
        if instead is not None:
            (self.folder / "outbox.db").write_bytes(instead)
        self.put("status", 1)
        self._pass(HEALED_WITHIN_S)

    @rule(how=st.sampled_from(["page", "half", "empty"]), at=st.floats(0, 0.999))
    def store_goes_bad(self, how: str, at: float) -> None:
        self._end(close=False)
        path = self.folder / "outbox.db"
        if path.exists() and path.stat().st_size:
            content = bytearray(path.read_bytes())
            page = int(at * len(content)) // 4096 * 4096
            if how == "page":
                content[page : page + 4096] = self.rng.randbytes(4096)
            else:
                del content[page if how == "half" else 0 :]
            path.write_bytes(content)
            if how == "empty":
                path.with_name("outbox.db-wal").unlink(missing_ok=True)
        # What told of an earlier damage may go with this one.
        self.aside_seen = self._asides()
        for press in self.presses:
            press.binding = False
        self.flushed.clear()
        self._start(self.folder)

    # ------------------------------------------------------------------ what must hold

    @rule()
    def heal_and_compare(self) -> None:
        self.worker.trouble = None
        if self.worker.stalled:
            self._do(self.worker.answer())
        self._pass(HEALED_WITHIN_S)
        self._do(self.outbox.flush())
        self._pass(0.0)
        assert all(press.stored.done() for press in self.life.presses), "a press still waits"
        assert not self.pending_flushes, "a flush still waits"
        assert not set(self.health.reasons()) & set(STORE_REASONS), self.health.details()
        assert self.outbox.backlog().unsaved == 0
        # What was dropped while the disk refused is told by now; the rest is on the disk.
        self.flushed |= set(self.life.staged)
        self._compare_events()
        self._compare_trail()
        if self._asides() > self.aside_seen:
            assert "store_set_aside" in self._alert_codes(), "a store was set aside and nobody is told"
        self.aside_seen = self._asides()

    def _compare_events(self) -> None:
        events, gaps = self._rows(Stream.EVENTS)
        numbers = [number for _, number in events if number]
        assert len(numbers) == len(set(numbers)), "a press was stored twice"
        again = {press.number for press in [*self.presses, *self.life.presses] if press.again}
        in_order = [number for number in numbers if number not in again]
        assert in_order == sorted(in_order), "presses changed their order"
        place_of = {number: seq for seq, number in events}
        for press in [*self.presses, *self.life.presses]:
            if press.place is None or not press.binding or press.place[0] != self.outbox.journal:
                continue
            seq = press.place[1]
            covered = any(first <= seq <= last for first, last, _ in gaps)
            assert place_of.get(press.number) == seq or covered, f"press {press.number} is lost"
        for press in self.life.presses:
            if press.place is None:
                assert press.stored.cancelled()
                mended = any(last - first >= SALVAGE_MARGIN - 1 for first, last, _ in gaps)
                assert press.number in place_of or mended, "going away does not take a press back"

    def _compare_trail(self) -> None:
        trail, gaps = self._rows(Stream.TRAIL)
        numbers = [number for _, number in trail]
        assert numbers == sorted(set(numbers)), "the trail is doubled or out of order"
        lost = self.flushed - set(numbers)
        told = sum(max((last - first + 1) % SALVAGE_MARGIN, count) for first, last, count in gaps)
        # The gap that tells what memory could not hold takes one number. Once it was delivered it may be
        # trimmed like any record, and what tells of that covers one number too.
        told += self.dropped if self.trail_confirmed else 0
        assert len(lost) <= told, f"{len(lost)} positions are gone and {told} are told"

    def _rows(self, stream: Stream) -> tuple[list[tuple[int, int]], list[tuple[int, int, int]]]:
        """(seq, number) of presses or positions, and (first, last, records) of gaps; without a hole."""
        records: list[tuple[int, int]] = []
        gaps: list[tuple[int, int, int]] = []
        after_seq = 0
        last_seq = self.outbox.last_seq(stream)
        while after_seq < last_seq:
            rows = self._do(self.outbox.read(stream, after_seq, max_records=50, max_bytes=2000))
            assert rows
            for row in rows:
                assert row.seq == after_seq + 1, "a number was passed over"
                after_seq = row.seq
                body = unpack_body(Kind(row.kind), row.body)
                if isinstance(body, Gap):
                    gaps.append((row.seq, body.last_seq, sum(count for _, count in body.counts)))
                    after_seq = body.last_seq
                else:
                    records.append((row.seq, _number(body)))
        assert after_seq == last_seq
        return records, gaps

    def _alert_codes(self) -> list[str]:
        rows = self._do(self.outbox.read(Stream.EVENTS, 0, max_records=10_000, max_bytes=1 << 24))
        bodies = [unpack_body(Kind(row.kind), row.body) for row in rows if row.kind == Kind.ALERT]
        return [body.code for body in bodies if isinstance(body, Alert)]

    def _asides(self) -> int:
        return len(list(self.folder.glob("outbox-damaged-*.db")))

    @invariant()
    def numbers_never_return(self) -> None:
        if not hasattr(self, "outbox"):
            return
        seqs_of: dict[int, list[int]] = {}
        for press in self.life.presses:
            if press.place is not None:
                seqs_of.setdefault(press.place[0], []).append(press.place[1])
        for journal, seqs in seqs_of.items():
            assert seqs == sorted(set(seqs)), "the order of puts is the order of numbers"
            earlier = [p.place[1] for p in self.presses if p.place is not None and p.place[0] == journal]
            assert not earlier or max(earlier) < seqs[0], "a number came back"
        for stream in Stream:
            backlog = self.outbox.backlog().streams[stream]
            assert 0 <= backlog.records <= self.outbox.last_seq(stream)
            assert self.outbox.confirmed(stream) <= self.outbox.last_seq(stream)


def _make_small(keeper: Keeper) -> None:
    """Budgets of kilobytes, for every store that this keeper is going to have."""

    def retention() -> Retention:
        return Retention(
            keeper._store, budget_bytes=BUDGET_BYTES, replay_budget_bytes=REPLAY_BYTES, replay_days=1
        )

    keeper._new_retention = retention  # type: ignore[method-assign]  # MiB are too much to fill
    keeper._retention = retention()


def _number(body: Body) -> int:
    """Which call made it; 0 for an alert of the outbox's own."""
    match body:
        case StatusChange() | Emergency():
            assert body.press_seq is not None
            return body.press_seq
        case Alert(code):
            return int(code.removeprefix("press-")) if code.startswith("press-") else 0
        case Position(lat_deg):
            return round((lat_deg - 40) * 1e5)
    raise AssertionError(body)


PROFILE = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

TestOutboxFacade = pytest.mark.timeout(300)(OutboxFacadeMachine.TestCase)
TestOutboxFacade.settings = PROFILE


class LongOutboxFacadeMachine(OutboxFacadeMachine):
    """The same for long, with other examples each time."""


TestOutboxFacadeAtLength = pytest.mark.slow(pytest.mark.timeout(1800)(LongOutboxFacadeMachine.TestCase))
TestOutboxFacadeAtLength.settings = settings(
    PROFILE,
    max_examples=int(os.environ.get("MDT_EXAMPLES", "1000")),
    stateful_step_count=40,
    derandomize=False,
)
