"""A store that can not be used is set aside whole, and what can be read is carried into a new one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from agent.domain.health import HealthReason
from agent.domain.record import Alert, AlertCode, Gap, Kind, Stream
from agent.domain.stamp import UtcSource
from agent.outbox import database
from agent.outbox.counters import ROW_BYTES, Counters
from agent.outbox.fault import StoreDamagedError, StoreFaultError, named_faults
from agent.outbox.gaps import MOST_BOOTS, MOST_UTC_MS, is_sound, within
from agent.outbox.record_table import COLUMNS, RecordTable, seal
from agent.outbox.schema import create, is_journal
from agent.outbox.store_file import StoreFile
from agent.wire.body import pack_body, unpack_body
from agent.wire.row import Row

T = TypeVar("T")

SALVAGE_NAME = "outbox-salvage.db"
_COPY_NAME = "outbox-salvage-copy.db"
_NO_END = 1 << 40
_SPAN = 512
_MOST_ERRORS = 20_000
"""Reads that may fail before the rest of a stream is given up: bounds the time a ruined store takes."""
_SEQ_MARGIN = 10_000
"""Sequence numbers left out after a salvage: the damaged store may have forgotten the last it gave."""


Why = Literal["damaged", "newer", "foreign"]
"""Why a store is set aside, and what its name says from then on."""

_SENTENCE: dict[Why, str] = {
    "damaged": "the store was damaged and set aside as {name}",
    "newer": "the store of a newer agent was set aside as {name}",
    "foreign": "what stood in the place of the store is no outbox and was set aside as {name}",
}


@dataclass(slots=True)
class Found:
    """What could be read of a damaged store.

    Attributes:
        journal: its identity, None when it can not be told.
        boots: (count, boot id) pairs.
        counters: those that could be read.
    """

    journal: int | None = None
    boots: list[tuple[int, str]] = field(default_factory=list)
    counters: dict[Stream, Counters] = field(default_factory=dict)


def move_strays(folder: Path) -> None:
    """Move away what is no file and stands where this module or SQLite wants one. Raises OSError.

    The database's own name is left alone: what stands there is set aside as a store that is none.
    """
    names = [database.FILE_NAME + suffix for suffix in ("-wal", "-shm", "-journal")]
    names += [SALVAGE_NAME, _COPY_NAME, _COPY_NAME + "-fresh", database.PROBE_NAME]
    for path in (folder / name for name in names):
        if _is_stray(path):
            number = 1
            while os.path.lexists(aside := path.with_name(f"stray-{number}-{path.name}")):
                number += 1
            path.rename(aside)


def is_stray(folder: Path) -> bool:
    """True when what stands in the place of the database is no file. Raises OSError."""
    return _is_stray(folder / database.FILE_NAME)


def _is_stray(path: Path) -> bool:
    """True for a folder, a device, a pipe, or a link that leads to no file."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return path.is_symlink()
    except OSError:
        if path.is_symlink():  # in a circle
            return True
        raise


def finish_interrupted(folder: Path) -> bool:
    """Complete a salvage that was interrupted between its renames; True if there was one. Raises OSError."""
    path, salvaged = folder / database.FILE_NAME, folder / SALVAGE_NAME
    if not salvaged.exists() or path.exists():
        return False
    if _beside(path, "-wal").exists():
        _move_logs(path, _last_set_aside(folder))
    salvaged.rename(path)
    database.flush_folder(folder)
    return True


@dataclass(frozen=True, slots=True)
class Moment:
    """When a store was set aside: the stamp of the alert that tells of it.

    Attributes:
        boot_id: of this boot.
        boottime_ms: CLOCK_BOOTTIME.
        utc_ms: what the computer's clock says.
        utc_source: how far that is to be believed.
    """

    boot_id: str
    boottime_ms: int
    utc_ms: int
    utc_source: UtcSource


