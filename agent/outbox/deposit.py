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
        entry: what was, or is to be, written.
        ours: False for a record of an earlier run, which can not be stored again as it was.
        seq: its number in the journal in use, None while it is not stored.
        fate: what is true now.
    """

    seq: int | None = None
    fate: Fate = Fate.NOT_STORED
    _listeners: tuple[Callable[[Deposit], None], ...] = ()

    def __init__(self, entry: Entry, *, ours: bool = True) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.entry = entry
        self.ours = ours

    @property
    def content(self) -> Content:
        """By what it is known."""
        return Content(self.entry.kind, self.entry.boottime_ms, self.entry.body)

    @property
    def stream(self) -> Stream:
        """The stream it belongs to."""
        return STREAM_OF_KIND[self.entry.kind]

    def listen(self, listener: Callable[[Deposit], None]) -> None:
        """Call `listener` on the loop whenever `seq` or `fate` changed."""
        self._listeners = (*self._listeners, listener)

    def now(self, seq: int | None, fate: Fate) -> None:
        """For the outbox: say what is true, and tell those who listen."""
        if fate is not self.fate or seq != self.seq:
            self.seq, self.fate = seq, fate
            for listener in self._listeners:
                listener(self)
