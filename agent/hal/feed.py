"""A device that is read: opened, awaited for what arrived, closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

Item_co = TypeVar("Item_co", covariant=True)


class Feed(Protocol[Item_co]):
    """A stream of items from one device. Used from the event loop only; `close` is idempotent.

    `read` must be safe to cancel: nothing that was received is lost by a cancelled read.
    """

    @property
    def name(self) -> str:
        """The device as configured, for messages."""
        ...

    async def open(self) -> None:
        """Open the device. Raises HardwareError."""
        ...

    async def read(self) -> Sequence[Item_co]:
        """Wait until something arrived and return it all, at least one item. Raises HardwareError."""
        ...

    async def close(self) -> None:
        """Release the device; never raises."""
        ...