def set_aside(
    folder: Path,
    now: Moment,
    known: Found,
    entropy: Callable[[int], bytes],
    *,
    why: Why = "damaged",
    carry: bool = True,
) -> None:
    """Carry what can be read into a new store, and give the old one a dated name.

    The new store's last event is an alert that tells of it: so it is told once, also when the power goes
    before anybody could be told.

    The new store is complete on the disk before the old one loses its name, and the old one loses it before
    its log does: without the log it would pass for a sound store that has never heard of the newest records.
    So a power cut at any moment leaves either the damaged store whole (and this begins again) or the mended
    one, which `finish_interrupted` puts into place.

    Args:
        folder: where the store is; nothing has it open.
        now: for the name and the alert.
        known: what the process still knows of the store from before the damage; it wins over what is read.
        entropy: for a new journal.
        why: what is the matter with it.
        carry: False leaves everything in the old file.

    Raises StoreFaultError when the disk refuses.
    """
    path, salvaged = folder / database.FILE_NAME, folder / SALVAGE_NAME
    with named_faults(str(salvaged)):
        _remove(folder, SALVAGE_NAME)
        _remove(folder, _COPY_NAME)
        aside = _free_name(folder, now.utc_ms, why)
        try:
            if carry:
                _see_that_there_is_room(path)
            target = database.connect(salvaged, "FULL")
            try:
                with _source(path, folder) if carry else _nothing() as source:
                    _carry_over(source, target, known, entropy, (now, _SENTENCE[why].format(name=aside.name)))
            finally:
                target.close()
        except BaseException:
            # What is not complete is worth nothing, and takes the room that it lacks.
            with contextlib.suppress(OSError):
                _remove(folder, SALVAGE_NAME)
            raise
        finally:
            with contextlib.suppress(OSError):
                _remove(folder, _COPY_NAME)
        database.flush_folder(folder)
        path.rename(aside)
        database.flush_folder(folder)
        _move_logs(path, aside)
        salvaged.rename(path)
        database.flush_folder(folder)


def carry_over(file: StoreFile, now: Moment) -> None:
    """Copy a store that lost its name, from the connection that still has it, into a new file of that name.

    What took its place is set aside. `file` is closed afterwards; the caller opens it again.

    Raises StoreFaultError when the disk refuses; then the connection is as before.
    """
    folder, path, salvaged = file.folder, file.path, file.folder / SALVAGE_NAME
    with named_faults(str(salvaged)):
        folder.mkdir(parents=True, exist_ok=True)
        _remove(folder, SALVAGE_NAME)
        try:
            target = database.connect(salvaged, "FULL")
            try:
                file.connection.backup(target)
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                target.close()
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(folder, SALVAGE_NAME)
            raise
        database.flush_folder(folder)
        if os.path.lexists(path):
            aside = _free_name(folder, now.utc_ms, "foreign")
            path.rename(aside)
            database.flush_folder(folder)
            _move_logs(path, aside)
        # Closing deletes a log of its old name: before there is another.
        file.abandon()
        salvaged.rename(path)
        database.flush_folder(folder)


def _see_that_there_is_room(path: Path) -> None:
    """Raise StoreFaultError for a disk that can not hold what may have to be carried over.

    Without this a card that is nearly full would be written to its end again and again.
    """
    needed = path.stat().st_size
    disk = os.statvfs(path.parent)
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        raise StoreFaultError(
            HealthReason.STORE_FULL,
            f"{path}: damaged; mending it takes {needed >> 10} KiB, and {free >> 10} KiB are free",
        )


