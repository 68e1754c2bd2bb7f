"""Stores as cards, crashes, other versions and people leave them: what a start may find."""

# ruff: noqa: S608 - the statements are made of constants of this module
from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.outbox.database import FILE_NAME, PAGE_BYTES, PROBE_NAME
from agent.outbox.salvage import SALVAGE_NAME

_SECTOR = 512
_BESIDE = ("-wal", "-shm", "-journal")

Mangler = Callable[[Path, random.Random], None]


def mangle(folder: Path, rng: random.Random) -> str:
    """Do one thing to the store in `folder`, sometimes two; returns what, for the report of a failure."""
    names = [rng.choice(tuple(MANGLERS)) for _ in range(rng.choice((1, 1, 1, 2)))]
    for name in names:
        try:
            MANGLERS[name](folder, rng)
        except (OSError, sqlite3.Error, IndexError, ValueError):
            continue  # nothing left to do that to, after the first
    return " and ".join(names)


# ------------------------------------------------------------------ bytes


def _overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def _flip(path: Path, rng: random.Random, first: int = 0, size: int | None = None) -> None:
    """Turn some bits over, in a part of the file or all of it."""
    content = path.read_bytes()
    for _ in range(rng.choice((1, 1, 2, 20))):
        at = first + rng.randrange(min(size or len(content), len(content) - first))
        _overwrite(path, at, bytes([content[at] ^ 1 << rng.randrange(8)]))


def _flip_anywhere(folder: Path, rng: random.Random) -> None:
    _flip(folder / FILE_NAME, rng)


def _flip_in_header(folder: Path, rng: random.Random) -> None:
    _flip(folder / FILE_NAME, rng, 0, 100)


def _flip_in_version(folder: Path, rng: random.Random) -> None:
    _flip(folder / FILE_NAME, rng, rng.choice((60, 68)), 4)


def _noise(folder: Path, rng: random.Random) -> None:
    path = folder / FILE_NAME
    for _ in range(rng.choice((1, 3, 20))):
        _overwrite(path, rng.randrange(path.stat().st_size), rng.randbytes(rng.choice((1, 16, 512))))


