"""The table of one stream: all SQL about records, and the seal by which damage to one is known."""

from __future__ import annotations

import sqlite3
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, cast
from zlib import crc32

from agent.domain.record import Stream
from agent.outbox.fault import RowDamagedError
from agent.outbox.gaps import is_sound
from agent.wire.row import Row

COLUMNS = "seq, kind, boot, boottime_ms, utc_ms, utc_source, utc_uncertainty_ms, body"
"""Columns of a table, in the order of `agent.wire.row.Row`; behind them stands the seal."""

CREATE = """
CREATE TABLE {name} (
  seq INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,
  boot INTEGER NOT NULL,
  boottime_ms INTEGER NOT NULL,
  utc_ms INTEGER,
  utc_source INTEGER NOT NULL,
  utc_uncertainty_ms INTEGER,
  body BLOB NOT NULL,
  crc INTEGER
) STRICT
"""

_FETCH = 256
_PACKED = struct.Struct("<7q").pack
_BODY = itemgetter(7)
_AS_ROW = cast("Callable[[tuple[object, ...]], Row]", partial(tuple.__new__, Row))
_SEED = {stream: crc32(stream.value.encode()) for stream in Stream}


def seal(stream: Stream, row: Sequence[object]) -> int:
    """CRC-32 over the stream's name and every column of a record.

    A card that is worn gives back wrong bits without a word, and a page that SQLite can make sense of may
    still say something that nobody wrote. CRC-32 finds every flip of up to three bits in a record of this
    size, and lets one in 2^32 of other errors pass.

    Raises struct.error or TypeError for what no record holds.
    """
    seq, kind, boot, boottime_ms, utc_ms, utc_source, uncertainty_ms, body = row
    if utc_ms is None or uncertainty_ms is None:
        without = utc_ms is None, uncertainty_ms is None
        known = (utc_ms or 0, uncertainty_ms or 0)
        columns = _PACKED(seq, kind, boot, boottime_ms, known[0], utc_source, known[1]) + bytes(without)
    else:
        columns = _PACKED(seq, kind, boot, boottime_ms, utc_ms, utc_source, uncertainty_ms)
    return crc32(columns + body, _SEED[stream])  # type: ignore[operator]  # a body that is none raises TypeError


class Amount(NamedTuple):
    """How many records, and how many bytes their bodies take."""

    records: int
    body_bytes: int


