"""The store in PostgreSQL: days are partitions, rows go in by COPY, positions are a PostGIS view."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql as sql_text

from agent.dispatch.store.engine import Connection, StoreDataError, StoreError, StoreOwnedError, Values
from agent.dispatch.store.schema import VERSION, statements

_OWNER_KEY = 0x6D64_7464
"""Of the advisory lock that the writing service holds: the letters `mdtd`."""
_OWNER_WAIT_S = 3
_NAMED = re.compile(r"(?<![:\w]):([a-z_]+)")
_CONNECT_TIMEOUT_S = 10
_PARTITIONED = ("batches", "records")

_GEO_VIEW = """
CREATE OR REPLACE VIEW positions AS
SELECT units.agency, units.unit, streams.journal, records.seq, records.at_ms,
       to_timestamp(records.at_ms / 1000.0) AS at, records.utc_source, records.history,
       records.body::json AS body,
       ST_SetSRID(ST_MakePoint(records.lon_deg, records.lat_deg), 4326) AS place
FROM records JOIN units USING (unit_id) JOIN streams USING (stream_id)
WHERE records.kind = 4 AND records.lat_deg IS NOT NULL
"""


class PostgresqlEngine:
    """A database by URL; the password may be in PGPASSWORD or a pass file. Implements `engine.Engine`."""

    name = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url
        self._days: set[tuple[str, int]] = set()
        self.where = re.sub(r"//([^:@/]*):[^@/]*@", r"//\1:...@", url)

    def own(self) -> Connection:
        """See `Engine.own`."""
        connection = self._open()
        try:
            self._claim(connection)
            with connection.transaction():
                for statement in statements(
                    whole_number="BIGINT",
                    bytes_type="BYTEA",
                    real="DOUBLE PRECISION",
                    clustered="",
                    by_day=" PARTITION BY RANGE (received_day)",
                ):
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO meta VALUES ('version', :version) ON CONFLICT DO NOTHING",
                    {"version": str(VERSION)},
                )
            self._check_version(connection)
            self._make_view(connection)
        except BaseException:
            connection.close()
            raise
        self._days.clear()
        return connection

    def look(self) -> Connection:
        """See `Engine.look`."""
        connection = self._open()
        try:
            self._check_version(connection)
        except StoreError:
            connection.close()
            raise
        return connection

    def before_insert(self, connection: Connection, table: str, received_day: int) -> None:
        """See `Engine.before_insert`: a partition a day."""
        if (table, received_day) in self._days:
            return
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table}_{received_day} PARTITION OF {table} "
            f"FOR VALUES FROM ({int(received_day)}) TO ({int(received_day) + 1})"
        )
        self._days.add((table, received_day))

    def drop_days(self, connection: Connection, table: str, before_day: int) -> int:
        """See `Engine.drop_days`: whole partitions, at no cost by the row."""
        gone = 0
        parts = connection.query(
            "SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid "
            "JOIN pg_class AS parent ON parent.oid = inhparent WHERE parent.relname = :table",
            {"table": table},
        )
        for (part,) in parts:
            if int(part.rpartition("_")[2]) < before_day:
                gone += connection.query(f"SELECT count(*) FROM {part}")[0][0]
                connection.execute(f"DROP TABLE {part}")
        self._days.clear()
        return gone

    def _open(self) -> PostgresqlConnection:
        try:
            return PostgresqlConnection(
                psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S)
            )
        except psycopg.Error as error:
            raise StoreError(f"{self.where}: {str(error).strip()}") from error

    def _claim(self, connection: Connection) -> None:
        """A lock that ends with the connection; the server may be a moment late to see one that died."""
        connection.execute(f"SET lock_timeout = '{_OWNER_WAIT_S}s'")
        try:
            connection.query("SELECT pg_advisory_lock(:key)", {"key": _OWNER_KEY})
        except StoreError as error:
            raise StoreOwnedError(f"{self.where}: another service writes to it ({error})") from error
        connection.execute("SET lock_timeout = 0")

    def _check_version(self, connection: Connection) -> None:
        version = connection.query("SELECT value FROM meta WHERE name = 'version'")
        if version != [(str(VERSION),)]:
            raise StoreError(f"{self.where}: a store of version {version}; this service knows {VERSION}")

    def _make_view(self, connection: Connection) -> None:
        """The view needs PostGIS, which an administrator may not have installed; nothing else needs it."""
        with suppress(StoreError, StoreDataError), connection.transaction():
            connection.execute("CREATE EXTENSION IF NOT EXISTS postgis")
        there = connection.query("SELECT count(*) FROM pg_extension WHERE extname = 'postgis'")
        if there == [(1,)]:
            with connection.transaction():
                connection.execute(_GEO_VIEW)


class PostgresqlConnection:
    """Implements `engine.Connection`."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Values | None = None) -> int:
        """See `Connection.execute`."""
        with _translated():
            return self._connection.execute(_query(sql), dict(values or {})).rowcount

    def execute_many(self, sql: str, values: Sequence[Values]) -> None:
        """See `Connection.execute_many`."""
        with _translated(), self._connection.cursor() as cursor:
            cursor.executemany(_query(sql), [dict(one) for one in values])

    def query(self, sql: str, values: Values | None = None) -> list[tuple[Any, ...]]:
        """See `Connection.query`."""
        with _translated():
            return self._connection.execute(_query(sql), dict(values or {})).fetchall()

    def insert_new(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """See `Connection.insert_new`: by COPY, and beside the table where some of it is there already."""
        names, kept = ", ".join(columns), list(rows)
        with _translated(), self._connection.cursor() as cursor:
            try:
                with self._connection.transaction():
                    _copy(cursor, table, names, kept)
            except psycopg.errors.UniqueViolation:
                beside = f"new_{table}"
                cursor.execute(
                    _query(f"CREATE TEMP TABLE IF NOT EXISTS {beside} (LIKE {table}) ON COMMIT DELETE ROWS")
                )
                cursor.execute(_query(f"TRUNCATE {beside}"))
                _copy(cursor, beside, names, kept)
                insert = f"INSERT INTO {table} ({names}) SELECT {names} FROM {beside} ON CONFLICT DO NOTHING"
                cursor.execute(_query(insert))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Connection.transaction`."""
        with _translated(), self._connection.transaction():
            yield

    def close(self) -> None:
        """See `Connection.close`."""
        with suppress(psycopg.Error):
            self._connection.close()


def _copy(
    cursor: psycopg.Cursor[tuple[Any, ...]], table: str, names: str, rows: Iterable[tuple[Any, ...]]
) -> None:
    with cursor.copy(_query(f"COPY {table} ({names}) FROM STDIN")) as copy:  # names are ours
        for row in rows:
            copy.write_row(row)


def _query(sql: str) -> sql_text.SQL:
    return sql_text.SQL(_NAMED.sub(r"%(\1)s", sql))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError, UnicodeEncodeError, OverflowError) as error:
        raise StoreDataError(str(error).strip()) from error
    except psycopg.Error as error:
        raise StoreError(str(error).strip()) from error
