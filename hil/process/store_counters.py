"""What the store on the disk says it made, read when the daemon has stopped."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from agent.domain.record import Stream
from agent.outbox.database import FILE_NAME


def last_sequences(directory: Path) -> dict[Stream, int]:
    """Last sequence number of each stream. Only while no daemon has the store open."""
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        rows = connection.execute("SELECT name, last_seq FROM stream").fetchall()
    return {Stream(name): seq for name, seq in rows}
