"""The one connection to the store's file, set up for a memory card."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Literal

from agent.outbox.fault import StoreDamagedError

Synchronous = Literal["FULL", "NORMAL", "OFF"]

FILE_NAME = "outbox.db"
PROBE_NAME = ".outbox-probe"
PAGE_BYTES = 4096
WAL_BYTES = 512 * 1024
"""The log is written out to this size when the store is opened. Commits then overwrite blocks that exist, so
a flush carries no file system metadata; and they still succeed for a while on a disk that is full."""
CHECKPOINT_PAGES = 96
"""The log is brought home after about this many pages, well before it outgrows WAL_BYTES."""
_CACHE_KIB = 2048
_WRITE_VERSION_AT, _WRITE_VERSION_OF_WAL = 18, 2
"""The byte of SQLite's header that says how it may be written; what is greater is of a later SQLite."""


def connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Open or create the file as the only connection it may have.

    SQLite before 3.51.3 can lose commits when two connections write or checkpoint at the same moment; the
    exclusive lock keeps every other process out, and spares the shared-memory file.

    Raises sqlite3.Error, OSError.
    """
    connection = sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    try:
        if not path.stat().st_size:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for pragma in (
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            "wal_autocheckpoint = 0",
            f"cache_size = -{_CACHE_KIB}",
            "temp_store = MEMORY",
            "cell_size_check = ON",
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def see_that_it_may_be_written(path: Path) -> None:
    """Look at the header before it is opened: SQLite takes a file of a later format as one to read only.

    Ours never says so. It would be as on a disk that refuses, for ever. For what can not be read SQLite has
    its own words. Raises StoreDamagedError.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_WRITE_VERSION_AT + 1)
    except OSError:
        return
    if len(header) > _WRITE_VERSION_AT and header[_WRITE_VERSION_AT] > _WRITE_VERSION_OF_WAL:
        raise StoreDamagedError(f"{path}: its header forbids writing")


def write_out_log(path: Path) -> None:
    """Write zeros from the end of the log of `path` up to WAL_BYTES, and flush file and folder.

    Recovery stops at the first frame whose checksum is wrong, so zeros after the last frame mean nothing.
    Raises OSError, which costs only the advantage.
    """
    log = path.with_name(path.name + "-wal")
    descriptor = os.open(log, os.O_WRONLY)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size < WAL_BYTES:
            os.write(descriptor, bytes(WAL_BYTES - size))
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make created and renamed names in `folder` survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def probe(folder: Path) -> None:
    """Write, flush and remove a small file: what /proc/mounts says may be out of date. Raises OSError."""
    path = folder / PROBE_NAME
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, b"probe")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()