@contextlib.contextmanager
def _nothing() -> Iterator[sqlite3.Connection]:
    """A source in which nothing is found."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def _remove(folder: Path, name: str) -> None:
    for stale in folder.glob(name + "*"):
        stale.unlink()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _move_logs(path: Path, aside: Path) -> None:
    """Take the log away from `path`: SQLite would play it into the next file of that name."""
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            _beside(path, suffix).rename(_beside(aside, suffix))
    database.flush_folder(path.parent)


def _last_set_aside(folder: Path) -> Path:
    """The file that was set aside last, while its log still waits for it; else a name of its own."""
    set_aside = [path for why in _SENTENCE for path in folder.glob(f"outbox-{why}-*.db")]
    without_log = [path for path in set_aside if not _beside(path, "-wal").exists()]
    return max(without_log, key=lambda path: path.lstat().st_ctime_ns, default=_free_name(folder, None))


def _free_name(folder: Path, utc_ms: int | None, why: Why = "damaged") -> Path:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=min(max(utc_ms or 0, 0), MOST_UTC_MS))
    dated = "log" if utc_ms is None else moment.strftime("%Y%m%dT%H%M%SZ")
    aside = folder / f"outbox-{why}-{dated}.db"
    number = 1
    while os.path.lexists(aside) or _beside(aside, "-wal").exists():
        number += 1
        aside = folder / f"outbox-{why}-{dated}-{number}.db"
    return aside


@contextlib.contextmanager
def _source(path: Path, folder: Path) -> Iterator[sqlite3.Connection]:
    """The damaged store, read-only; where its first page is lost, a copy with a new one."""
    # Of a first page that the disk does not give, connecting itself is what fails.
    connection = _readable(lambda: _read_only(path))
    try:
        if connection is None or not _has_tables(connection):
            if connection is not None:
                connection.close()
            connection = _read_only(_copy_with_new_header(path, folder))
        yield connection
    finally:
        if connection is not None:
            connection.close()


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0, isolation_level=None)


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(_readable(lambda: connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]))


def _copy_with_new_header(path: Path, folder: Path) -> Path:
    """A copy whose first page says where the tables are.

    The first page of every store of one version holds the same: the tables are made in the same order, so
    their roots lie on the same pages. What differs is the size of the file; the list of free pages is left
    out.
    """
    fresh = folder / (_COPY_NAME + "-fresh")
    connection = database.connect(fresh, "OFF")
    try:
        connection.execute("BEGIN IMMEDIATE")
        create(connection, 1)
        connection.execute("COMMIT")
    finally:
        connection.close()
    header = bytearray(fresh.read_bytes()[: database.PAGE_BYTES])
    pages = path.stat().st_size // database.PAGE_BYTES
    header[28:32] = pages.to_bytes(4, "big")
    header[32:40] = bytes(8)
    copy = folder / _COPY_NAME
    with path.open("rb", buffering=0) as source, copy.open("wb") as target:
        target.write(header)
        for page in range(1, pages):
            # Page by page: where the card gives nothing, zeros stand, which SQLite knows for damage.
            try:
                content = os.pread(source.fileno(), database.PAGE_BYTES, page * database.PAGE_BYTES)
            except OSError:
                content = b""
            target.write(content.ljust(database.PAGE_BYTES, b"\0"))
    return copy


def _readable(read: Callable[[], T]) -> T | None:
    """What `read` gives, or None where the damage is."""
    try:
        return read()
    except (sqlite3.DatabaseError, StoreDamagedError, MemoryError, UnicodeDecodeError):
        # MemoryError: a garbled length that SQLite tried to make room for.
        return None


def _carry_over(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    known: Found,
    entropy: Callable[[int], bytes],
    told: tuple[Moment, str],
) -> None:
    """Fill the new store from the old.

    Args:
        source: the store to read.
        target: an empty file.
        known: see `set_aside`.
        entropy: for a new journal.
        told: when, and in which words, the alert begins.
    """
    found = _identity(source, known)
    journal = found.journal
    kept_journal = journal is not None and len(found.counters) == len(Stream)
    target.execute("BEGIN IMMEDIATE")
    create(
        target, journal if kept_journal and journal is not None else int.from_bytes(entropy(4), "big") or 1
    )
    target.executemany("INSERT OR IGNORE INTO boot (boot, boot_id) VALUES (?, ?)", found.boots)
    carried = 0
    all_counters = {}
    for stream in Stream:
        # What lies beyond the process's own count was refused, and is still held in memory.
        end_seq = known.counters[stream].last_seq if stream in known.counters else _NO_END
        counters, records = _carry_stream(source, target, stream, found.counters.get(stream), end_seq)
        all_counters[stream] = counters
        carried += records
    _keep_boot_count(target)
    identity = "" if kept_journal else "; sequence numbers begin a new journal"
    moment, sentence = told
    text = f"{sentence}; {carried} records were carried over{identity}"
    _tell(target, all_counters[Stream.EVENTS], moment, text)
    for stream, counters in all_counters.items():
        counters.save(target, stream)
    target.execute("COMMIT")
    target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _tell(target: sqlite3.Connection, counters: Counters, now: Moment, text: str) -> None:
    """Add the alert that dispatch is to have of this."""
    found = target.execute("SELECT boot FROM boot WHERE boot_id = ?", (now.boot_id,)).fetchone()
    boot = (
        found
        or target.execute(
            "INSERT INTO boot (boot, boot_id) SELECT coalesce(max(boot), 0) + 1, ? FROM boot RETURNING boot",
            (now.boot_id,),
        ).fetchone()
    )
    counters.last_seq += 1
    counters.newest[Kind.ALERT.value] = counters.last_seq
    body = pack_body(Alert(AlertCode.STORE_SET_ASIDE, text))
    stamp = boot[0], now.boottime_ms, now.utc_ms, now.utc_source.value, None
    _add(target, Stream.EVENTS, counters, Row(counters.last_seq, Kind.ALERT.value, *stamp, body))


def _keep_boot_count(target: sqlite3.Connection) -> None:
    """Let the count of boots go on after the newest record, also when the list of boots was lost."""
    counts = [
        target.execute(f"SELECT coalesce(max(boot), 0) FROM {table}").fetchone()[0]  # noqa: S608 - constant names
        for table in ("events", "trail", "boot")
    ]
    if max(counts) > counts[-1]:
        target.execute("INSERT INTO boot (boot, boot_id) VALUES (?, 'lost')", (max(counts),))


def _identity(source: sqlite3.Connection, known: Found) -> Found:
    journal = known.journal
    if journal is None:
        row = _readable(lambda: source.execute("SELECT journal FROM store").fetchone())
        journal = row[0] if row is not None and is_journal(row[0]) else None
    listed = _readable(lambda: source.execute("SELECT boot, boot_id FROM boot").fetchall()) or []
    boots = [(boot, name) for boot, name in listed if within(boot, 1, MOST_BOOTS) and isinstance(name, str)]
    counters = {}
    for stream in Stream:
        read = _readable(lambda stream=stream: Counters.load(source, stream))  # type: ignore[misc]  # default argument
        kept = known.counters.get(stream, read)
        if kept is not None:
            counters[stream] = kept
    return Found(journal, boots, counters)


def _carry_stream(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    stream: Stream,
    known: Counters | None,
    end_seq: int,
) -> tuple[Counters, int]:
    """Copy one stream, telling of what is missing by gaps; returns its new counters and the rows copied."""
    counters = Counters() if known is None else known.copy()
    counters.waiting_records = counters.waiting_bytes = counters.replay_records = counters.replay_bytes = 0
    floor_seq = counters.floor_seq
    next_seq = floor_seq
    newest = dict(counters.newest)
    carried = 0
    near: Row | None = None
    # Not bounded by the counters of the file: they may be what is damaged.
    oldest_seq = 0 if known is None else min([known.floor_seq, *known.newest.values()])
    for row in _rows(source, stream, oldest_seq - 1, end_seq):
        if row.seq < floor_seq:
            if row.seq in newest.values():
                RecordTable(stream).insert(target, [row])
            continue
        if known is None and carried == 0:
            floor_seq = next_seq = counters.floor_seq = row.seq
            counters.confirmed_seq = row.seq - 1
        if row.seq > next_seq:
            _add_damage(target, stream, counters, row, (next_seq, row.seq - 1))
        _add(target, stream, counters, row)
        newest[row.kind] = row.seq
        next_seq = _end_of(row) + 1
        near = row
        carried += 1
    last_seq = max(counters.last_seq, next_seq - 1) + _SEQ_MARGIN
    template = near or Row(0, 0, 1, 0, None, UtcSource.NONE.value, None, b"")
    _add_damage(target, stream, counters, template, (next_seq, last_seq))
    counters.last_seq = last_seq
    counters.newest = newest
    return counters, carried


def _rows(source: sqlite3.Connection, stream: Stream, after_seq: int, end_seq: int) -> Iterator[Row]:
    """Every sound row above `after_seq` that can be read, ascending, stepping over pages that can not."""

    crc, unsealed_seq = _seals(source, stream)

    def read(after: int, limit: int) -> tuple[list[Row], bool] | None:
        """Rows in order, and whether there are more; None where nothing can be read or made sense of."""
        select = f"SELECT {COLUMNS}, {crc} FROM {stream.value} WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 - constants
        found = _readable(lambda: source.execute(select, (after, limit)).fetchall())
        if not found:
            return None if found is None else ([], False)
        sealed = [Row(*row[:-1]) for row in found if _bears_its_seal(stream, row, unsealed_seq)]
        rows = _in_order([row for row in sealed if after < row.seq <= end_seq])
        return (rows, len(found) == limit) if rows else None

    errors, limit = 0, _SPAN
    while after_seq < end_seq and errors < _MOST_ERRORS:
        part = read(after_seq, limit)
        if part is None and limit > 1:
            limit //= 2
            errors += 1
            continue
        if part is None:
            # The next row lies on a page that can not be read: find the first one beyond it.
            step = 1
            while after_seq + step < end_seq and read(after_seq + step, 1) is None:
                step *= 2
                errors += 1
            low, high = step // 2, step
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if read(after_seq + middle, 1) is not None else (middle, high)
            after_seq += high
            continue
        rows, more = part
        if not rows:
            return
        # Whether the last rows are in their place, the rows after them tell: they are looked at again.
        kept = max(1, len(rows) * 3 // 4) if more else len(rows)
        following = [row.seq for row in rows[1:]] + [end_seq + 1]
        yield from (
            row for row, next_seq in zip(rows[:kept], following, strict=False) if is_sound(row, next_seq)
        )
        after_seq = rows[kept - 1].seq
        limit = min(_SPAN, 2 * limit)


def _seals(source: sqlite3.Connection, stream: Stream) -> tuple[str, int]:
    """What to select for the seals of a table, and up to which number a record may have none."""
    name = stream.value
    if _readable(lambda: source.execute(f"SELECT crc FROM {name} LIMIT 0").fetchall()) is None:  # noqa: S608 - constant
        return "NULL", _NO_END  # the store is older than seals
    found = _readable(
        lambda: source.execute("SELECT unsealed_seq FROM stream WHERE name = ?", (name,)).fetchone()
    )
    return "crc", found[0] if found is not None and isinstance(found[0], int) else 0


def _bears_its_seal(stream: Stream, row: tuple[Any, ...], unsealed_seq: int) -> bool:
    *columns, crc = row
    try:
        return crc == seal(stream, columns) or (crc is None and columns[0] <= unsealed_seq)
    except (struct.error, TypeError):
        return False


def _in_order(rows: list[Row]) -> list[Row]:
    """The most rows that ascend: a page written to the wrong place shows rows where they do not belong."""
    if all(row.seq < later.seq for row, later in pairwise(rows)):
        return rows
    # Patience sorting: ends[n] is the lowest number that ends an ascending selection of n + 1 rows.
    ends: list[int] = []
    lengths: list[int] = []
    for row in rows:
        length = bisect_left(ends, row.seq)
        ends[length : length + 1] = [row.seq]
        lengths.append(length)
    wanted = len(ends) - 1
    chosen: list[Row] = []
    for row, length in zip(reversed(rows), reversed(lengths), strict=True):
        if length == wanted and (not chosen or row.seq < chosen[-1].seq):
            chosen.append(row)
            wanted -= 1
    return chosen[::-1]


def _end_of(row: Row) -> int:
    if row.kind != Kind.GAP.value:
        return row.seq
    gap = unpack_body(Kind.GAP, row.body)
    assert isinstance(gap, Gap)
    return gap.last_seq


def _add_damage(
    target: sqlite3.Connection, stream: Stream, counters: Counters, near: Row, span: tuple[int, int]
) -> None:
    """Tell that `span` is lost; no gap reaches across the watermark."""
    first_seq, last_seq = span
    watermark = counters.confirmed_seq
    parts = (
        [(first_seq, watermark), (watermark + 1, last_seq)] if first_seq <= watermark < last_seq else [span]
    )
    for first, last in parts:
        body = pack_body(Gap(last, "damaged", ()))
        _add(target, stream, counters, near._replace(seq=first, kind=Kind.GAP.value, body=body))


def _add(target: sqlite3.Connection, stream: Stream, counters: Counters, row: Row) -> None:
    RecordTable(stream).insert(target, [row])
    if row.seq <= counters.confirmed_seq:
        counters.replay_records += 1
        counters.replay_bytes += ROW_BYTES + len(row.body)
    else:
        counters.waiting_records += 1
        counters.waiting_bytes += ROW_BYTES + len(row.body)
