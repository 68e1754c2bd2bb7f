"""The store: sequences, counters, reading, opening, versions, refusals."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.domain.health import HealthReason
from agent.domain.record import Gap, Kind, Stream
from agent.outbox import database
from agent.outbox.entry import entry_of
from agent.outbox.fault import StoreDamagedError, StoreFaultError, StoreVersionError, named_faults
from agent.outbox.gaps import gap_of
from agent.outbox.schema import VERSION
from agent.outbox.store import Store
from agent.wire.body import pack_body, unpack_body

MANY = {"max_records": 10_000, "max_bytes": 1 << 30}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, entropy=lambda size: b"\x01" * size)
    store.open("boot-a")
    yield store
    store.file.abandon()


def fill(store: Store, scribe: Any, count: int) -> list[int]:
    return store.append([entry_of(scribe.position()) for _ in range(count)])


def test_each_stream_has_its_own_sequence_without_holes(store: Store, scribe: Any) -> None:
    drafts = [scribe.position(), scribe.press(), scribe.telemetry(), scribe.emergency(), scribe.health()]
    assert store.append([entry_of(draft) for draft in drafts]) == [1, 1, 2, 2, 3]
    rows = store.read(Stream.EVENTS, 0, **MANY)
    assert [(row.seq, Kind(row.kind)) for row in rows] == [(1, Kind.STATUS), (2, Kind.EMERGENCY)]
    assert unpack_body(Kind.STATUS, rows[0].body) == drafts[1].body
    assert rows[0].boot == 1
    assert rows[0].utc_ms == drafts[1].stamp.utc.unix_ms
    assert rows[0].boottime_ms == drafts[1].stamp.boottime_ns // 1_000_000


def test_sequence_numbers_never_return_also_from_an_empty_store(tmp_path: Path, scribe: Any) -> None:
    store = Store(tmp_path)
    store.open("boot-a")
    fill(store, scribe, 3)
    store.confirm({Stream.TRAIL: 3})
    with store.transaction() as connection:
        connection.execute("DELETE FROM trail")
        store.counters[Stream.TRAIL].floor_seq = 4
        store.counters[Stream.TRAIL].replay_records = store.counters[Stream.TRAIL].replay_bytes = 0
    store.close()
    store = Store(tmp_path)
    store.open("boot-a")
    assert fill(store, scribe, 1) == [4]
    store.close()


def test_reading_is_bounded_by_records_bytes_and_last(store: Store, scribe: Any) -> None:
    fill(store, scribe, 1000)
    size = len(store.read(Stream.TRAIL, 0, max_records=1, max_bytes=0)[0].body)
    assert [row.seq for row in store.read(Stream.TRAIL, 7, max_records=3, max_bytes=1 << 20)] == [8, 9, 10]
    assert len(store.read(Stream.TRAIL, 0, max_records=1000, max_bytes=10 * size)) == 10
    assert len(store.read(Stream.TRAIL, 0, max_records=1000, max_bytes=600 * size)) == 600
    assert [row.seq for row in store.read(Stream.TRAIL, 990, last_seq=993, **MANY)] == [991, 992, 993]
    assert store.read(Stream.TRAIL, 1000, **MANY) == []
    assert store.read(Stream.TRAIL, 0, max_records=0, max_bytes=100) == []
    assert store.read(Stream.EVENTS, 0, **MANY) == []
    assert store.read(Stream.TRAIL, -5, max_records=1, max_bytes=1)[0].seq == 1


def test_confirming_moves_records_to_the_replay_window(store: Store, scribe: Any) -> None:
    fill(store, scribe, 10)
    before = store.counters[Stream.TRAIL].copy()
    store.confirm({Stream.TRAIL: 4, Stream.EVENTS: 9})
    counters = store.counters[Stream.TRAIL]
    assert (counters.waiting_records, counters.replay_records, counters.confirmed_seq) == (6, 4, 4)
    assert counters.waiting_bytes + counters.replay_bytes == before.waiting_bytes
    assert store.counters[Stream.EVENTS].confirmed_seq == 0
    store.confirm({Stream.TRAIL: 2})
    assert store.counters[Stream.TRAIL].confirmed_seq == 4
    oldest = store.oldest_waiting(Stream.TRAIL)
    assert oldest is not None
    assert oldest.seq == 5
    assert [row.seq for row in store.read(Stream.TRAIL, 0, last_seq=4, **MANY)] == [1, 2, 3, 4]


def test_boots_are_counted(tmp_path: Path) -> None:
    counts = []
    for boot_id in ("a", "a", "b", "c", "a"):
        store = Store(tmp_path)
        store.open(boot_id)
        counts.append(store.boot)
        store.close()
    assert counts == [1, 1, 2, 3, 1]


def test_what_memory_dropped_takes_one_number_and_is_told(store: Store, scribe: Any) -> None:
    fill(store, scribe, 1)
    draft = entry_of(scribe.position())
    assert store.append([draft], dropped=[("position", 40), ("telemetry", 8)]) == [3]
    gap = gap_of(store.read(Stream.TRAIL, 1, **MANY)[0])
    assert gap == Gap(2, "evicted", (("position", 40), ("telemetry", 8)))


def test_only_one_connection_at_a_time(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path)
    with pytest.raises(StoreFaultError, match="locked") as refused:
        other.open("boot-b")
    assert refused.value.reason is HealthReason.STORE_IO_ERROR
    assert not other.is_open


def test_a_refused_transaction_leaves_nothing(store: Store, scribe: Any) -> None:
    fill(store, scribe, 2)
    store.file.connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreFaultError) as refused:
        fill(store, scribe, 5000)
    assert refused.value.reason is HealthReason.STORE_FULL
    assert not refused.value.in_doubt
    assert store.counters[Stream.TRAIL].last_seq == 2
    store.file.connection.execute("PRAGMA max_page_count = 100000")
    assert store.recover() is False
    assert fill(store, scribe, 1) == [3]


class StubbornConnection:
    """The real connection, but a COMMIT is carried out and then reported as a failed flush."""

    def __init__(self, connection: sqlite3.Connection, *, comes_through: bool) -> None:
        self._connection = connection
        self._comes_through = comes_through

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self._connection.execute("COMMIT" if self._comes_through else "ROLLBACK")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
            raise error
        return self._connection.execute(sql, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("comes_through", [True, False])
def test_a_commit_in_doubt_is_looked_up_not_repeated(
    store: Store, scribe: Any, *, comes_through: bool
) -> None:
    fill(store, scribe, 2)
    store.file._held = StubbornConnection(store.file.connection, comes_through=comes_through)  # type: ignore[assignment]
    with pytest.raises(StoreFaultError) as refused:
        store.append([entry_of(scribe.press())])
    assert refused.value.in_doubt
    with pytest.raises(StoreFaultError, match="in doubt"):
        store.confirm({Stream.TRAIL: 1})
    assert store.recover() is comes_through
    assert store.counters[Stream.EVENTS].last_seq == (1 if comes_through else 0)
    assert store.append([entry_of(scribe.press())]) == [2 if comes_through else 1]


def test_recovering_may_find_another_store(store: Store, scribe: Any, tmp_path: Path) -> None:
    fill(store, scribe, 1)
    store._entropy = lambda size: b"\x02" * size
    store.file._held = StubbornConnection(store.file.connection, comes_through=False)  # type: ignore[assignment]
    with pytest.raises(StoreFaultError):
        fill(store, scribe, 1)
    store.file.abandon()
    for path in tmp_path.glob("outbox*"):
        path.unlink()
    assert store.recover() is False
    assert store.journal == 0x02020202
    assert fill(store, scribe, 1) == [1]


@pytest.mark.parametrize("emptied", [True, False])
def test_an_earlier_state_is_damage_and_what_was_known_stays_known(
    store: Store, scribe: Any, tmp_path: Path, *, emptied: bool
) -> None:
    fill(store, scribe, 3)
    store.file.checkpoint()
    earlier = (tmp_path / database.FILE_NAME).read_bytes()
    fill(store, scribe, 3)
    store.file._held = StubbornConnection(store.file.connection, comes_through=False)  # type: ignore[assignment]
    with pytest.raises(StoreFaultError):
        fill(store, scribe, 1)
    store.file.abandon()
    for path in tmp_path.glob("outbox*"):
        path.unlink()
    (tmp_path / database.FILE_NAME).write_bytes(earlier)
    if emptied:
        connection = sqlite3.connect(tmp_path / database.FILE_NAME)
        connection.execute("DELETE FROM trail")
        connection.commit()
        connection.close()
    with pytest.raises(StoreDamagedError, match="lost its records" if emptied else "ends at 3, 6 was given"):
        store.recover()
    assert not store.is_open
    assert store.journal == 0x01010101
    assert store.counters[Stream.TRAIL].last_seq == 6


def test_the_parts_of_a_gap_claim_no_more_than_the_whole(store: Store, scribe: Any) -> None:
    fill(store, scribe, 15)
    whole = Gap(15, "thinned", (("health", 1), ("position", 10), ("telemetry", 4)))
    rows = store.rows(Stream.TRAIL, 0, 15, 15)
    with store.transaction() as connection:
        connection.execute("DELETE FROM trail")
        gap = rows[0]._replace(kind=Kind.GAP.value, body=pack_body(whole))
        store.tables[Stream.TRAIL].insert(connection, [gap])
        counters = store.counters[Stream.TRAIL]
        counters.waiting_records = 1
        counters.waiting_bytes = 32 + len(gap.body)
    for through_seq in range(1, 15):
        store.confirm({Stream.TRAIL: through_seq})
        parts = [gap_of(row) for row in store.read(Stream.TRAIL, 0, **MANY)]
        claimed = [sum(count for _, count in part.counts) for part in parts]
        assert claimed == [*[1] * through_seq, 15 - through_seq]
        total: Counter[str] = Counter()
        for part in parts:
            total.update(dict(part.counts))
        assert total == dict(whole.counts)


def test_a_store_from_the_future_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.open("boot-a")
    store.close()
    connection = sqlite3.connect(tmp_path / database.FILE_NAME)
    connection.execute("CREATE TABLE trip (trip INTEGER)")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (tmp_path / database.FILE_NAME).read_bytes()
    with pytest.raises(StoreVersionError, match="version 99"):
        Store(tmp_path).open("boot-a")
    assert (tmp_path / database.FILE_NAME).read_bytes() == before


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / database.FILE_NAME)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    with pytest.raises(StoreVersionError, match="not an outbox"):
        Store(tmp_path).open("boot-a")


def test_migrations_run_in_order_and_keep_the_records(tmp_path: Path, scribe: Any) -> None:
    store = Store(tmp_path)
    store.open("boot-a")
    fill(store, scribe, 5)
    store.close()
    migrations = {
        VERSION: lambda connection: connection.execute("ALTER TABLE trail ADD COLUMN quality INTEGER"),
        VERSION + 1: lambda connection: connection.execute("UPDATE trail SET quality = seq"),
    }
    store = Store(tmp_path, migrations=migrations, version=VERSION + 2)
    store.open("boot-a")
    assert store.file.connection.execute("SELECT sum(quality) FROM trail").fetchone() == (15,)
    assert store.file.connection.execute("PRAGMA user_version").fetchone() == (VERSION + 2,)
    assert len(store.read(Stream.TRAIL, 0, **MANY)) == 5
    store.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, scribe: Any) -> None:
    store = Store(tmp_path)
    store.open("boot-a")
    fill(store, scribe, 5)
    store.close()

    def halfway(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM trail")
        raise LookupError("the lights went out")

    with pytest.raises(LookupError):
        Store(tmp_path, migrations={VERSION: halfway}, version=VERSION + 1).open("boot-a")
    store = Store(tmp_path)
    store.open("boot-a")
    assert len(store.read(Stream.TRAIL, 0, **MANY)) == 5
    store.close()


def test_the_log_is_written_out_and_its_rest_means_nothing(store: Store, scribe: Any, tmp_path: Path) -> None:
    log = tmp_path / "outbox.db-wal"
    assert log.stat().st_size == database.WAL_BYTES
    fill(store, scribe, 3)
    after = tmp_path / "after"
    after.mkdir()
    for name in ("outbox.db", "outbox.db-wal"):
        shutil.copy(tmp_path / name, after / name)
    crashed = Store(after)
    crashed.open("boot-b")
    assert not crashed.was_clean
    assert len(crashed.read(Stream.TRAIL, 0, **MANY)) == 3
    crashed.close()


def test_the_log_does_not_outgrow_its_size_when_brought_home_in_time(
    store: Store, scribe: Any, tmp_path: Path
) -> None:
    for _ in range(500):
        fill(store, scribe, 10)
        if store.file.checkpoint_due:
            store.file.checkpoint()
    assert (tmp_path / "outbox.db-wal").stat().st_size == database.WAL_BYTES


def test_space_is_given_back(store: Store, scribe: Any, tmp_path: Path) -> None:
    fill(store, scribe, 50_000)
    store.file.checkpoint()
    before = (tmp_path / "outbox.db").stat().st_size
    with store.transaction() as connection:
        connection.execute("DELETE FROM trail WHERE seq < 49000")
    slices = 0
    while store.file.give_back(64):
        slices += 1
    store.file.checkpoint()
    assert slices > 3
    assert (tmp_path / "outbox.db").stat().st_size < before / 2


def test_counters_that_contradict_the_records_are_damage(store: Store, scribe: Any, tmp_path: Path) -> None:
    fill(store, scribe, 5)
    with store.transaction() as connection:
        connection.execute("DELETE FROM trail")
    with pytest.raises(StoreDamagedError, match="without a trace"):
        store.read(Stream.TRAIL, 0, **MANY)
    store.close()
    with pytest.raises(StoreDamagedError, match="lost its records"):
        Store(tmp_path).open("boot-a")


def test_errors_of_the_operating_system_have_names(tmp_path: Path) -> None:
    for number, reason in (
        (28, HealthReason.STORE_FULL),
        (30, HealthReason.STORE_READ_ONLY),
        (5, HealthReason.STORE_IO_ERROR),
    ):
        with pytest.raises(StoreFaultError) as fault, named_faults("disk"):
            raise OSError(number, os.strerror(number))
        assert fault.value.reason is reason


def test_mistakes_in_sql_are_no_fault_of_the_disk(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError), named_faults("disk"):
        store.file.connection.execute("SELECT nothing FROM nowhere")


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    with pytest.raises(StoreFaultError):
        Store(tmp_path / "data").open("boot-a")
