"""What the uplink needs of the outbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from agent.domain.record import Stream
from agent.wire.row import Row


class Records(Protocol):
    """Stored records in their streams, and how far they were delivered; the outbox."""

    @property
    def journal(self) -> int:
        """Identity of the sequence numbers; 0 while the store could not be opened."""
        ...

    @property
    def boot(self) -> int:
        """The store's count of this boot."""
        ...

    @property
    def boot_ids(self) -> Mapping[int, str]:
        """The kernel's id of each boot that the store knows of, by its count."""
        ...

    async def begin_new_journal(self, why: str) -> None:
        """Give the store another identity, so that none of its numbers is taken for one that was sent before.

        An alert tells why. Raises StoreFaultError; then nothing has changed.
        """
        ...

    async def read(
        self, stream: Stream, after_seq: int, *, max_records: int, max_bytes: int, last_seq: int | None = None
    ) -> list[Row]:
        """Rows after `after_seq`, ascending. Raises StoreFaultError."""
        ...

    def confirm(self, stream: Stream, through_seq: int) -> None:
        """Everything up to `through_seq` was delivered."""
        ...

    def confirmed(self, stream: Stream) -> int:
        """Everything up to here was delivered."""
        ...

    def last_seq(self, stream: Stream) -> int:
        """Newest sequence number that can be read."""
        ...

    def on_appended(self, listener: Callable[[Stream], None]) -> None:
        """Call `listener` after each commit that added to a stream."""
        ...