class RecordTable:
    """The records of one stream. Every method works within the transaction of its caller, if there is one.

    What a method gives back was verified against its seal; it raises RowDamagedError for the first row that
    does not bear it, and sqlite3.Error.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        name = self.name = stream.value
        self._insert = f"INSERT INTO {name} ({COLUMNS}, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
        self._seed = _SEED[stream]
        self._select = f"SELECT {COLUMNS}, crc FROM {name}"  # noqa: S608 - constants
        self.unsealed_seq = 0
        """Up to here records may be older than seals; see schema."""

    # ------------------------------------------------------------------ writing

    def insert(self, connection: sqlite3.Connection, rows: Iterable[Row | tuple[object, ...]]) -> None:
        """Add complete rows."""
        stream = self.stream
        connection.executemany(self._insert, [(*row, seal(stream, row)) for row in rows])

    def delete(self, connection: sqlite3.Connection, seqs: Iterable[int]) -> None:
        """Remove rows by their numbers."""
        connection.executemany(f"DELETE FROM {self.name} WHERE seq = ?", [(seq,) for seq in seqs])  # noqa: S608 - constant

    def delete_through(self, connection: sqlite3.Connection, through_seq: int, kept: Iterable[int]) -> None:
        """Remove all rows up to `through_seq` but those with the numbers `kept`."""
        stay = sorted(kept)
        connection.execute(
            f"DELETE FROM {self.name} WHERE seq <= ? AND seq NOT IN ({', '.join('?' * len(stay))})",  # noqa: S608 - constant
            (through_seq, *stay),
        )

    # ------------------------------------------------------------------ reading

    def fetch(
        self,
        connection: sqlite3.Connection,
        after_seq: int,
        last_seq: int,
        limit: int,
        max_bytes: int = sys.maxsize,
    ) -> list[Row]:
        """Rows after `after_seq` up to `last_seq`, ascending, at most `limit`.

        Args:
            connection: the store's.
            after_seq: rows with higher numbers.
            last_seq: the highest number.
            limit: rows at most.
            max_bytes: bodies at most, but always one row if there is any.
        """
        cursor = connection.execute(
            f"{self._select} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (after_seq, last_seq, limit)
        )
        rows: list[Row] = []
        size = 0
        while chunk := cursor.fetchmany(_FETCH):
            rows.extend(self._verified_all(chunk))
            size += sum(map(len, map(_BODY, chunk)))
            if size > max_bytes:
                while size > max_bytes and len(rows) > 1:
                    size -= len(rows.pop().body)
                break
        cursor.close()
        return rows

    def at(self, connection: sqlite3.Connection, seq: int) -> Row | None:
        """The row with this number."""
        found = connection.execute(f"{self._select} WHERE seq = ?", (seq,)).fetchone()
        return None if found is None else self._verified(found)

    def before(self, connection: sqlite3.Connection, seq: int) -> Row | None:
        """The row with the highest number below `seq`."""
        found = connection.execute(
            f"{self._select} WHERE seq < ? ORDER BY seq DESC LIMIT 1", (seq,)
        ).fetchone()
        return None if found is None else self._verified(found)

    def newest(self, connection: sqlite3.Connection, limit: int) -> list[Row]:
        """The last rows, newest first."""
        found = connection.execute(f"{self._select} ORDER BY seq DESC LIMIT ?", (limit,)).fetchall()
        return self._verified_all(found)

    def _verified_all(self, found: Sequence[tuple[Any, ...]]) -> list[Row]:
        """Every row, or the exception that names the first that is damaged; a drain passes through here."""
        seed = self._seed
        try:
            if not [f for f in found if crc32(_PACKED(*f[:7]) + f[7], seed) != f[8]]:
                return [_AS_ROW(f[:8]) for f in found]
        except (struct.error, TypeError):
            pass  # a row without UTC, or a damaged one
        return [self._verified(row) for row in found]

    def _verified(self, found: Sequence[object]) -> Row:
        *columns, crc = found
        try:
            if crc == seal(self.stream, columns):
                return Row._make(columns)
            row = Row._make(columns)
            if crc is None and row.seq <= self.unsealed_seq and is_sound(row):
                return row
        except (struct.error, TypeError):
            pass
        raise RowDamagedError(self.stream, columns[0])

    # ------------------------------------------------------------------ counting

    def amount(self, connection: sqlite3.Connection, after_seq: int, through_seq: int) -> Amount:
        """What lies between."""
        return Amount._make(
            connection.execute(
                "SELECT count(*), coalesce(sum(length(body)), 0)"  # noqa: S608 - constant
                f" FROM {self.name} WHERE seq > ? AND seq <= ?",
                (after_seq, through_seq),
            ).fetchone()
        )

    def nth_after(self, connection: sqlite3.Connection, after_seq: int, number: int) -> int | None:
        """Sequence number of the `number`th row after `after_seq`, from 1."""
        found = connection.execute(
            f"SELECT seq FROM {self.name} WHERE seq > ? ORDER BY seq LIMIT 1 OFFSET ?",  # noqa: S608 - constant
            (after_seq, number - 1),
        ).fetchone()
        return None if found is None else found[0]

    def count_from(self, connection: sqlite3.Connection, seq: int) -> int:
        """Rows from `seq` on."""
        found: int = connection.execute(
            f"SELECT count(*) FROM {self.name} WHERE seq >= ?",  # noqa: S608 - constant
            (seq,),
        ).fetchone()[0]
        return found

    def last_seq(self, connection: sqlite3.Connection) -> int:
        """The highest number in the table; 0 in an empty one."""
        found: int = connection.execute(f"SELECT coalesce(max(seq), 0) FROM {self.name}").fetchone()[0]  # noqa: S608 - constant
        return found

    def touch(self, connection: sqlite3.Connection, after_seq: int, limit: int) -> None:
        """See that some rows can be read; whether each is what was written is seen when it is fetched."""
        connection.execute(
            f"{self._select} WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)
        ).fetchall()

    def last_of_kind(self, connection: sqlite3.Connection, kind: int, below_seq: int) -> int | None:
        """The newest row of a kind below a number; a scan."""
        found: int | None = connection.execute(
            f"SELECT max(seq) FROM {self.name} WHERE kind = ? AND seq < ?",  # noqa: S608 - constant
            (kind, below_seq),
        ).fetchone()[0]
        return found

    def body_bytes(self, connection: sqlite3.Connection, seq: int) -> int | None:
        """Length of a body as SQLite takes it, sound or not; None where there is no such row."""
        found = connection.execute(f"SELECT length(body) FROM {self.name} WHERE seq = ?", (seq,)).fetchone()  # noqa: S608 - constant
        return None if found is None else found[0] or 0
