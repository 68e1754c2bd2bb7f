"""The store: records of both streams with their counters. Synchronous, one call at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from agent.domain.health import HealthReason
from agent.domain.record import Gap, Kind, Stream
from agent.domain.stamp import UtcSource
from agent.outbox import database
from agent.outbox.counters import ROW_BYTES, Counters
from agent.outbox.database import Synchronous
from agent.outbox.entry import STREAM_OF_KIND, Entry
from agent.outbox.fault import StoreDamagedError, StoreFaultError, StoreMovedError, named_faults
from agent.outbox.gaps import MOST_BOOTS, gap_of, within
from agent.outbox.record_table import RecordTable
from agent.outbox.schema import MIGRATIONS, VERSION, Migration, create, is_empty, is_journal, migrate
from agent.outbox.store_file import StoreFile, damage_named
from agent.wire.body import pack_body
from agent.wire.row import Row

_SMALL_STORE_BYTES = 4 << 20
_CHECKED_ROWS = 256
_KEPT_BOOTS = 1000


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


class Store:
    """Records of both streams with their counters. Not thread-safe: one caller at a time.

    Every method raises StoreFaultError when the disk refuses, StoreDamagedError when the content is not what
    was written (RowDamagedError where that is one record), and StoreMovedError when the file lost its name;
    after any of them nothing of the call has happened (but see `recover`).
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
        self.file = StoreFile(folder, synchronous)
        self.tables = {stream: RecordTable(stream) for stream in Stream}
        self.journal = 0
        self.boot = 0
        self.boot_ids: dict[int, str] = {}
        self.was_clean = True
        self.counters: dict[Stream, Counters] = {stream: Counters() for stream in Stream}
        self._entropy = entropy
        self._migrations = migrations
        self._version = version
        self._boot_id = ""
        # What last_seq would be had the refused transaction come through; see recover.
        self._in_doubt: dict[Stream, int] | None = None

    @property
    def folder(self) -> Path:
        """Where the file is."""
        return self.file.folder

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def in_doubt(self) -> bool:
        """True while nobody knows what became of the last commit; see `recover`."""
        return self._in_doubt is not None

    @property
    def is_open(self) -> bool:
        """True while there is a connection."""
        return self.file.is_open

    # ------------------------------------------------------------------ opening and closing

    def open(self, boot_id: str) -> None:
        """Open, create or migrate the store and register this boot; costs the same at any number of records.

        Raises StoreVersionError for a store of a newer agent, or none.
        """
        self._boot_id = boot_id
        # Of a boot that could not be registered nothing hangs on whether it was; `recover` minds the rest.
        self._in_doubt = None
        connection = self.file.open()
        try:
            with damage_named(self.path), named_faults(str(self.path)):
                self._create_in_empty(connection)
            # Not within damage_named: a step of a migration that fails is a mistake of ours.
            with named_faults(str(self.path)):
                migrate(connection, migrations=self._migrations, version=self._version)
            with damage_named(self.path), named_faults(str(self.path)):
                self._load(connection)
                self._check(connection)
            with damage_named(self.path):
                self._register(boot_id)
        except BaseException:
            self.file.abandon()
            raise
        self.file.write_out_log()

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
        for stream, unsealed_seq in connection.execute("SELECT name, unsealed_seq FROM stream"):
            self.tables[Stream(stream)].unsealed_seq = unsealed_seq

    def _check(self, connection: sqlite3.Connection) -> None:
        """A bounded look at the content: all of a small store, both ends of a large one."""
        small = self.file.stored_bytes() <= _SMALL_STORE_BYTES
        if small:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise StoreDamagedError(f"{self.path}: {verdict}")
        for stream, counters in self.counters.items():
            table = self.tables[stream]
            newest_seq = table.last_seq(connection)
            if newest_seq > counters.last_seq:
                raise StoreDamagedError(f"{self.path}: {stream} has records newer than its counters")
            if not newest_seq and counters.waiting_records:
                raise StoreDamagedError(f"{self.path}: {stream} has lost its records")
            if small:
                # A page in the wrong place may fit where it lies.
                found = table.count_from(connection, counters.floor_seq)
                counted = counters.waiting_records + counters.replay_records
                if found != counted:
                    text = f"{self.path}: {stream} has {found} records and counted {counted}"
                    raise StoreDamagedError(text)
            for after_seq in (-1, counters.confirmed_seq, counters.last_seq - _CHECKED_ROWS):
                table.touch(connection, after_seq, _CHECKED_ROWS)

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
        self.file.probe()
        if self.file.moved:
            raise StoreMovedError(f"{self.path} was deleted or replaced while it was in use")
        self.file.abandon()
        expected, self._in_doubt = self._in_doubt, None
        journal, known = self.journal, self.counters
        try:
            self.open(self._boot_id)
            if self.journal != journal:
                return False
            self._compare(known)
            if expected is not None:
                # The refused pages may be clean in memory and absent on the disk: write them anew.
                self.file.checkpoint(wholly=True)
                self.file.write_out_log()
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
                self.file.abandon()
                raise StoreDamagedError(
                    f"{self.path}: {stream} ends at {counters.last_seq}, {known[stream].last_seq} was given"
                )

    def _takes_writes(self) -> bool:
        try:
            self.file.checkpoint()
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
        if not self.is_open:
            return
        try:
            with self.transaction() as connection:
                connection.execute("UPDATE store SET clean = 1")
        finally:
            self.file.abandon()

    def forget(self) -> None:
        """Close the connection and forget a transaction in doubt: the store is set aside."""
        self.file.abandon()
        self._in_doubt = None

    # ------------------------------------------------------------------ transactions

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: counters that changed are saved with it, and go back when it fails."""
        if self._in_doubt is not None:
            raise StoreFaultError(HealthReason.STORE_IO_ERROR, f"{self.path}: the last commit is in doubt")
        # What others were given of the counters stays as it is: those of a transaction are its own.
        before = self.counters
        self.counters = {stream: counters.copy() for stream, counters in before.items()}
        try:
            connection = self.file.begin()
            yield connection
            for stream, counters in self.counters.items():
                if counters != before[stream]:
                    counters.save(connection, stream)
            self.file.commit()
        except BaseException as error:
            fault = self.file.roll_back(error)
            if isinstance(fault, StoreFaultError) and fault.in_doubt:
                self._in_doubt = {stream: counters.last_seq for stream, counters in self.counters.items()}
            self.counters = before
            if fault is error:
                raise
            raise fault from error

    # ------------------------------------------------------------------ writing

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
        boot, count = self.boot, len(entries)
        first = counters.last_seq + 1
        self.tables[stream].insert(
            connection, [(seq, entry[0], boot, *entry[1:]) for seq, entry in enumerate(entries, first)]
        )
        counters.last_seq += count
        counters.waiting_records += count
        size = sum([len(entry[5]) for entry in entries]) + ROW_BYTES * count
        counters.waiting_bytes += size
        for kind, seq in {entry[0]: seq for seq, entry in enumerate(entries, first)}.items():
            superseded = counters.newest.get(kind, counters.floor_seq)
            if superseded < counters.floor_seq:
                self.tables[stream].delete(connection, [superseded])
            counters.newest[kind] = seq
        self.file.note_written(size // database.PAGE_BYTES)
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
            rows = self.tables[stream].fetch(self.file.connection, start, last, max_records, max_bytes)
            if rows and rows[0].seq == after_seq + 1:
                return rows
            missing = self._missing(stream, after_seq, last, rows)
        return [*missing, *rows][:max_records]

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
            nth_seq = self.tables[stream].nth_after(connection, counters.confirmed_seq, most_rows)
            through_seq = min(through_seq, nth_seq or through_seq)
        self._split_gap(connection, stream, through_seq)
        records, body_bytes = self.tables[stream].amount(connection, counters.confirmed_seq, through_seq)
        size = body_bytes + ROW_BYTES * records
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
                table = self.tables[stream]
                kept = counters.newest.values() if stream is Stream.EVENTS else ()
                table.delete_through(connection, counters.confirmed_seq, kept)
                counters.floor_seq = counters.confirmed_seq + 1
                counters.replay_records = counters.replay_bytes = 0
                counters.waiting_records, body_bytes = table.amount(
                    connection, counters.confirmed_seq, counters.last_seq
                )
                counters.waiting_bytes = body_bytes + ROW_BYTES * counters.waiting_records
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
        self.tables[stream].delete(connection, [row.seq])
        self.tables[stream].insert(connection, pair)
        counters = self.counters[stream]
        counters.waiting_records += 1
        counters.waiting_bytes += ROW_BYTES + sum(len(part.body) for part in pair) - len(row.body)

    def replace_row(self, stream: Stream, seq: int) -> None:
        """Put a gap record in the place of a record that is not what was written.

        Raises StoreDamagedError where more is wrong than this one row.
        """
        with self.transaction() as connection:
            table, counters = self.tables[stream], self.counters[stream]
            body_bytes = table.body_bytes(connection, seq)
            following = table.nth_after(connection, seq, 1)
            if body_bytes is None or not self._follows(connection, stream, seq):
                raise StoreDamagedError(f"{self.path}: {stream} {seq} is out of place")
            table.delete(connection, [seq])
            for kind in [kind for kind, newest in counters.newest.items() if newest == seq]:
                earlier = table.last_of_kind(connection, kind, seq)
                if earlier is None:
                    del counters.newest[kind]
                else:
                    counters.newest[kind] = earlier
            if seq < counters.floor_seq:
                return
            body = pack_body(Gap(counters.last_seq if following is None else following - 1, "damaged", ()))
            table.insert(connection, [self._gap_row(seq, body)])
            if seq > counters.confirmed_seq:
                counters.waiting_bytes += len(body) - body_bytes
            else:
                counters.replay_bytes += len(body) - body_bytes

    def _follows(self, connection: sqlite3.Connection, stream: Stream, seq: int) -> bool:
        """True when a row stands where the rows before it, or the floor, say that it does."""
        if (
            seq <= self.counters[stream].floor_seq
            or self.tables[stream].body_bytes(connection, seq - 1) is not None
        ):
            return True
        row = self.tables[stream].before(connection, seq)
        return row is not None and row.kind == Kind.GAP.value and gap_of(row).last_seq == seq - 1

    def _gap_row(self, seq: int, body: bytes) -> Row:
        return Row(seq, Kind.GAP.value, self.boot, 0, None, UtcSource.NONE.value, None, body)

    def rows(self, stream: Stream, after_seq: int, last_seq: int, limit: int) -> list[Row]:
        """Rows as they lie there, without gaps for what is missing; for upkeep."""
        with named_faults(str(self.path)):
            return self.tables[stream].fetch(self.file.connection, after_seq, last_seq, limit)

    def row_before(self, stream: Stream, seq: int) -> Row | None:
        """The row with the highest sequence number below `seq`."""
        with named_faults(str(self.path)):
            return self.tables[stream].before(self.file.connection, seq)

    def look_through(self, stream: Stream, after_seq: int, limit: int) -> int | None:
        """See that the next rows are what was written; returns the last number seen, None at the end."""
        rows = self.rows(stream, after_seq, sys.maxsize, limit)
        return rows[-1].seq if rows else None

    def latest(self, kind: Kind) -> Row | None:
        """The newest record of `kind` that is still stored."""
        stream = kind.stream
        seq = self.counters[stream].newest.get(kind.value)
        if seq is None:
            return None
        with named_faults(str(self.path)):
            row = self.tables[stream].at(self.file.connection, seq)
        return row if row is not None and row.kind == kind.value else None

    def oldest_waiting(self, stream: Stream) -> Row | None:
        """The first record that was not delivered."""
        counters = self.counters[stream]
        rows = self.rows(stream, counters.confirmed_seq, counters.last_seq, 1)
        return rows[0] if rows else None
