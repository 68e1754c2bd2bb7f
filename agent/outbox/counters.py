"""What the store knows of each stream without looking at its records."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import Self

from agent.domain.record import Stream
from agent.outbox.fault import StoreDamagedError
from agent.outbox.schema import COUNTER_COLUMNS

ROW_BYTES = 32
"""What a record takes on the disk beside its body, with its share of the pages: measured 29, rounded up."""

_MOST_SEQ = 1 << 40
"""Beyond what any store gives: a thousand a second for thirty years."""


@dataclass(slots=True)
class Counters:
    """Counters of one stream, changed together with its records in one transaction.

    Attributes:
        last_seq: newest sequence number ever given; never goes back.
        confirmed_seq: everything up to here was delivered.
        floor_seq: first sequence number still kept; everything below was delivered and trimmed.
        waiting_records: rows above confirmed_seq, gaps among them.
        waiting_bytes: their bodies and ROW_BYTES each.
        replay_records: rows from floor_seq to confirmed_seq.
        replay_bytes: their bodies and ROW_BYTES each.
        newest: kind number to the newest sequence number of that kind.
    """

    last_seq: int = 0
    confirmed_seq: int = 0
    floor_seq: int = 1
    waiting_records: int = 0
    waiting_bytes: int = 0
    replay_records: int = 0
    replay_bytes: int = 0
    newest: dict[int, int] = field(default_factory=dict)

    @classmethod
    def load(cls, connection: sqlite3.Connection, stream: Stream) -> Self:
        """Read the counters. Raises StoreDamagedError when they can not be true."""
        row = connection.execute(
            f"SELECT {COUNTER_COLUMNS} FROM stream WHERE name = ?",  # noqa: S608 - constant columns
            (stream.value,),
        ).fetchone()
        if row is None:
            raise StoreDamagedError(f"the counters of {stream} are missing")
        try:
            newest = {int(kind): int(seq) for kind, seq in json.loads(row[7]).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreDamagedError(f"the counters of {stream} are garbled") from error
        if not all(isinstance(value, int) for value in row[:7]):
            raise StoreDamagedError(f"the counters of {stream} are no numbers")
        counters = cls(*row[:7])
        counters.newest = newest
        # Of the sizes too: what can not be added to any more could not be written back.
        if min(row[:7]) < 0 or max(row[:7]) >= _MOST_SEQ:
            raise StoreDamagedError(f"the counters of {stream} have impossible values")
        if not 1 <= counters.floor_seq <= counters.confirmed_seq + 1 <= counters.last_seq + 1:
            raise StoreDamagedError(f"the counters of {stream} contradict each other")
        if not all(0 <= seq < _MOST_SEQ for seq in newest.values()):
            raise StoreDamagedError(f"the newest records of {stream} have impossible numbers")
        return counters

    def save(self, connection: sqlite3.Connection, stream: Stream) -> None:
        """Write the counters within the caller's transaction."""
        connection.execute(
            "UPDATE stream SET last_seq = ?, confirmed_seq = ?, floor_seq = ?, waiting_records = ?,"
            " waiting_bytes = ?, replay_records = ?, replay_bytes = ?, newest = ? WHERE name = ?",
            (
                self.last_seq,
                self.confirmed_seq,
                self.floor_seq,
                self.waiting_records,
                self.waiting_bytes,
                self.replay_records,
                self.replay_bytes,
                "{" + ", ".join([f'"{kind}": {seq}' for kind, seq in self.newest.items()]) + "}",
                stream.value,
            ),
        )

    def copy(self) -> Counters:
        """An independent copy, to go back to when a transaction fails."""
        return Counters(
            self.last_seq,
            self.confirmed_seq,
            self.floor_seq,
            self.waiting_records,
            self.waiting_bytes,
            self.replay_records,
            self.replay_bytes,
            dict(self.newest),
        )
