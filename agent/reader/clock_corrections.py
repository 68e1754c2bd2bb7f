"""Clock records, as a reader applies them: to what comes later of that boot, and to what it has already."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from agent.domain.clock_correction import corrected_utc
from agent.domain.record import ClockCorrection
from agent.domain.stamp import Utc
from agent.wire.batch import JournalRecord

BOOTS_REMEMBERED = 4096
"""Boots of all units whose newest correction is kept, for what still comes of them from a backlog."""


def corrected(record: JournalRecord, correction: ClockCorrection) -> JournalRecord:
    """The record with the better UTC; itself where its own is as good.

    Args:
        record: of the journal and boot (`of_boot`) that the correction is of.
        correction: body of a clock record of the same journal.
    """
    own = None
    if record.utc_ms is not None:
        own = Utc(record.utc_ms, record.utc_source, record.utc_uncertainty_ms)
    utc = corrected_utc(record.boottime_ms, own, correction)
    if utc is None or utc == own:
        return record
    return replace(record, utc_ms=utc.unix_ms, utc_source=utc.source, utc_uncertainty_ms=utc.uncertainty_ms)


class ClockCorrections:
    """The newest correction of each boot. Bounded; not thread-safe."""

    def __init__(self) -> None:
        self._of: OrderedDict[tuple[str, int, int], ClockCorrection] = OrderedDict()

    def apply(self, agency: str, record: JournalRecord) -> JournalRecord:
        """Take a record as it comes; return it with the best UTC that is known of its boot."""
        unit = f"{agency}/{record.unit}"
        if isinstance(record.body, ClockCorrection):
            key = unit, record.journal, record.body.of_boot
            self._of[key] = record.body
            self._of.move_to_end(key)
            while len(self._of) > BOOTS_REMEMBERED:
                self._of.popitem(last=False)
        correction = self._of.get((unit, record.journal, record.boot))
        return record if correction is None else corrected(record, correction)
