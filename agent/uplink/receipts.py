"""Confirmation by dispatch: what it says it has is delivered, what it does not say is sent again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.domain.record import Stream
from agent.uplink.records import Records
from agent.uplink.sender import StreamSender
from agent.wire.reader_request import Receipt

PATIENCE_S = 120.0
PATIENCE_MAX_S = 3600.0


@dataclass(slots=True)
class _Wait:
    """How long a stream has waited for dispatch's receipt, and how long it may."""

    since: float
    patience_s: float = PATIENCE_S


class Receipts:
    """Moves the delivered watermark by what dispatch tells on a connection. Used from the event loop only."""

    def __init__(self, records: Records, senders: Mapping[Stream, StreamSender], now: float) -> None:
        self._records = records
        self._senders = senders
        self._waits = {stream: _Wait(now) for stream in senders}

    def take(self, receipt: Receipt, now: float) -> None:
        """A receipt came."""
        if receipt.journal != self._records.journal:
            return  # a receipt that does not say for which store it is could confirm what was never sent
        through = min(receipt.through_seq, self._senders[receipt.stream].landed_seq)
        if through > self._records.confirmed(receipt.stream):
            self._waits[receipt.stream] = _Wait(now)
            self._records.confirm(receipt.stream, through)

    def tend(self, now: float) -> None:
        """Send again what dispatch did not confirm, at growing intervals: it may be away for hours."""
        for stream, sender in self._senders.items():
            wait = self._waits[stream]
            if sender.landed_seq <= self._records.confirmed(stream):
                wait.since = now
            elif now - wait.since > wait.patience_s:
                wait.since = now
                wait.patience_s = min(PATIENCE_MAX_S, 2 * wait.patience_s)
                sender.send_again()
