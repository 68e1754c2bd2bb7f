"""Giving a UTC to records that were made before any was known."""

from __future__ import annotations

from agent.domain.stamp import UtcSource
from agent.domain.time_base import TimeBase
from agent.outbox.outbox import Outbox
from agent.wire.row import Row


class RowTime:
    """Looks at each record as it leaves: without a trusted UTC it gets the one known by now.

    Attributes:
        untimed_left: True once a record of this boot left without a trusted UTC all the same; whoever makes a
            clock record of it sets it back.
    """

    def __init__(self, time_base: TimeBase, outbox: Outbox) -> None:
        self._time_base = time_base
        self._outbox = outbox
        self.untimed_left = False

    def __call__(self, row: Row) -> Row:
        """The row, with a UTC when one can be given; a record of another boot leaves as it was stored."""
        if row.utc_source >= UtcSource.NTP or row.boot != self._outbox.boot:
            return row
        utc = self._time_base.utc(row.boottime_ms * 1_000_000)
        if utc is None or utc.source < UtcSource.NTP:
            self.untimed_left = True
        if utc is None or utc.source <= row.utc_source:
            return row
        return row._replace(
            utc_ms=utc.unix_ms, utc_source=int(utc.source), utc_uncertainty_ms=utc.uncertainty_ms
        )
