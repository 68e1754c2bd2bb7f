"""Confirmation by dispatch: what it says it has is delivered, what it does not say is sent again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.domain.record import Stream
from agent.uplink.lane import Journal, StreamLane
from agent.wire.reader_request import decode_receipt

PATIENCE_S = 120.0
PATIENCE_MAX_S = 3600.0


@dataclass(slots=True)
class _Wait:
    """How long a stream has waited for dispatch's receipt, and how long it may."""

    since: float
    patience_s: float = PATIENCE_S


class Receipts:
    """Moves the delivered watermark by what dispatch tells. Used from the event loop only."""

    def __init__(self, journal: Journal, lanes: Mapping[Stream, StreamLane]) -> None:
        self._journal = journal
        self._lanes = lanes
        self._waits = {stream: _Wait(0.0) for stream in lanes}

    def open(self, now: float) -> None:
        """A connection stands."""
        self._waits = {stream: _Wait(now) for stream in self._lanes}

    def take(self, payload: bytes, now: float) -> None:
        """A receipt came. Raises CodecError."""
        receipt = decode_receipt(payload)
        if receipt.journal != self._journal.journal:
            return  # a receipt that does not say for which store it is could confirm what was never sent
        through = min(receipt.through_seq, self._lanes[receipt.stream].landed_seq)
        if through > self._journal.confirmed(receipt.stream):
            self._waits[receipt.stream] = _Wait(now)
            self._journal.confirm(receipt.stream, through)

    def tend(self, now: float) -> None:
        """Send again what dispatch did not confirm, at growing intervals: it may be away for hours."""
        for stream, lane in self._lanes.items():
            wait = self._waits[stream]
            if lane.landed_seq <= self._journal.confirmed(stream):
                wait.since = now
            elif now - wait.since > wait.patience_s:
                wait.since = now
                wait.patience_s = min(PATIENCE_MAX_S, 2 * wait.patience_s)
                lane.send_again()
