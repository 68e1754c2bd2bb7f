"""Which of several receivers tells where the vehicle is: the first of the list that is well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.domain.fix import Fix

LOST_NS = 5 * 1_000_000_000
"""Without a position for longer, a receiver is not well."""
RETURN_NS = 10 * 1_000_000_000
"""A better one must be well for so long before it is taken back: the position must not jump to and fro."""


@dataclass(slots=True)
class _Receiver:
    well_since_ns: int | None = None
    well_at_ns: int = 0


class ReceiverChoice:
    """Chooses. Fed with the fixes of all receivers in the order of boot time; not thread-safe.

    Args:
        names: the receivers, the preferred one first.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._receivers = {name: _Receiver() for name in names}
        self.current: str | None = None
        """Who is believed; None before the first word of any."""
        self.reason = "first"
        """Why: the token of a source record."""

    def offer(self, name: str, fix: Fix) -> bool:
        """Take an epoch of a receiver; True when it is the one to use."""
        now_ns, receiver = fix.received_boottime_ns, self._receivers[name]
        if fix.has_position:
            if receiver.well_since_ns is None or now_ns - receiver.well_at_ns > LOST_NS:
                receiver.well_since_ns = now_ns
            receiver.well_at_ns = now_ns
        self._choose(name, now_ns)
        return name == self.current

    def is_silent(self, name: str) -> bool:
        """Whether the silence of this receiver means that nobody tells the position."""
        return self.current in (None, name)

    def _choose(self, speaking: str, now_ns: int) -> None:
        well = [name for name in self._receivers if self._is_well(name, now_ns)]
        if self.current is None or self.current not in well:
            # Of none that is well, the one that was used goes on saying that it has no fix.
            chosen = well[0] if well else self.current or speaking
            if self.current not in (None, chosen):
                self.reason = "lost"
            self.current = chosen
            return
        best = well[0]
        since_ns = self._receivers[best].well_since_ns
        if best != self.current and since_ns is not None and now_ns - since_ns >= RETURN_NS:
            self.current, self.reason = best, "preferred"

    def _is_well(self, name: str, now_ns: int) -> bool:
        receiver = self._receivers[name]
        return receiver.well_since_ns is not None and now_ns - receiver.well_at_ns <= LOST_NS
