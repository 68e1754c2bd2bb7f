"""The in-flight window: QoS 1 messages that were sent and not yet acknowledged."""

from __future__ import annotations

from collections.abc import Callable

Landed = Callable[[int], None]
"""Called with the PUBACK's reason code."""


class Window:
    """Bounds what is in flight by our own limit and by the broker's receive maximum.

    The last place is kept for first-class messages (events), so that trail or states in flight never keep a
    press waiting for a PUBACK.
    """

    def __init__(self) -> None:
        self._size = 0
        self._flights: dict[int, Landed] = {}
        self._waiting_since: float | None = None

    def __len__(self) -> int:
        return len(self._flights)

    def open(self, size: int) -> None:
        """A connection was opened that takes `size` messages in flight."""
        self.close()
        self._size = size

    def close(self) -> None:
        """The connection ended: what was in flight is not going to land."""
        self._size = 0
        self._flights.clear()
        self._waiting_since = None

    def has_room(self, *, first_class: bool) -> bool:
        """True when one more may be sent."""
        size = self._size if first_class or self._size <= 1 else self._size - 1
        return len(self._flights) < size

    def sent(self, token: int, landed: Landed, now: float) -> None:
        """A message went out."""
        self._flights[token] = landed
        if self._waiting_since is None:
            self._waiting_since = now

    def landed(self, token: int, reason_code: int, now: float) -> None:
        """A PUBACK came."""
        landed = self._flights.pop(token, None)
        self._waiting_since = now if self._flights else None
        if landed is not None:
            landed(reason_code)

    def stalled_s(self, now: float) -> float:
        """For how long something is in flight and no PUBACK came at all."""
        return 0.0 if self._waiting_since is None else now - self._waiting_since
