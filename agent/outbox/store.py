"""The store: records of both streams. Synchronous; called by one worker, one call at a time."""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import cast

from agent.domain.record import Gap, Kind, Stream
from agent.domain.stamp import UtcSource
from agent.outbox import database
from agent.outbox.counters import ROW_BYTES
from agent.outbox.entry import STREAM_OF_KIND, Entry
from agent.outbox.fault import StoreDamagedError, named_faults
from agent.outbox.gaps import gap_of, is_sound
from agent.outbox.schema import RECORD_COLUMNS
from agent.outbox.store_file import StoreFile
from agent.wire.body import pack_body
from agent.wire.row import Row

_AS_ROW = cast("Callable[[tuple[object, ...]], Row]", partial(tuple.__new__, Row))
_BODY = itemgetter(7)
_FETCH = 256
_INSERT = {
    stream: f"INSERT INTO {stream.value} ({RECORD_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
    for stream in Stream
}
_SELECT = {
    stream: f"SELECT {RECORD_COLUMNS} FROM {stream.value}"  # noqa: S608 - constants
    for stream in Stream
}


def _share(counts: Sequence[tuple[str, int]], part: int, whole: int) -> tuple[tuple[str, int], ...]:
    """What falls to `part` of `whole` sequence numbers; the total is rounded once, not kind by kind."""
    shares, total, shared = [], 0, 0
    for token, count in counts:
        total += count
        share = (2 * total * part + whole) // (2 * whole) - shared
        shared += share
        if share:
            shares.append((token, share))
    return tuple(shares)


