"""The in-flight window: QoS 1 messages that were sent and not yet acknowledged."""

from __future__ import annotations

from collections.abc import Callable

Landed = Callable[[int], None]
"""Called with the PUBACK's reason code."""


class Window:
    """Bounds what is in flight on one connection by our own limit and by the broker's receive maximum.

    The last place is kept for first-class messages (events), so that trail or states in flight never keep a
    press waiting for a PUBACK. Who finds no room stands in line: with few places, nobody who sends often
    keeps the others from sending at all.
    """

    def __init__(self, size: int, freed: Callable[[], None] = lambda: None) -> None:
        """Store the parts.

        Args:
            size: messages that may be in flight.
            freed: called when whoever stands in line should look again, though no PUBACK came.
        """
        self._size = size
        self._freed = freed
        self._flights: dict[int, Landed] = {}
        self._line: list[object] = []
        self._waiting_since: float | None = None

    def __len__(self) -> int:
        return len(self._flights)

    def has_room(self, *, first_class: bool) -> bool:
        """True when one more may be in flight."""
        return self._free(first_class=first_class) > 0

    @property
    def is_busy(self) -> bool:
        """True when more than half of the places are taken, or somebody stands in line."""
        in_flight = len(self._flights)
        return bool(self._line) or (in_flight > 0 and 2 * (in_flight + 1) > self._size)

    def may_send(self, sender: object, *, first_class: bool) -> bool:
        """True when there is room for the sender and for all that stand in line before it.

        Otherwise the sender stands in line, the first-class ahead of all others, until it has sent or
        withdraws.
        """
        if sender not in self._line:
            self._line.insert(0 if first_class else len(self._line), sender)
        ahead = 0 if first_class else self._line.index(sender)
        return self._free(first_class=first_class) > ahead

    def withdraw(self, sender: object) -> None:
        """The sender has nothing to send now after all. Idempotent."""
        if sender in self._line:
            self._line.remove(sender)
            self._tell_next()

    def sent(self, sender: object, token: int, landed: Landed, now: float) -> None:
        """A message went out."""
        self._flights[token] = landed
        if self._waiting_since is None:
            self._waiting_since = now
        if sender in self._line:
            self._line.remove(sender)
            self._tell_next()

    def landed(self, token: int, reason_code: int, now: float) -> None:
        """A PUBACK came."""
        oldest = next(iter(self._flights), None)
        landed = self._flights.pop(token, None)
        if not self._flights:
            self._waiting_since = None
        elif token == oldest:
            self._waiting_since = now
        if landed is not None:
            landed(reason_code)

    def stalled_s(self, now: float) -> float:
        """For how long the message in front has been in flight with none before it.

        PUBACKs of later ones do not count: one that never comes would otherwise hold its stream up for as
        long as the rest of the traffic goes on.
        """
        return 0.0 if self._waiting_since is None else now - self._waiting_since

    def _free(self, *, first_class: bool) -> int:
        size = self._size if first_class or self._size <= 1 else self._size - 1
        return size - len(self._flights)

    def _tell_next(self) -> None:
        if self._line and self.has_room(first_class=False):
            self._freed()
