"""The store against a plain model: whatever happens to it, what was committed is there or told by a gap."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.domain.fix import FixMode
from agent.domain.health import HealthReason
from agent.domain.record import (
    Alert,
    Body,
    Draft,
    Emergency,
    Health,
    Kind,
    Position,
    StatusChange,
    Stream,
    Telemetry,
)
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.outbox.counters import ROW_BYTES
from agent.outbox.entry import STREAM_OF_KIND, Entry, entry_of
from agent.outbox.fault import StoreFaultError
from agent.outbox.gaps import gap_of
from agent.outbox.retention import Retention
from agent.outbox.schema import MIGRATIONS, VERSION, Migration
from agent.outbox.simplify import MINUTE_MS
from agent.outbox.store import Store

BUDGET_BYTES = 16_000
REPLAY_BYTES = 4_000


def _add_note_table(number: int) -> Migration:
    def migration(connection: sqlite3.Connection) -> None:
        connection.execute(f"CREATE TABLE note_{number} (text TEXT)")

    return migration


MORE_MIGRATIONS = {
    **MIGRATIONS,
    **{number: _add_note_table(number) for number in range(VERSION, VERSION + 5)},
}


class OutboxMachine(RuleBasedStateMachine):
    """Drives the store and its upkeep; the model is a dictionary of everything that was committed."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="outbox-machine-"))
        self.folders = 0
        self.version = VERSION
        self.boots = 1
        self.now_ms = 0
        self.rng = random.Random(7)
        self.written: dict[Stream, dict[int, Entry]] = {stream: {} for stream in Stream}
        self.confirmed = dict.fromkeys(Stream, 0)
        self.journal = 0

    @initialize()
    def make(self) -> None:
        self.store = self._store(self.root / "0")
        self.store.open("boot-1")
        self.journal = self.store.journal
        self._attach()

    def teardown(self) -> None:
        self.store.file.abandon()
        shutil.rmtree(self.root)

    def _store(self, folder: Path) -> Store:
        return Store(folder, synchronous="OFF", migrations=MORE_MIGRATIONS, version=self.version)

    def _attach(self) -> None:
        self.retention = Retention(
            self.store, budget_bytes=BUDGET_BYTES, replay_budget_bytes=REPLAY_BYTES, replay_days=1
        )

    def _entry(self, body: Body, step_ms: int = 1000) -> Entry:
        self.now_ms += step_ms
        utc = Utc(1_700_000_000_000 + self.now_ms, UtcSource.GNSS, 50)
        return entry_of(Draft(Stamp(self.now_ms * 1_000_000, utc), body))

    def _append(self, entries: list[Entry], *, confirm: bool = False) -> None:
        seqs = self.store.append(entries, confirmed=self.confirmed if confirm else None)
        for seq, entry in zip(seqs, entries, strict=True):
            written = self.written[STREAM_OF_KIND[entry.kind]]
            assert seq not in written, "a sequence number came back"
            assert not written or seq > max(written)
            written[seq] = entry

    # ------------------------------------------------------------------ what happens to a store

    @rule(kind=st.sampled_from(["status", "emergency", "alert"]), confirm=st.booleans())
    def put(self, kind: str, *, confirm: bool) -> None:
        bodies: dict[str, Body] = {
            "status": StatusChange("on_scene", "en_route", "on_scene", len(self.written[Stream.EVENTS])),
            "emergency": Emergency(True, "emergency", None),
            "alert": Alert("test", "a test"),
        }
        self._append([self._entry(bodies[kind])], confirm=confirm)

    @rule(
        count=st.integers(1, 250),
        turn=st.floats(0, 0.001),
        step_ms=st.sampled_from([200, 1000, 10_000, 70_000]),
    )
    def group(self, count: int, turn: float, step_ms: int) -> None:
        entries = []
        for number in range(count):
            lat_deg = 42.3 + 0.0001 * number + self.rng.uniform(-turn, turn)
            body: Body = Position(lat_deg, -71.06, 10.0, 12.0, 90.0, FixMode.FIX_3D, 9, 0.9)
            if number % 5 == 4:
                body = Telemetry((("Speed", 43.2), ("Ambulance.Siren", True)))
            elif number % 31 == 30:
                body = Health(("gnss_no_fix",), ("gnss_no_fix",), ())
            entries.append(self._entry(body, step_ms))
        self._append(entries)

    @rule(stream=st.sampled_from(Stream), part=st.sampled_from([0.1, 0.5, 0.97, 1.0]), persist=st.booleans())
    def confirm(self, stream: Stream, part: float, *, persist: bool) -> None:
        newest = self.store.counters[stream].last_seq
        through_seq = self.confirmed[stream] + int(part * (newest - self.confirmed[stream]))
        self.confirmed[stream] = through_seq
        if persist:
            self.store.confirm({stream: through_seq})

    @rule(slices=st.integers(1, 30), later_ms=st.sampled_from([0, 0, 0, 100_000_000]))
    def keep_up(self, slices: int, later_ms: int) -> None:
        self.now_ms += later_ms
        for _ in range(slices):
            self.retention.slice(1_700_000_000_000 + self.now_ms)
        self.store.file.give_back(8)

    @rule()
    def checkpoint(self) -> None:
        self.store.file.checkpoint()

    @rule()
    def crash(self) -> None:
        """The files as they are on the disk, and nothing else, are what the next boot finds."""
        self.folders += 1
        after = self.root / str(self.folders)
        shutil.copytree(self.store.folder, after)
        self.store.file.abandon()
        shutil.rmtree(self.store.folder)
        self._reopen(after, clean=False)

    @rule()
    def close_and_reopen(self) -> None:
        self.store.close()
        self._reopen(self.store.folder, clean=True)

    @rule()
    def migrate(self) -> None:
        self.version = min(self.version + 1, max(MORE_MIGRATIONS) + 1)
        self.close_and_reopen()

    def _reopen(self, folder: Path, *, clean: bool) -> None:
        self.boots += 1
        self.store = self._store(folder)
        self.store.open(f"boot-{self.boots}")
        assert self.store.was_clean == clean
        assert self.store.boot == self.boots
        assert self.store.journal == self.journal
        self._attach()
        for stream in Stream:
            assert self.store.counters[stream].confirmed_seq <= self.confirmed[stream]
            self.confirmed[stream] = self.store.counters[stream].confirmed_seq

    @rule(count=st.integers(1, 400))
    def disk_full(self, count: int) -> None:
        """The file may not grow: a transaction is refused whole, and succeeds once there is room."""
        connection = self.store.file.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        entries = [self._entry(Alert("full", "x" * 60)) for _ in range(count)]
        before = self.store.counters[Stream.EVENTS].last_seq
        fault: StoreFaultError | None = None
        try:
            seqs = self.store.append(entries)
        except StoreFaultError as refused:
            fault = refused
        if fault is not None:
            assert fault.reason is HealthReason.STORE_FULL
            assert not fault.in_doubt
            assert self.store.counters[Stream.EVENTS].last_seq == before
            connection.execute("PRAGMA max_page_count = 1000000")
            assert self.store.recover() is False
            seqs = self.store.append(entries)
        connection.execute("PRAGMA max_page_count = 1000000")
        self.written[Stream.EVENTS].update(zip(seqs, entries, strict=True))

    # ------------------------------------------------------------------ what must hold all the time

    @invariant()
    def counters_are_true(self) -> None:
        for stream, counters in self.store.counters.items():
            records, size = self.store.file.connection.execute(
                f"SELECT count(*), coalesce(sum(length(body)), 0) FROM {stream} WHERE seq > ?",
                (counters.confirmed_seq,),
            ).fetchone()
            assert (counters.waiting_records, counters.waiting_bytes) == (records, size + ROW_BYTES * records)
            records, size = self.store.file.connection.execute(
                f"SELECT count(*), coalesce(sum(length(body)), 0) FROM {stream} WHERE seq BETWEEN ? AND ?",
                (counters.floor_seq, counters.confirmed_seq),
            ).fetchone()
            assert (counters.replay_records, counters.replay_bytes) == (records, size + ROW_BYTES * records)
            assert counters.last_seq == max(self.written[stream], default=0)

    @invariant()
    def every_sequence_number_is_a_record_or_told(self) -> None:
        for stream in Stream:
            counters = self.store.counters[stream]
            next_seq = 1
            after_seq = 0
            while rows := self.store.read(stream, after_seq, max_records=97, max_bytes=4_000):
                for row in rows:
                    assert row.seq == next_seq
                    if row.kind == Kind.GAP:
                        gap = gap_of(row)
                        next_seq = gap.last_seq + 1
                        assert stream is Stream.TRAIL or gap.reason == "trimmed"
                        assert gap.reason == "trimmed" or row.seq > 0
                        assert gap.reason != "trimmed" or gap.last_seq <= counters.confirmed_seq
                    else:
                        assert Entry(row.kind, *row[3:]) == self.written[stream][row.seq]
                        next_seq = row.seq + 1
                after_seq = next_seq - 1
            assert next_seq == counters.last_seq + 1

    @invariant()
    def a_point_a_minute_stays(self) -> None:
        confirmed_seq = self.store.counters[Stream.TRAIL].confirmed_seq
        written = self.written[Stream.TRAIL]
        made = [
            e.boottime_ms for seq, e in written.items() if seq > confirmed_seq and e.kind == Kind.POSITION
        ]
        rows = self.store.rows(Stream.TRAIL, confirmed_seq, 1 << 40, 1 << 30)
        kept = [row.boottime_ms for row in rows if row.kind == Kind.POSITION]
        assert bool(kept) == bool(made)
        for earlier, later in pairwise(kept):
            if later - earlier > MINUTE_MS:
                assert not any(earlier < at < later for at in made)

    @invariant()
    def the_newest_event_of_each_kind_is_known(self) -> None:
        written = self.written[Stream.EVENTS]
        for kind in (Kind.EMERGENCY, Kind.STATUS, Kind.ALERT):
            seq = max((seq for seq, entry in written.items() if entry.kind == kind), default=None)
            row = self.store.latest(kind)
            assert (None if row is None else row.seq) == seq


PROFILE = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = PROFILE


class LongOutboxMachine(OutboxMachine):
    """The same for long, with other examples each time."""


TestOutboxAtLength = pytest.mark.slow(pytest.mark.timeout(1800)(LongOutboxMachine.TestCase))
TestOutboxAtLength.settings = settings(
    PROFILE,
    max_examples=int(os.environ.get("MDT_EXAMPLES", "1000")),
    stateful_step_count=60,
    derandomize=False,
)