class Store(StoreFile):
    """Records of both streams with their counters. Not thread-safe: one caller at a time.

    Every method raises StoreFaultError when the disk refuses and StoreDamagedError when the content is not
    what was written; after either nothing of the call has happened (but see `recover`).
    """

    def append(
        self,
        entries: Sequence[Entry],
        *,
        confirmed: Mapping[Stream, int] | None = None,
        dropped: Sequence[tuple[str, int]] = (),
        most_confirmed: int = sys.maxsize,
    ) -> list[int]:
        """Commit `entries` in one transaction and give back their sequence numbers, in the same order.

        Args:
            entries: records, oldest first; each goes to the stream of its kind.
            confirmed: watermarks to persist with them.
            most_confirmed: rows of each stream that a watermark may pass, since each is looked at.
            dropped: (kind token, count) of trail records that memory could not hold; one gap record before
            the
                entries tells of them.
        """
        with self.transaction() as connection:
            if confirmed:
                for stream, through_seq in confirmed.items():
                    self._confirm(connection, stream, through_seq, most_confirmed)
            if dropped:
                self._tell_dropped(connection, entries, dropped)
            if len(entries) == 1:
                return self._insert(connection, STREAM_OF_KIND[entries[0].kind], entries)
            seqs: list[int] = [0] * len(entries)
            for stream in Stream:
                where = [at for at, entry in enumerate(entries) if STREAM_OF_KIND[entry.kind] is stream]
                if where:
                    for at, seq in zip(
                        where, self._insert(connection, stream, [entries[at] for at in where]), strict=True
                    ):
                        seqs[at] = seq
            return seqs

    def _insert(self, connection: sqlite3.Connection, stream: Stream, entries: Sequence[Entry]) -> list[int]:
        counters = self.counters[stream]
        boot = self.boot
        first = counters.last_seq + 1
        connection.executemany(
            _INSERT[stream],
            [(seq, entry[0], boot, *entry[1:]) for seq, entry in enumerate(entries, first)],
        )
        counters.last_seq += len(entries)
        counters.waiting_records += len(entries)
        size = sum(len(entry[5]) for entry in entries) + ROW_BYTES * len(entries)
        counters.waiting_bytes += size
        for kind, seq in {entry[0]: seq for seq, entry in enumerate(entries, first)}.items():
            superseded = counters.newest.get(kind, counters.floor_seq)
            if superseded < counters.floor_seq:
                connection.execute(f"DELETE FROM {stream.value} WHERE seq = ?", (superseded,))  # noqa: S608 - constant
            counters.newest[kind] = seq
        self._log_pages += size // database.PAGE_BYTES
        return list(range(first, counters.last_seq + 1))

    def _tell_dropped(
        self, connection: sqlite3.Connection, entries: Sequence[Entry], dropped: Sequence[tuple[str, int]]
    ) -> None:
        seq = self.counters[Stream.TRAIL].last_seq + 1
        boottime_ms = entries[0].boottime_ms if entries else 0
        body = pack_body(Gap(seq, "evicted", tuple(dropped)))
        gap = Entry(Kind.GAP.value, boottime_ms, None, UtcSource.NONE.value, None, body)
        self._insert(connection, Stream.TRAIL, [gap])

    def read(
        self,
        stream: Stream,
        after_seq: int,
        *,
        max_records: int,
        max_bytes: int,
        last_seq: int | None = None,
    ) -> list[Row]:
        """Rows from `after_seq` + 1 on, ascending, up to `last_seq`.

        What is no longer kept is told by a gap row, so that the rows cover every sequence number from
        `after_seq` + 1 to the last one returned.

        Args:
            stream: which.
            after_seq: the last sequence number the reader has.
            max_records: at most so many rows.
            max_bytes: at most so many bytes of bodies, but always one row if there is any.
            last_seq: nothing beyond this.
        """
        counters = self.counters[stream]
        last = counters.last_seq if last_seq is None else min(last_seq, counters.last_seq)
        after_seq = max(0, after_seq)
        if after_seq >= last or max_records <= 0:
            return []
        with named_faults(str(self.path)):
            start = max(after_seq, counters.floor_seq - 1)
            rows = self._fetch(stream, start, last, max_records, max_bytes)
            if rows and rows[0].seq == after_seq + 1:
                return rows
            missing = self._missing(stream, after_seq, last, rows)
        return [*missing, *rows][:max_records]

    def _fetch(
        self, stream: Stream, after_seq: int, last_seq: int, max_records: int, max_bytes: int
    ) -> list[Row]:
        cursor = self.connection.execute(
            f"{_SELECT[stream]} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (after_seq, last_seq, max_records),
        )
        rows: list[Row] = []
        size = 0
        while chunk := cursor.fetchmany(_FETCH):
            size += sum(map(len, map(_BODY, chunk)))
            rows.extend(map(_AS_ROW, chunk))
            if size > max_bytes:
                while size > max_bytes and len(rows) > 1:
                    size -= len(rows.pop().body)
                break
        cursor.close()
        return rows

    def _missing(self, stream: Stream, after_seq: int, last_seq: int, rows: Sequence[Row]) -> list[Row]:
        """Gap rows for what lies between `after_seq` and `rows`: trimmed, or in a gap that began before."""
        end = rows[0].seq - 1 if rows else last_seq
        near = rows[0] if rows else Row(0, 0, self.boot, 0, None, UtcSource.NONE.value, None, b"")
        gaps = []
        floor_seq = self.counters[stream].floor_seq
        if after_seq + 1 < floor_seq:
            trimmed_end = min(floor_seq - 1, end)
            body = pack_body(Gap(trimmed_end, "trimmed", ()))
            gaps.append(near._replace(seq=after_seq + 1, kind=Kind.GAP.value, body=body))
            after_seq = trimmed_end
        if after_seq < end:
            earlier = self.row_before(stream, after_seq + 1)
            gap = None if earlier is None or earlier.kind != Kind.GAP.value else gap_of(earlier)
            if gap is None or gap.last_seq < end:
                raise StoreDamagedError(
                    f"{self.path}: {stream} {after_seq + 1} to {end} are missing without a trace"
                )
            body = pack_body(Gap(end, gap.reason, ()))
            gaps.append(near._replace(seq=after_seq + 1, kind=Kind.GAP.value, body=body))
        return gaps

    def confirm(self, confirmed: Mapping[Stream, int]) -> None:
        """Persist delivered watermarks in a transaction of their own."""
        self.append((), confirmed=confirmed)

    def _confirm(
        self, connection: sqlite3.Connection, stream: Stream, through_seq: int, most_rows: int
    ) -> None:
        counters = self.counters[stream]
        through_seq = min(through_seq, counters.last_seq)
        if through_seq <= counters.confirmed_seq:
            return
        if through_seq - counters.confirmed_seq > most_rows:
            # Rows, not numbers: a gap is one row, however many it stands for.
            last = connection.execute(
                f"SELECT seq FROM {stream.value} WHERE seq > ? AND seq < ? ORDER BY seq LIMIT 1 OFFSET ?",  # noqa: S608 - constant
                (counters.confirmed_seq, through_seq, most_rows - 1),
            ).fetchone()
            through_seq = through_seq if last is None else last[0]
        self._split_gap(connection, stream, through_seq)
        records, size = connection.execute(
            f"SELECT count(*), coalesce(sum(length(body)), 0) FROM {stream.value} WHERE seq > ? AND seq <= ?",  # noqa: S608 - constant
            (counters.confirmed_seq, through_seq),
        ).fetchone()
        size += ROW_BYTES * records
        counters.confirmed_seq = through_seq
        counters.waiting_records -= records
        counters.waiting_bytes -= size
        counters.replay_records += records
        counters.replay_bytes += size

    def begin_journal(
        self,
        journal: int,
        alert: Entry,
        *,
        confirmed: Mapping[Stream, int],
        resend_after: Mapping[Stream, int],
    ) -> None:
        """Let everything that was not delivered go on in a new journal, under the numbers that it has.

        What was delivered goes, because a replay would deliver it a second time in the new journal; the
        newest event of each kind stays for `latest`.

        Args:
            journal: the new identity.
            alert: tells of it, as the first record of the new journal's own.
            confirmed: watermarks, as `append` takes them.
            resend_after: watermarks to go back to, where readers may have taken records for repeats.
        """
        with self.transaction() as connection:
            connection.execute("UPDATE store SET journal = ?", (journal,))
            for stream, counters in self.counters.items():
                self._confirm(connection, stream, confirmed.get(stream, 0), sys.maxsize)
                back = max(resend_after.get(stream, counters.confirmed_seq), counters.floor_seq - 1)
                if back < counters.confirmed_seq:
                    self._split_gap(connection, stream, back)
                    counters.confirmed_seq = back
                newest = sorted(counters.newest.values()) if stream is Stream.EVENTS else []
                connection.execute(
                    f"DELETE FROM {stream.value} WHERE seq <= ?"  # noqa: S608 - constant
                    f" AND seq NOT IN ({', '.join('?' * len(newest))})",
                    (counters.confirmed_seq, *newest),
                )
                counters.floor_seq = counters.confirmed_seq + 1
                counters.replay_records = counters.replay_bytes = 0
                counters.waiting_records, size = connection.execute(
                    f"SELECT count(*), coalesce(sum(length(body)), 0) FROM {stream.value} WHERE seq >= ?",  # noqa: S608 - constant
                    (counters.floor_seq,),
                ).fetchone()
                counters.waiting_bytes = size + ROW_BYTES * counters.waiting_records
            self._insert(connection, Stream.EVENTS, [alert])
        self.journal = journal

    def _split_gap(self, connection: sqlite3.Connection, stream: Stream, through_seq: int) -> None:
        """Keep gaps from reaching across the watermark: records were thinned while they were under way."""
        row = self.row_before(stream, through_seq + 1)
        if row is None or row.kind != Kind.GAP.value:
            return
        gap = gap_of(row)
        if gap.last_seq <= through_seq:
            return
        # Which of its numbers were of which kind is not known: each half is given its share.
        counts = _share(gap.counts, gap.last_seq - through_seq, gap.last_seq - row.seq + 1)
        rest = Counter(dict(gap.counts)) - Counter(dict(counts))
        told = Gap(through_seq, gap.reason, tuple(sorted(rest.items())))
        untold = Gap(gap.last_seq, gap.reason, counts)
        pair = [
            row._replace(body=pack_body(told)),
            row._replace(seq=through_seq + 1, body=pack_body(untold)),
        ]
        connection.execute(f"DELETE FROM {stream.value} WHERE seq = ?", (row.seq,))  # noqa: S608 - constant
        self.insert_rows(connection, stream, pair)
        counters = self.counters[stream]
        counters.waiting_records += 1
        counters.waiting_bytes += ROW_BYTES + sum(len(part.body) for part in pair) - len(row.body)

    def rows(self, stream: Stream, after_seq: int, last_seq: int, limit: int) -> list[Row]:
        """Rows as they lie there, without gaps for what is missing; for upkeep."""
        with named_faults(str(self.path)):
            return self._fetch(stream, after_seq, last_seq, limit, sys.maxsize)

    def row_before(self, stream: Stream, seq: int) -> Row | None:
        """The row with the highest sequence number below `seq`."""
        with named_faults(str(self.path)):
            found = self.connection.execute(
                f"{_SELECT[stream]} WHERE seq < ? ORDER BY seq DESC LIMIT 1", (seq,)
            ).fetchone()
        return None if found is None else _AS_ROW(found)

    def insert_rows(self, connection: sqlite3.Connection, stream: Stream, rows: Iterable[Row]) -> None:
        """Insert complete rows within the caller's transaction; the caller keeps the counters."""
        connection.executemany(_INSERT[stream], rows)

    def look_through(self, stream: Stream, after_seq: int, limit: int) -> int | None:
        """See that the next rows can be read; returns the last sequence number seen, None at the end."""
        with named_faults(str(self.path)):
            found: int | None = self.connection.execute(
                f"SELECT max(seq) FROM (SELECT seq, length(body) FROM {stream.value}"  # noqa: S608 - constant
                " WHERE seq > ? ORDER BY seq LIMIT ?)",
                (after_seq, limit),
            ).fetchone()[0]
        return found

    def latest(self, kind: Kind) -> Row | None:
        """The newest record of `kind` that is still stored. What makes no sense is damage."""
        stream = kind.stream
        seq = self.counters[stream].newest.get(kind.value)
        if seq is None:
            return None
        with named_faults(str(self.path)):
            found = self.connection.execute(
                f"{_SELECT[stream]} WHERE seq = ? AND kind = ?", (seq, kind.value)
            ).fetchone()
        if found is None:
            return None
        row = _AS_ROW(found)
        if not is_sound(row):
            raise StoreDamagedError(f"{self.path}: the {kind.token} at {seq} makes no sense")
        return row

    def oldest_waiting(self, stream: Stream) -> Row | None:
        """The first record that was not delivered."""
        counters = self.counters[stream]
        rows = self._fetch(stream, counters.confirmed_seq, counters.last_seq, 1, 0)
        return rows[0] if rows else None
