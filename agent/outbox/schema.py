"""Tables of the store, their version, and the way forward from earlier versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

from agent.domain.record import Stream
from agent.outbox import record_table
from agent.outbox.fault import StoreDamagedError, StoreVersionError

APPLICATION_ID = 0x45_4D_53_31
"""Written in the file's header, so that `file` and this module know an outbox ("EMS1")."""

VERSION = 2
"""Version of the tables below, kept in `PRAGMA user_version`. Each version differs from all others in its
tables or their columns, so that a garbled number is not taken for a version from the future."""

Migration = Callable[[sqlite3.Connection], None]


def _add_seals(connection: sqlite3.Connection) -> None:
    """From 1: records that are there already have no seal, and say so by standing up to `unsealed_seq`."""
    for stream in Stream:
        connection.execute(f"ALTER TABLE {stream.value} ADD COLUMN crc INTEGER")
    connection.execute("ALTER TABLE stream ADD COLUMN unsealed_seq INTEGER NOT NULL DEFAULT 1099511627776")
    connection.execute("UPDATE stream SET unsealed_seq = last_seq")


MIGRATIONS: Mapping[int, Migration] = {1: _add_seals}
"""From each earlier version: the step to the next. A step runs inside the transaction of its caller, and
takes as long for ten million records as for ten: the start waits for it."""

COUNTER_COLUMNS = (
    "last_seq, confirmed_seq, floor_seq, waiting_records, waiting_bytes, replay_records, replay_bytes, newest"
)

_TABLES = (
    # One row: what the store as a whole is. `clean` is 1 only between an orderly close and the next open.
    """
CREATE TABLE store (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  journal INTEGER NOT NULL,
  clean INTEGER NOT NULL
) STRICT
""",
    # One row a stream: its counters, changed in the same transaction as its records. `newest` is a JSON
    # object from kind number to the sequence number of the newest record of that kind. Up to `unsealed_seq`
    # records may be older than the seals of version 2; that of a row from before it is beyond all numbers.
    """
CREATE TABLE stream (
  name TEXT PRIMARY KEY,
  last_seq INTEGER NOT NULL,
  confirmed_seq INTEGER NOT NULL,
  floor_seq INTEGER NOT NULL,
  waiting_records INTEGER NOT NULL,
  waiting_bytes INTEGER NOT NULL,
  replay_records INTEGER NOT NULL,
  replay_bytes INTEGER NOT NULL,
  newest TEXT NOT NULL,
  unsealed_seq INTEGER NOT NULL DEFAULT 1099511627776
) STRICT, WITHOUT ROWID
""",
    # Boots this store has seen: the kernel's random id and our count.
    """
CREATE TABLE boot (
  boot INTEGER PRIMARY KEY,
  boot_id TEXT NOT NULL UNIQUE
) STRICT
""",
    *(record_table.CREATE.format(name=stream.value) for stream in Stream),
)

_FIRST_COLUMNS = frozenset(
    (table, column)
    for table, columns in (
        ("store", "id, journal, clean"),
        ("stream", f"name, {COUNTER_COLUMNS}"),
        ("boot", "boot, boot_id"),
        *((stream.value, record_table.COLUMNS) for stream in Stream),
    )
    for column in columns.split(", ")
)
_KNOWN_COLUMNS = (
    _FIRST_COLUMNS,
    _FIRST_COLUMNS | {("stream", "unsealed_seq"), *((stream.value, "crc") for stream in Stream)},
)
"""Every table with each of its columns, of version 1 and on."""


def create(connection: sqlite3.Connection, journal: int) -> None:
    """Make the tables in an empty file. The caller holds the transaction."""
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO store (id, journal, clean) VALUES (1, ?, 1)", (journal,))
    for stream in Stream:
        connection.execute(
            f"INSERT INTO stream (name, {COUNTER_COLUMNS}, unsealed_seq)"  # noqa: S608 - constant columns
            " VALUES (?, 0, 0, 1, 0, 0, 0, 0, '{}', 0)",
            (stream.value,),
        )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def is_journal(value: object) -> bool:
    """True for what can be the identity of a journal: a store that was damaged may hold anything."""
    return isinstance(value, int) and 0 < value < 1 << 32


def is_empty(connection: sqlite3.Connection) -> bool:
    """True for a file in which no store has been made yet.

    Raises StoreDamagedError when the tables are gone: they are made in one transaction with the application
    id, and a new file has one page.
    """
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return False
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    if application or pages > 1:
        raise StoreDamagedError(
            f"the store has lost its tables; application id {application:#x}, {pages} pages"
        )
    return True


def migrate(
    connection: sqlite3.Connection,
    *,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    version: int = VERSION,
) -> int:
    """Bring the tables to `version`, each step in a transaction of its own; returns the number of steps.

    A power cut between two steps leaves a store of the version in between, which the next start takes
    further.

    Raises StoreVersionError for a store that is newer than `version` or is not an outbox, StoreDamagedError
    when the version lies in the past but nothing leads on from it, or when only the application id is wrong.
    """
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        if _has_our_tables(connection):
            raise StoreDamagedError(f"application id {application:#x} on the tables of an outbox")
        raise StoreVersionError(f"application id {application:#x}: the file is a database, but not an outbox")
    if found > version:
        if _columns(connection) in _KNOWN_COLUMNS:
            raise StoreDamagedError(f"the store says version {found}, and has the tables of an earlier one")
        text = f"the store has version {found}; this agent knows versions up to {version}"
        raise StoreVersionError(text, "newer")
    steps = 0
    while found < version:
        step = migrations.get(found)
        if step is None:
            raise StoreDamagedError(f"the store says version {found}, which never existed")
        connection.execute("BEGIN IMMEDIATE")
        try:
            step(connection)
            connection.execute(f"PRAGMA user_version = {found + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        found += 1
        steps += 1
    return steps


def _has_our_tables(connection: sqlite3.Connection) -> bool:
    return {table for table, _ in _columns(connection)} >= {table for table, _ in _FIRST_COLUMNS}


def _columns(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Every table with each of its columns."""
    return set(
        connection.execute(
            "SELECT s.name, c.name FROM sqlite_schema s, pragma_table_info(s.name) c WHERE s.type = 'table'"
        )
    )
