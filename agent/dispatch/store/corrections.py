"""What later records say of earlier ones: better times, withdrawals and amendments. The originals stay.

A row's time is made better in place (what it was stands in the raw batch); what crews took back or amended is
a row beside the record, and whoever reads the record is told both.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from agent.dispatch.store.engine import Connection
from agent.domain.clock_correction import corrected_utc
from agent.domain.record import Amendment, ClockCorrection, Withdrawal
from agent.domain.stamp import Utc, UtcSource
from agent.wire.batch import JournalRecord

WITHDRAWN = "withdrawn"
"""Field of an amendment that takes the whole record back."""
_BOUND = 1 << 62
_TEXT = 300

Key = tuple[int, int, int]
"""Unit, journal and boot."""


class Corrections:
    """Applies corrections to rows of the store. Everything happens inside the caller's transaction."""

    def __init__(self) -> None:
        self._known: dict[Key, list[ClockCorrection]] = defaultdict(list)

    def load(self, connection: Connection) -> None:
        """Take what the store knows."""
        self._known.clear()
        for unit_id, journal, boot, *fields in connection.query(
            "SELECT unit_id, journal, boot, from_boottime_ms, to_boottime_ms, offset_ms, utc_source, "
            "utc_uncertainty_ms FROM clock_corrections ORDER BY correction_id"
        ):
            self._known[unit_id, journal, boot].append(ClockCorrection(boot, *fields))

    def forget(self, connection: Connection) -> None:
        """Before everything is made anew from the raw batches."""
        self._known.clear()
        connection.execute("DELETE FROM clock_corrections")
        connection.execute("DELETE FROM amendments")

    def better(self, unit_id: int, record: JournalRecord) -> tuple[int | None, int, int | None]:
        """UTC, source and uncertainty of a record, as well as they are known by now."""
        utc = (
            None
            if record.utc_ms is None
            else Utc(record.utc_ms, record.utc_source, record.utc_uncertainty_ms)
        )
        for one in self._known.get((unit_id, record.journal, record.boot), ()):
            utc = corrected_utc(record.boottime_ms, utc, one)
        return (None, 0, None) if utc is None else (utc.unix_ms, int(utc.source), utc.uncertainty_ms)

    def learn(self, unit_id: int, record: JournalRecord) -> None:
        """Remember a clock record for the rows to come."""
        body = record.body
        if isinstance(body, ClockCorrection) and _sane(body):
            self._known[unit_id, record.journal, body.of_boot].append(body)

    def apply(self, connection: Connection, unit_id: int, record: JournalRecord, now_ms: int) -> None:
        """Let a record that corrects others do so, in the rows that are there."""
        body = record.body
        if isinstance(body, ClockCorrection) and _sane(body):
            self._apply_clock(connection, unit_id, record.journal, body)
        elif isinstance(body, Withdrawal):
            _note(
                connection,
                unit_id,
                record,
                (WITHDRAWN, None, body.status, body.by, None, body.of_seq),
                now_ms,
            )
        elif isinstance(body, Amendment):
            fields = (body.field, body.original, body.value, body.by, body.why, body.of_seq)
            _note(connection, unit_id, record, fields, now_ms)

    def _apply_clock(self, connection: Connection, unit_id: int, journal: int, body: ClockCorrection) -> None:
        values: dict[str, Any] = {
            "unit": unit_id,
            "journal": journal,
            "boot": body.of_boot,
            "first": body.from_boottime_ms,
            "last": body.to_boottime_ms,
            "offset": body.offset_ms,
            "source": body.source,
            "uncertainty": body.uncertainty_ms,
        }
        number = connection.query("SELECT coalesce(max(correction_id), 0) + 1 FROM clock_corrections")[0][0]
        connection.execute(
            "INSERT INTO clock_corrections VALUES "
            "(:id, :unit, :journal, :boot, :first, :last, :offset, :source, :uncertainty)",
            values | {"id": number},
        )
        # The rule of `corrected_utc`, for all rows at once.
        connection.execute(
            "UPDATE records SET utc_ms = boottime_ms + :offset, at_ms = boottime_ms + :offset, "
            "utc_source = :source, utc_uncertainty_ms = :uncertainty WHERE unit_id = :unit AND boot = :boot "
            "AND boottime_ms >= :first AND boottime_ms <= :last "
            "AND stream_id IN (SELECT stream_id FROM streams WHERE unit_id = :unit AND journal = :journal) "
            f"AND (utc_ms IS NULL OR utc_source < {int(UtcSource.NTP)} OR utc_uncertainty_ms IS NULL "
            "OR abs(utc_ms - boottime_ms - :offset) > utc_uncertainty_ms + :within)",
            values | {"within": body.uncertainty_ms or 0},
        )


def _note(
    connection: Connection, unit_id: int, record: JournalRecord, fields: tuple[Any, ...], now_ms: int
) -> None:
    names = ("field", "original", "value", "by", "why", "of_seq")
    values: dict[str, Any] = {name: _storable(value) for name, value in zip(names, fields, strict=True)}
    if not 0 < values["of_seq"] < _BOUND:
        return
    number = connection.query("SELECT coalesce(max(amendment_id), 0) + 1 FROM amendments")[0][0]
    connection.execute(
        "INSERT INTO amendments VALUES "
        "(:id, :unit, :journal, :of_seq, :field, :original, :value, :by, :why, :now)",
        values | {"id": number, "unit": unit_id, "journal": record.journal, "now": now_ms},
    )


def _sane(body: ClockCorrection) -> bool:
    numbers = (
        body.of_boot,
        body.from_boottime_ms,
        body.to_boottime_ms,
        body.offset_ms,
        body.uncertainty_ms or 0,
    )
    return all(0 <= number < 1 << 46 for number in numbers) and body.source in (UtcSource.NTP, UtcSource.GNSS)


def _storable(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value[:_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
