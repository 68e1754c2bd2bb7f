"""The store's file: opening, checking, transactions, and a disk that refuses."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from agent.domain.health import HealthReason
from agent.domain.record import Stream
from agent.outbox import database
from agent.outbox.counters import Counters
from agent.outbox.database import Synchronous
from agent.outbox.fault import StoreDamagedError, StoreFaultError, named_faults
from agent.outbox.gaps import MOST_BOOTS, within
from agent.outbox.schema import (
    MIGRATIONS,
    RECORD_COLUMNS,
    VERSION,
    Migration,
    create,
    is_empty,
    is_journal,
    migrate,
)

_SMALL_STORE_BYTES = 4 << 20
_CHECKED_ROWS = 256
_KEPT_BOOTS = 1000
_GARBLED = (sqlite3.OperationalError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InternalError)
_SPARE_PAGES = 256
_SPARE_PART = 4
"""Free pages up to a quarter of the file are kept: they are used again, and moving pages wears the card."""


class StoreFile:
    """The file with its connection, its counters and its transactions. Not thread-safe: one caller at a time.

    Every method raises StoreFaultError when the disk refuses and StoreDamagedError when the content is not
    what was written; after either nothing of the call has happened (but see `recover`).
    """

    def __init__(
        self,
        folder: Path,
        *,
        synchronous: Synchronous = "FULL",
        entropy: Callable[[int], bytes] = os.urandom,
        migrations: Mapping[int, Migration] = MIGRATIONS,
        version: int = VERSION,
    ) -> None:
        self.folder = folder
        self.path = folder / database.FILE_NAME
        self.journal = 0
        self.boot = 0
        self.boot_ids: dict[int, str] = {}
        self.was_clean = True
        self.counters: dict[Stream, Counters] = {stream: Counters() for stream in Stream}
        self._synchronous = synchronous
        self._entropy = entropy
        self._migrations = migrations
        self._version = version
        self._boot_id = ""
        self._open_connection: sqlite3.Connection | None = None
        self._log_pages = 0
        # What last_seq would be had the refused transaction come through; see recover.
        self._in_doubt: dict[Stream, int] | None = None

    # ------------------------------------------------------------------ opening and closing

    @property
    def is_open(self) -> bool:
        """True while there is a connection."""
        return self._open_connection is not None

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection. Raises StoreFaultError while there is none."""
        if self._open_connection is None:
            raise StoreFaultError(HealthReason.STORE_IO_ERROR, f"{self.path}: not open")
        return self._open_connection

    def open(self, boot_id: str) -> None:
        """Open, create or migrate the store and register this boot; costs the same at any number of records.

        Raises StoreVersionError for a store of a newer agent.
        """
        self._boot_id = boot_id
        try:
            with _damage_named(self.path), named_faults(str(self.path)):
                self.folder.mkdir(parents=True, exist_ok=True)
                connection = database.connect(self.path, self._synchronous)
        except StoreFaultError:
            # SQLite says "unable to open" for many reasons; the operating system says which.
            with named_faults(str(self.folder)):
                database.probe(self.folder)
            raise
        self._open_connection = connection
        try:
            with _damage_named(self.path), named_faults(str(self.path)):
                self._create_in_empty(connection)
            # Not under _damage_named: a mistake in a migration must not cost a sound store its name.
            with named_faults(str(self.path)):
                migrate(connection, migrations=self._migrations, version=self._version)
            with _damage_named(self.path), named_faults(str(self.path)):
                self._load(connection)
                self._check(connection)
            with _damage_named(self.path):
                self._register(boot_id)
        except BaseException:
            self.abandon()
            raise
        # The log's size is an advantage, not a condition: a full disk must not keep the store from opening.
        with contextlib.suppress(OSError):
            database.write_out_log(self.path)

    def _create_in_empty(self, connection: sqlite3.Connection) -> None:
        if is_empty(connection):
            journal = int.from_bytes(self._entropy(4), "big") or 1
            connection.execute("BEGIN IMMEDIATE")
            create(connection, journal)
            connection.execute("COMMIT")

    def _load(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("SELECT journal, clean FROM store WHERE id = 1").fetchone()
        if found is None or not is_journal(found[0]):
            raise StoreDamagedError(f"{self.path}: the store has lost its identity")
        self.journal, self.was_clean = found[0], bool(found[1])
        self.counters = {stream: Counters.load(connection, stream) for stream in Stream}

    def _check(self, connection: sqlite3.Connection) -> None:
        """A bounded look at the content: all of a small store, both ends of a large one."""
        pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
        small = pages * database.PAGE_BYTES <= _SMALL_STORE_BYTES
        if small:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise StoreDamagedError(f"{self.path}: {verdict}")
        for stream, counters in self.counters.items():
            select = f"SELECT {RECORD_COLUMNS} FROM {stream.value}"  # noqa: S608 - constant name
            connection.execute(f"{select} ORDER BY seq LIMIT ?", (_CHECKED_ROWS,)).fetchall()
            connection.execute(
                f"{select} WHERE seq > ? ORDER BY seq LIMIT ?", (counters.confirmed_seq, _CHECKED_ROWS)
            ).fetchall()
            tail = connection.execute(f"{select} ORDER BY seq DESC LIMIT ?", (_CHECKED_ROWS,)).fetchall()
            if tail and tail[0][0] > counters.last_seq:
                raise StoreDamagedError(f"{self.path}: {stream} has records newer than its counters")
            if not tail and counters.waiting_records:
                raise StoreDamagedError(f"{self.path}: {stream} has lost its records")
        if small:
            self._count(connection)

    def _count(self, connection: sqlite3.Connection) -> None:
        """See that no record is missing: a page in the wrong place may fit where it lies."""
        for stream, counters in self.counters.items():
            found: int = connection.execute(
                f"SELECT count(*) FROM {stream.value} WHERE seq >= ?",  # noqa: S608 - constant name
                (counters.floor_seq,),
            ).fetchone()[0]
            counted = counters.waiting_records + counters.replay_records
            if found != counted:
                raise StoreDamagedError(f"{self.path}: {stream} has {found} records and counted {counted}")

    def _register(self, boot_id: str) -> None:
        with self.transaction() as connection:
            connection.execute("UPDATE store SET clean = 0")
            found = connection.execute("SELECT boot FROM boot WHERE boot_id = ?", (boot_id,)).fetchone()
            if found is None:
                found = connection.execute(
                    "INSERT INTO boot (boot, boot_id) SELECT coalesce(max(boot), 0) + 1, ? FROM boot"
                    " RETURNING boot",
                    (boot_id,),
                ).fetchone()
                connection.execute("DELETE FROM boot WHERE boot <= ?", (found[0] - _KEPT_BOOTS,))
            if not within(found[0], 1, MOST_BOOTS):
                raise StoreDamagedError(f"{self.path}: this would be boot {found[0]}")
            self.boot_ids = dict(connection.execute("SELECT boot, boot_id FROM boot"))
        self.boot = found[0]

    def recover(self) -> bool:
        """Probe by writing, and open again where the old connection may be stuck.

        Returns True when the transaction refused last is on the disk after all: a flush that failed does not
        mean that nothing was written, and writing the same again would double a press. What is found may be
        another store (see `journal`): the folder was emptied or is on another disk by now.

        Raises StoreDamagedError for an earlier state of this store, with the counters as they were before:
        numbers that were given already would be given again.
        """
        if self._in_doubt is None and self.is_open and self._takes_writes():
            return False
        # Prove it before the connection goes: while it lives, what is stored can still be read and delivered.
        with named_faults(str(self.folder)):
            self.folder.mkdir(parents=True, exist_ok=True)
            database.probe(self.folder)
        self.abandon()
        expected, self._in_doubt = self._in_doubt, None
        journal, known = self.journal, self.counters
        try:
            self.open(self._boot_id)
            if self.journal != journal:
                return False
            self._compare(known)
            if expected is not None:
                # The refused pages may be clean in memory and absent on the disk: write them anew.
                with named_faults(str(self.path)):
                    self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                with contextlib.suppress(OSError):
                    database.write_out_log(self.path)
        except BaseException as error:
            self._in_doubt = expected
            # Salvage trusts what the process knows, not what a damaged file says; of another store than ours
            # the process knows nothing.
            if self.journal == journal or not isinstance(error, StoreDamagedError):
                self.journal, self.counters = journal, known
            raise
        return expected is not None and expected == {
            stream: c.last_seq for stream, c in self.counters.items()
        }

    def _compare(self, known: Mapping[Stream, Counters]) -> None:
        for stream, counters in self.counters.items():
            if counters.last_seq < known[stream].last_seq:
                self.abandon()
                raise StoreDamagedError(
                    f"{self.path}: {stream} ends at {counters.last_seq}, {known[stream].last_seq} was given"
                )

    def _takes_writes(self) -> bool:
        try:
            self.checkpoint()
            with self.transaction() as connection:
                connection.execute("UPDATE store SET clean = 0")
        except StoreFaultError as fault:
            if fault.reason is HealthReason.STORE_FULL:
                raise
            self._in_doubt = None
            return False
        return True

    def close(self) -> None:
        """Mark the store clean, bring the log home and close. Idempotent.

        Raises StoreFaultError when the disk refuses the mark; the connection is closed all the same.
        """
        if self._open_connection is None:
            return
        try:
            with self.transaction() as connection:
                connection.execute("UPDATE store SET clean = 1")
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the connection whatever state it is in. Idempotent, never raises."""
        connection, self._open_connection = self._open_connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def forget(self) -> None:
        """Close the connection and forget a transaction in doubt: the store is set aside."""
        self.abandon()
        self._in_doubt = None

    # ------------------------------------------------------------------ transactions

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: counters that changed are saved with it, and go back when it fails."""
        connection = self.connection
        if self._in_doubt is not None:
            raise StoreFaultError(HealthReason.STORE_IO_ERROR, f"{self.path}: the last commit is in doubt")
        before = {stream: counters.copy() for stream, counters in self.counters.items()}
        try:
            with named_faults(str(self.path)):
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                for stream, counters in self.counters.items():
                    if counters != before[stream]:
                        counters.save(connection, stream)
                connection.execute("COMMIT")
        except BaseException as error:
            if isinstance(error, StoreFaultError) and error.in_doubt:
                self._in_doubt = {stream: counters.last_seq for stream, counters in self.counters.items()}
            self.counters = before
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise
        self._log_pages += 3

    def checkpoint(self) -> None:
        """Bring the log home, so that the next commit begins it anew."""
        with named_faults(str(self.path)):
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._log_pages = 0

    @property
    def checkpoint_due(self) -> bool:
        """True when the log has grown to its intended size."""
        return self._log_pages >= database.CHECKPOINT_PAGES

    def give_back(self, pages: int) -> bool:
        """Return up to `pages` free pages to the file system. True when there were enough to be worth it."""
        with named_faults(str(self.path)):
            connection = self.connection
            total: int = connection.execute("PRAGMA page_count").fetchone()[0]
            free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
            if free <= max(_SPARE_PAGES, total // _SPARE_PART):
                return False
            connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
        self._log_pages += 2 * pages
        return True

    def note_written(self, pages: int) -> None:
        """Count what a transaction of upkeep added to the log."""
        self._log_pages += pages

    def stored_bytes(self) -> int:
        """Size of the store's file as SQLite counts it."""
        with named_faults(str(self.path)):
            pages: int = self.connection.execute("PRAGMA page_count").fetchone()[0]
        return pages * database.PAGE_BYTES


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn what sqlite3 raises on garbled content while opening, and named_faults does not know, into damage.

    The statements of opening are right: where a column is unknown or a constraint fails, the file is wrong.
    """
    try:
        yield
    except _GARBLED as error:
        raise StoreDamagedError(f"{path}: {error}") from error
