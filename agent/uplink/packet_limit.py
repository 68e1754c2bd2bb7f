"""How large a packet the broker takes: what it says, and what its behaviour tells."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_BYTES = 4_096
"""A broker must take packets of this size: any record alone, and any state, is smaller. One that says it
takes less is not used, and nothing less is ever learnt: brokers and networks hang up for many reasons."""
GROW_AFTER_PACKETS = 64
GROW_AFTER_PACKETS_MAX = 4_096
_MOST_ENDPOINTS = 8
_NO_CEILING_ABOVE_BYTES = 1 << 18


@dataclass(slots=True)
class _Learnt:
    """What the behaviour of one broker told.

    Attributes:
        ceiling_bytes: it is offered nothing larger; None for no such limit.
        good_packets: packets that it took since the ceiling moved.
        grow_after_packets: after so many the ceiling is raised.
        raised: whether it was raised since the broker last objected.
    """

    ceiling_bytes: int | None = None
    good_packets: int = 0
    grow_after_packets: int = GROW_AFTER_PACKETS
    raised: bool = False


class PacketLimit:
    """One for all that an uplink sends.

    A broker may hang up on a packet that it finds too large; with MQTT 3.1.1 it can say nothing else. So when
    it hangs up while larger packets were under way than it had taken in that connection, the ceiling falls to
    half of the largest. It rises again with what the broker takes, later each time that was too much. To be
    wrong here costs little: journal records go in smaller packets, none is left out.
    """

    def __init__(self, configured_bytes: int | None = None) -> None:
        self._configured_bytes = configured_bytes
        self._told_bytes = configured_bytes
        self._learnt = _Learnt()
        self._endpoints: dict[str, _Learnt] = {}
        self._largest_taken_bytes = 0

    @property
    def told_bytes(self) -> int | None:
        """The limit that the broker or the configuration sets; None for none."""
        return self._told_bytes

    @property
    def most_bytes(self) -> int | None:
        """The largest packet to send; None for no limit."""
        limits = [limit for limit in (self._told_bytes, self._learnt.ceiling_bytes) if limit is not None]
        return min(limits, default=None)

    def fits(self, size_bytes: int) -> bool:
        """Whether a packet of that size may go."""
        limit = self.most_bytes
        return limit is None or size_bytes <= limit

    def open(self, endpoint: str, told_bytes: int | None) -> None:
        """A connection was opened; the broker takes packets of this size, None when it did not say."""
        limits = [limit for limit in (told_bytes, self._configured_bytes) if limit is not None]
        self._told_bytes = min(limits, default=None)
        self._learnt = self._endpoints.pop(endpoint, _Learnt())
        self._endpoints[endpoint] = self._learnt
        if len(self._endpoints) > _MOST_ENDPOINTS:
            del self._endpoints[next(iter(self._endpoints))]
        self._largest_taken_bytes = 0

    def taken(self, size_bytes: int) -> None:
        """The broker took a packet of this size."""
        self._largest_taken_bytes = max(self._largest_taken_bytes, size_bytes)
        learnt = self._learnt
        if learnt.ceiling_bytes is None:
            return
        learnt.good_packets += 1
        if learnt.good_packets >= learnt.grow_after_packets:
            learnt.good_packets, learnt.raised = 0, True
            learnt.ceiling_bytes *= 2
            if learnt.ceiling_bytes > _NO_CEILING_ABOVE_BYTES:
                learnt.ceiling_bytes = None
                learnt.grow_after_packets = max(GROW_AFTER_PACKETS, learnt.grow_after_packets // 2)

    def refused(self, size_bytes: int) -> bool:
        """The broker said that a packet of this size is too large. False when no smaller one makes sense."""
        if size_bytes <= LEAST_BYTES:
            return False
        self._fall(max(LEAST_BYTES, size_bytes // 2))
        return True

    def hung_up(self, largest_under_way_bytes: int) -> None:
        """The broker ended the connection; the largest packet that it had not answered had this size."""
        known_good = max(LEAST_BYTES, self._largest_taken_bytes)
        if largest_under_way_bytes > known_good:
            self._fall(max(known_good, largest_under_way_bytes // 2))

    def _fall(self, ceiling_bytes: int) -> None:
        learnt = self._learnt
        if learnt.raised:
            learnt.grow_after_packets = min(GROW_AFTER_PACKETS_MAX, 2 * learnt.grow_after_packets)
        learnt.ceiling_bytes = min(ceiling_bytes, learnt.ceiling_bytes or ceiling_bytes)
        learnt.good_packets, learnt.raised = 0, False
