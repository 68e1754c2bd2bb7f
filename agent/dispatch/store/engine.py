"""What the store needs of a database, and the two ways in which one fails.

Statements are written once, with `:name` parameters, in the SQL that SQLite and PostgreSQL share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

Values = Mapping[str, Any]


class StoreError(Exception):
    """The database can not be used now: away, full, locked or damaged. Nothing of it was kept."""


class StoreOwnedError(StoreError):
    """Another service writes to the database."""


class StoreDataError(Exception):
    """A value has no place in the database. Nothing of the transaction was kept."""


class Connection(Protocol):
    """One connection, used by one thread at a time. Every call raises StoreError or StoreDataError."""

    def execute(self, sql: str, values: Values | None = None) -> int:
        """Run one statement; returns how many rows it touched."""
        ...

    def execute_many(self, sql: str, values: Sequence[Values]) -> None:
        """Run one statement for each of the values."""
        ...

    def query(self, sql: str, values: Values | None = None) -> list[tuple[Any, ...]]:
        """All rows of an answer."""
        ...

    def insert_new(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert many rows the quickest way there is; what is there already stays as it is."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing: committed and on the disk when the block ends, undone when it raises."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class Engine(Protocol):
    """A database that the store can live in.

    Attributes:
        name: "sqlite" or "postgresql".
        where: the place in words, without secrets.
    """

    name: str
    where: str

    def own(self) -> Connection:
        """The one writing connection; the tables are there afterwards.

        Raises:
            StoreOwnedError: another service writes to it.
            StoreError: the database is away or of another version.
        """
        ...

    def look(self) -> Connection:
        """A connection for reading. Raises StoreError."""
        ...

    def before_insert(self, connection: Connection, table: str, received_day: int) -> None:
        """Make room for rows of a day, inside a transaction; a day is counted from 1970."""
        ...

    def drop_days(self, connection: Connection, table: str, before_day: int) -> int:
        """Let go of whole days at once where the database can; returns how many rows went."""
        ...


def engine_of(url: str) -> Engine:
    """The engine that a URL means: a path or sqlite:///path, or postgresql://...

    Raises:
        ValueError: it means none.
    """
    if url.startswith(("postgresql://", "postgres://")):
        from agent.dispatch.store.postgresql import PostgresqlEngine

        return PostgresqlEngine(url)
    from agent.dispatch.store.sqlite import SqliteEngine

    scheme, found, rest = url.partition("://")
    if found and scheme != "sqlite":
        raise ValueError(f"{scheme}: the store is a file, or postgresql://user@host/database")
    return SqliteEngine(Path(rest.removeprefix("/") if found else url))
