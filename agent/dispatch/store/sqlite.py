"""The store in one SQLite file: nothing to install."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agent.dispatch.store.engine import Connection, StoreDataError, StoreError, StoreOwnedError, Values
from agent.dispatch.store.schema import VERSION, statements

BUSY_MS = 5_000


class SqliteEngine:
    """A file in WAL mode: readers do not wait for the writer. Implements `engine.Engine`."""

    name = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.where = str(path)

    def own(self) -> Connection:
        """See `Engine.own`."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            owner = self._claim()
            try:
                connection = SqliteConnection(self._open(), owner)
            except BaseException:
                owner.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self.where}: {error}") from error
        try:
            with connection.transaction():
                for statement in statements(
                    whole_number="INTEGER",
                    bytes_type="BLOB",
                    real="REAL",
                    clustered=" WITHOUT ROWID",
                    by_day="",
                ):
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO meta VALUES ('version', :version) ON CONFLICT DO NOTHING",
                    {"version": str(VERSION)},
                )
            self._check_version(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def look(self) -> Connection:
        """See `Engine.look`."""
        try:
            if not self._path.exists():
                raise StoreError(f"{self.where}: there is no such store")
            connection = SqliteConnection(self._open(read_only=True))
        except sqlite3.Error as error:
            raise StoreError(f"{self.where}: {error}") from error
        try:
            self._check_version(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def before_insert(self, connection: Connection, table: str, received_day: int) -> None:
        """Nothing to do."""

    def drop_days(self, connection: Connection, table: str, before_day: int) -> int:
        """See `Engine.drop_days`."""
        return connection.execute(f"DELETE FROM {table} WHERE received_day < :day", {"day": before_day})

    def _claim(self) -> sqlite3.Connection:
        """A lock that ends with the process, however that ends: two writers would undo each other's."""
        owner = sqlite3.connect(
            f"{self._path}-owner", timeout=0, check_same_thread=False, isolation_level=None
        )
        try:
            owner.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            owner.close()
            if not isinstance(error, sqlite3.OperationalError):
                raise
            raise StoreOwnedError(f"{self.where}: another service writes to it ({error})") from error
        return owner

    def _open(self, *, read_only: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            else:
                connection.execute("PRAGMA journal_mode = WAL")
                # A receipt goes out after the commit: it must be on the disk, not on its way there.
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA wal_autocheckpoint = 4000")
            connection.execute("PRAGMA cache_size = -16000")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _check_version(self, connection: Connection) -> None:
        version = connection.query("SELECT value FROM meta WHERE name = 'version'")
        if version != [(str(VERSION),)]:
            raise StoreError(f"{self.where}: a store of version {version}; this service knows {VERSION}")


class SqliteConnection:
    """Implements `engine.Connection`. May move between threads, but only one uses it at a time."""

    def __init__(self, connection: sqlite3.Connection, owner: sqlite3.Connection | None = None) -> None:
        self._connection = connection
        self._owner = owner

    def execute(self, sql: str, values: Values | None = None) -> int:
        """See `Connection.execute`."""
        with _translated():
            return self._connection.execute(sql, values or {}).rowcount

    def execute_many(self, sql: str, values: Sequence[Values]) -> None:
        """See `Connection.execute_many`."""
        with _translated():
            self._connection.executemany(sql, values)

    def query(self, sql: str, values: Values | None = None) -> list[tuple[Any, ...]]:
        """See `Connection.query`."""
        with _translated():
            return self._connection.execute(sql, values or {}).fetchall()

    def insert_new(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """See `Connection.insert_new`."""
        places = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING"
        with _translated():
            self._connection.executemany(sql, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Connection.transaction`."""
        with _translated():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with _translated():
                self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """See `Connection.close`."""
        with suppress(sqlite3.Error):
            self._connection.close()
        if self._owner is not None:
            with suppress(sqlite3.Error):
                self._owner.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, sqlite3.InterfaceError) as error:
        raise StoreDataError(str(error)) from error
    except (UnicodeEncodeError, sqlite3.ProgrammingError) as error:
        if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
            raise StoreError(str(error)) from error
        raise StoreDataError(str(error)) from error
    except sqlite3.Error as error:
        raise StoreError(str(error)) from error
