"""The store's file: the one connection, transactions, the log, and whether it is still the file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from agent.domain.health import HealthReason
from agent.outbox import database
from agent.outbox.database import Synchronous
from agent.outbox.fault import (
    LIBRARY_ERRORS,
    StoreDamagedError,
    StoreFaultError,
    StoreMovedError,
    named_fault,
    named_faults,
)
from agent.runtime.shortage import is_passing

_GARBLED = (sqlite3.OperationalError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InternalError)
_LOOK_BYTES = 128 * 1024
_SPARE_PAGES = 256
_SPARE_PART = 4
"""Free pages up to a quarter of the file are kept: they are used again, and moving pages wears the card."""


class StoreFile:
    """Knows of pages and transactions, not of records. Not thread-safe: one caller at a time.

    Every method raises StoreFaultError when the disk refuses and StoreDamagedError when the content is not
    what was written.
    """

    def __init__(self, folder: Path, synchronous: Synchronous) -> None:
        self.folder = folder
        self.path = folder / database.FILE_NAME
        self._name = str(self.path)
        self._synchronous = synchronous
        self._held: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._log_pages = 0

    # ------------------------------------------------------------------ the connection

    @property
    def is_open(self) -> bool:
        """True while there is a connection."""
        return self._held is not None

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection. Raises StoreFaultError while there is none."""
        if self._held is None:
            self.probe()  # which says why, where the disk still refuses
            raise StoreFaultError(HealthReason.STORE_IO_ERROR, f"{self.path}: not open")
        return self._held

    def open(self) -> sqlite3.Connection:
        """Open or create the file."""
        try:
            with damage_named(self.path), named_faults(str(self.path)):
                self.folder.mkdir(parents=True, exist_ok=True)
                database.see_that_it_may_be_written(self.path)
                self._held = database.connect(self.path, self._synchronous)
                self._inode = self._found_inode()
        except BaseException as error:
            self.abandon()
            if not isinstance(error, StoreFaultError):
                raise
            # SQLite says "unable to open" for many reasons; the operating system says which.
            self.probe()
            raise
        return self._held

    def probe(self) -> None:
        """See that the folder takes a file."""
        with named_faults(str(self.folder)):
            self.folder.mkdir(parents=True, exist_ok=True)
            database.probe(self.folder)

    def abandon(self) -> None:
        """Close the connection whatever state it is in. Idempotent, never raises."""
        connection, self._held = self._held, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def unreadable(self) -> str | None:
        """Which part of the store the disk does not give, in words; None when it gives all of it.

        Closes the connection: looking at its file from outside would lose it its locks.
        """
        self.abandon()
        for path in (self.path, self.path.with_name(self.path.name + "-wal")):
            try:
                if path.is_file():  # a pipe would have us wait
                    with path.open("rb", buffering=0) as file:
                        while file.read(_LOOK_BYTES):
                            pass
            except OSError as error:
                if is_passing(error):
                    return f"{path}: {error.strerror}"
        return None

    @property
    def moved(self) -> bool:
        """True when the open file has lost its name: what is written to it nobody would find again."""
        if self._held is None:
            return False
        try:
            return self._found_inode() != self._inode
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # nobody can say; what the disk thinks of it, the next write tells

    def _found_inode(self) -> tuple[int, int]:
        found = os.stat(self._name)  # noqa: PTH116 - at each commit, and three times as fast
        return found.st_dev, found.st_ino

    # ------------------------------------------------------------------ transactions and the log

    def begin(self) -> sqlite3.Connection:
        """Begin a write transaction. Raises StoreMovedError, before anything is written."""
        connection = self.connection
        if self.moved:
            raise StoreMovedError(f"{self.path} was deleted or replaced while it was in use")
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def commit(self) -> None:
        """Have it on the disk."""
        self.connection.execute("COMMIT")
        self._log_pages += 3

    def roll_back(self, error: BaseException) -> BaseException:
        """Undo the transaction that `error` ended; gives back what is to be raised for it."""
        if self._held is not None:
            with contextlib.suppress(sqlite3.Error):
                if self._held.in_transaction:
                    self._held.execute("ROLLBACK")
        return named_fault(str(self.path), error) if isinstance(error, LIBRARY_ERRORS) else error

    def checkpoint(self, *, wholly: bool = False) -> None:
        """Bring the log home, so that the next commit begins it anew; `wholly` writes every page anew."""
        mode = "TRUNCATE" if wholly else "PASSIVE"
        with named_faults(str(self.path)):
            self.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        self._log_pages = 0

    def write_out_log(self) -> None:
        """Give the log its size. An advantage, no condition: a full disk keeps no store from opening."""
        with contextlib.suppress(OSError):
            database.write_out_log(self.path)

    @property
    def checkpoint_due(self) -> bool:
        """True when the log has grown to its intended size."""
        return self._log_pages >= database.CHECKPOINT_PAGES

    def note_written(self, pages: int) -> None:
        """Count what a transaction added to the log beside the three pages of any."""
        self._log_pages += pages

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

    def stored_bytes(self) -> int:
        """Size of the file as SQLite counts it."""
        with named_faults(str(self.path)):
            pages: int = self.connection.execute("PRAGMA page_count").fetchone()[0]
        return pages * database.PAGE_BYTES


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what sqlite3 raises on garbled content while opening, and named_faults does not know, into damage.

    The statements of opening are right: where a column is unknown or a constraint fails, the file is wrong.
    """
    try:
        yield
    except _GARBLED as error:
        raise StoreDamagedError(f"{path}: {error}") from error
