"""A record that was given to the outbox, and what has become of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from agent.domain.record import Stream
from agent.outbox.entry import STREAM_OF_KIND, Entry


class Fate(Enum):
    """What is true of a deposit now; a damaged disk may take it a step back."""

    NOT_STORED = "not_stored"
    STORED = "stored"
    DELIVERED = "delivered"


class Content(NamedTuple):
    """By what a record is known again in a store that took the place of another."""

    kind: int
    boottime_ms: int
    body: bytes


class Deposit(asyncio.Future[int]):
    """What `Outbox.put` gives back: a future of the sequence number, which goes on being true.

    The future is done once the record is on the disk for the first time. From then on `seq` and `fate` follow
    it: a store that was salvaged or replaced may hold it elsewhere, or no longer; then it is stored again.
    Cancelling the future does not take the record back. Used from the event loop only.

    Attributes:
        content: by which it is known.
        entry: for a record of this run, to store it again; None for one of an earlier boot.
        seq: its number in the journal in use, None while it is not stored.
        fate: what is true now.
    """

    def __init__(self, content: Content, entry: Entry | None = None) -> None:
        super().__init__()
        self.content = content
        self.entry = entry
        self.seq: int | None = None
        self.fate = Fate.NOT_STORED
        self._listeners: list[Callable[[Deposit], None]] = []

    @property
    def stream(self) -> Stream:
        """The stream it belongs to."""
        return STREAM_OF_KIND[self.content.kind]

    def listen(self, listener: Callable[[Deposit], None]) -> None:
        """Call `listener` on the loop whenever `seq` or `fate` changed."""
        self._listeners.append(listener)

    def now(self, seq: int | None, fate: Fate) -> None:
        """For the outbox: say what is true, and tell those who listen."""
        if (seq, fate) != (self.seq, self.fate):
            self.seq, self.fate = seq, fate
            for listener in self._listeners:
                listener(self)
