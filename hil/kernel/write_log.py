"""What the disk was told, in order: the log of the kernel's dm-log-writes target.

The format is that of drivers/md/dm-log-writes.c, version 1: a header sector, then for each write an entry
sector followed by the data. A write stands in the log once it is complete and a later flush has reached the
disk, so that all before a flush entry is on the medium and all after it may or may not be.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

SECTOR_BYTES = 512
_HEADER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_MAGIC = 0x6A736677736872


class Flag(IntFlag):
    """Flags of an entry, as the kernel writes them."""

    FLUSH = 1
    FUA = 2
    DISCARD = 4
    MARK = 8


@dataclass(frozen=True, slots=True)
class Write:
    """One write to the disk, or a bare flush.

    Attributes:
        sector: where, in sectors of 512 bytes.
        data: what; empty for a bare flush.
        is_barrier: True when it carries FLUSH or FUA: what was logged before it is on the medium.
    """

    sector: int
    data: memoryview
    is_barrier: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A note that the workload put between the writes."""

    text: str


def read_write_log(path: Path) -> Iterator[Write | Mark]:
    """The entries of a log, in order; discards are left out, since they promise nothing.

    Raises:
        ValueError: when the file is no such log.
    """
    with path.open("rb") as file:
        log = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    magic, version, entries, sector_bytes = _HEADER.unpack_from(log)
    if magic != _MAGIC or version != 1:
        raise ValueError(f"{path}: not a write log of version 1")
    offset = sector_bytes
    for _ in range(entries):
        sector, sectors, flags, note_bytes = _ENTRY.unpack_from(log, offset)
        payload = offset + sector_bytes
        if flags & Flag.MARK:
            note = bytes(log[offset + _ENTRY.size :][:note_bytes])
            yield Mark(note.split(b"\0")[0].decode())
            offset = payload
        elif flags & Flag.DISCARD:
            offset = payload
        else:
            size = sectors * SECTOR_BYTES
            yield Write(sector, log[payload : payload + size], bool(flags & (Flag.FLUSH | Flag.FUA)))
            offset = payload + size