def _lost_sectors(folder: Path, rng: random.Random) -> None:
    path, fill = folder / FILE_NAME, rng.choice((b"\x00", b"\xff"))
    for _ in range(rng.choice((1, 3, 20))):
        sector = rng.randrange(path.stat().st_size // _SECTOR)
        _overwrite(path, sector * _SECTOR, fill * _SECTOR)


def _lost_page(folder: Path, rng: random.Random) -> None:
    path = folder / FILE_NAME
    page = rng.choice((0, rng.randrange(path.stat().st_size // PAGE_BYTES)))
    _overwrite(path, page * PAGE_BYTES, rng.choice((bytes(PAGE_BYTES), rng.randbytes(PAGE_BYTES))))


def _misplaced_page(folder: Path, rng: random.Random) -> None:
    path = folder / FILE_NAME
    pages = path.stat().st_size // PAGE_BYTES
    start = rng.randrange(pages) * PAGE_BYTES
    content = path.read_bytes()[start : start + PAGE_BYTES]
    _overwrite(path, rng.randrange(pages) * PAGE_BYTES, content)


def _cut(folder: Path, rng: random.Random) -> None:
    path = folder / FILE_NAME
    os.truncate(path, rng.choice((0, 1, 99, rng.randrange(path.stat().st_size))))


def _grown(folder: Path, rng: random.Random) -> None:
    with (folder / FILE_NAME).open("ab") as file:
        file.write(rng.randbytes(rng.choice((1, PAGE_BYTES, 3 * PAGE_BYTES + 7))))


# ------------------------------------------------------------------ the files beside it


def _log_hurt(folder: Path, rng: random.Random) -> None:
    path = folder / (FILE_NAME + "-wal")
    # What is written lies at the beginning; behind it there are zeros.
    _flip(path, rng, 0, rng.choice((32, 8 * PAGE_BYTES)))


def _log_cut(folder: Path, rng: random.Random) -> None:
    os.truncate(folder / (FILE_NAME + "-wal"), rng.choice((0, 16, 40, rng.randrange(20 * PAGE_BYTES))))


def _garbage_beside(folder: Path, rng: random.Random) -> None:
    (folder / (FILE_NAME + rng.choice(_BESIDE))).write_bytes(rng.randbytes(rng.choice((0, 40, 9000))))


def _database_gone(folder: Path, rng: random.Random) -> None:
    """Only the log is left, or the start of a salvage."""
    path = folder / FILE_NAME
    if rng.random() < 0.5:
        path.rename(folder / SALVAGE_NAME)
    else:
        path.unlink()


def _salvage_left(folder: Path, rng: random.Random) -> None:
    content = (folder / FILE_NAME).read_bytes()
    (folder / SALVAGE_NAME).write_bytes(content[: rng.randrange(len(content))])


def _salvage_is_garbage(folder: Path, rng: random.Random) -> None:
    """A salvage that was interrupted between its renames, and then hit."""
    (folder / FILE_NAME).rename(folder / SALVAGE_NAME)
    _overwrite(folder / SALVAGE_NAME, 0, rng.randbytes(PAGE_BYTES))


def _no_file(folder: Path, rng: random.Random) -> None:
    """A folder, a pipe or a link to nowhere where a file should be."""
    names = [FILE_NAME, *(FILE_NAME + suffix for suffix in _BESIDE), SALVAGE_NAME, PROBE_NAME]
    path = folder / rng.choice(names)
    path.unlink(missing_ok=True)
    match rng.randrange(4):
        case 0:
            path.mkdir()
            (path / "something").write_text("inside")
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(folder / "nowhere")
        case _:
            path.symlink_to(path)


# ------------------------------------------------------------------ whole stores


def _replace(folder: Path, statements: tuple[str, ...]) -> None:
    for path in folder.glob(FILE_NAME + "*"):
        path.unlink()
    _alter(folder, *statements)


def _alter(folder: Path, *statements: str) -> None:
    """Change a store behind its back: the content is wrong, and every page of it is well formed."""
    connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    try:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


def _foreign(folder: Path, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        (folder / FILE_NAME).write_bytes(rng.randbytes(rng.choice((1, 100, 20_000))))
    elif kind == 1:
        (folder / FILE_NAME).write_text("[unit]\nagency = 'not a database'\n" * 50)
    elif kind == 2:
        _replace(folder, ("CREATE TABLE songs (title TEXT)", "INSERT INTO songs VALUES ('x')"))
    else:
        _replace(folder, ("PRAGMA user_version = 3",))


def _other_version(folder: Path, rng: random.Random) -> None:
    _alter(
        folder,
        *rng.choice(
            (
                ("CREATE TABLE trip (trip INTEGER PRIMARY KEY)", "PRAGMA user_version = 99"),
                ("ALTER TABLE trail ADD COLUMN trip INTEGER", "PRAGMA user_version = 9"),
                ("PRAGMA user_version = 0",),
                ("PRAGMA user_version = -5",),
                ("PRAGMA user_version = 65537",),
                ("DROP TABLE boot",),
                ("DROP TABLE trail", "PRAGMA user_version = 0"),
                ("PRAGMA application_id = 7",),
            )
        ),
    )


_COUNTERS = ("last_seq", "confirmed_seq", "floor_seq", "waiting_records", "waiting_bytes", "replay_bytes")
_NUMBERS = (-1, 0, 1, 7, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))


def _wrong_counters(folder: Path, rng: random.Random) -> None:
    table, name = rng.choice(_COUNTERS), rng.choice(("events", "trail"))
    newest = rng.choice(
        ("'{}'", "'['", "'[]'", "'{\"2\": 1}'", "'{\"2\": 3e99}'", "'{\"x\": 2}'", "x'ff'", "NULL")
    )
    statement = f"UPDATE stream SET {table} = {rng.choice(_NUMBERS)} WHERE name = '{name}'"
    _alter(
        folder,
        rng.choice(
            (statement, f"UPDATE stream SET newest = {newest} WHERE name = '{name}'", "DELETE FROM stream")
        ),
    )


_ROW_CHANGES = (
    "kind = 77",
    "kind = 7",
    "kind = -1",
    "boot = 0",
    "boot = 1 << 40",
    "boottime_ms = -(1 << 62)",
    "utc_ms = 1 << 62",
    "utc_ms = -1",
    "utc_source = 9",
    "utc_uncertainty_ms = -1",
    "body = x''",
    "body = x'c1'",
    "body = x'95a3666f6fc0c0c0c0'",
    "body = x'9590c09000c0'",
    "body = x'dd7fffffff'",
    "body = zeroblob(100000)",
    "seq = seq + 1000000",
    "seq = 4611686018427387904",
    "seq = -3",
)


def _wrong_row(folder: Path, rng: random.Random) -> None:
    """The newest record of a kind, or any, says what no record says."""
    table = rng.choice(("events", "trail"))
    which = rng.choice((f"SELECT max(seq) FROM {table}", f"SELECT max(seq) FROM {table} GROUP BY kind"))
    _alter(folder, f"UPDATE {table} SET {rng.choice(_ROW_CHANGES)} WHERE seq IN ({which})")


def _rows_gone(folder: Path, rng: random.Random) -> None:
    table = rng.choice(("events", "trail", "boot", "store"))
    _alter(folder, f"DELETE FROM {table} WHERE rowid % {rng.choice((1, 2, 17))} = 0")


def _wrong_identity(folder: Path, rng: random.Random) -> None:
    _alter(
        folder,
        rng.choice(
            (
                f"UPDATE store SET journal = {rng.choice(_NUMBERS)}",
                f"UPDATE boot SET boot = {rng.choice(_NUMBERS)}",
                "UPDATE boot SET boot_id = ''",
                "UPDATE store SET clean = 7",
            )
        ),
    )


def _wrong_schema(folder: Path, rng: random.Random) -> None:
    old, new = rng.choice((("body", "bodx"), ("INTEGER", "INTEGR"), ("STRICT", ""), ("TABLE", "TABEL")))
    _alter(folder, f"UPDATE sqlite_schema SET sql = replace(sql, '{old}', '{new}')")


def _other_page_size(folder: Path, rng: random.Random) -> None:
    _alter(
        folder,
        f"PRAGMA page_size = {rng.choice((512, 1024, 65536))}",
        "PRAGMA journal_mode = DELETE",
        "VACUUM",
    )


def _earlier_files(folder: Path, rng: random.Random) -> None:
    """The log of one moment beside the database of another."""
    del rng
    shutil.copy(folder / FILE_NAME, folder / "earlier")
    _alter(folder, "DELETE FROM events WHERE seq > 3", "PRAGMA wal_checkpoint(TRUNCATE)")
    (folder / "earlier").rename(folder / (FILE_NAME + "-wal"))


MANGLERS: Mapping[str, Mangler] = {
    "bits": _flip_anywhere,
    "bits of the header": _flip_in_header,
    "bits of the version": _flip_in_version,
    "noise": _noise,
    "lost sectors": _lost_sectors,
    "a lost page": _lost_page,
    "a misplaced page": _misplaced_page,
    "cut": _cut,
    "grown": _grown,
    "bits of the log": _log_hurt,
    "a cut log": _log_cut,
    "garbage beside it": _garbage_beside,
    "no database": _database_gone,
    "half a salvage": _salvage_left,
    "a hit salvage": _salvage_is_garbage,
    "no file": _no_file,
    "something else": _foreign,
    "another version": _other_version,
    "wrong counters": _wrong_counters,
    "a wrong row": _wrong_row,
    "rows gone": _rows_gone,
    "a wrong identity": _wrong_identity,
    "a wrong schema": _wrong_schema,
    "another page size": _other_page_size,
    "files of two moments": _earlier_files,
}
