"""What waits in the outbox, for `mdt status`, the panel and dispatch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.domain.record import Stream


@dataclass(frozen=True, slots=True)
class Waiting:
    """Undelivered records of one stream.

    Attributes:
        records: stored and not delivered; since the last commit, deliveries are counted by sequence numbers.
        bytes: what they take on the disk, as accounted at the last commit.
        oldest_boot: the store's count of the boot that made the oldest of them; None when nothing waits.
        oldest_boottime_ms: its CLOCK_BOOTTIME in milliseconds.
        oldest_utc_ms: its UTC in Unix milliseconds, None while unknown.
    """

    records: int = 0
    bytes: int = 0
    oldest_boot: int | None = None
    oldest_boottime_ms: int | None = None
    oldest_utc_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """The whole outbox at one moment.

    Attributes:
        streams: undelivered records of each stream.
        unsaved: records in memory that no commit has covered yet (staged trail, refused presses).
        stored_bytes: size of the store's file.
        replay_records: delivered records kept for a reader that asks again.
        replay_bytes: what those take.
    """

    streams: Mapping[Stream, Waiting]
    unsaved: int
    stored_bytes: int
    replay_records: int
    replay_bytes: int

    @property
    def records(self) -> int:
        """Undelivered records of all streams, unsaved ones included."""
        return self.unsaved + sum(waiting.records for waiting in self.streams.values())
