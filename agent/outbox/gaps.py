"""What a stored record may say, and gap records in the place of records that go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from agent.domain.record import Gap, GapReason, Kind, token_of
from agent.domain.stamp import UtcSource
from agent.outbox.fault import StoreDamagedError
from agent.wire.body import pack_body, unpack_body
from agent.wire.row import Row

_GRAVITY = tuple(GapReason)
"""Reasons from harmless to grave: merged gaps are told by the graver one, their counts name the kinds."""

MOST_BOOTS = 1 << 31
MOST_UTC_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last moment that has an ISO 8601 form of four-digit years."""
_MOST_BOOTTIME_MS = 1 << 43
_UTC_SOURCES = frozenset(source.value for source in UtcSource)


def is_sound(row: Row, next_seq: int | None = None) -> bool:
    """False where damage that SQLite did not notice has garbled a column or a body.

    Args:
        row: as it was read.
        next_seq: of the row behind it, which a gap must not reach; None when that is not known.
    """
    stamped = (
        within(row.boot, 1, MOST_BOOTS)
        # A button box may have heard a press before the computer started.
        and within(row.boottime_ms, -_MOST_BOOTTIME_MS, _MOST_BOOTTIME_MS)
        and row.utc_source in _UTC_SOURCES
        and (row.utc_ms is None or within(row.utc_ms, 0, MOST_UTC_MS))
        and (row.utc_uncertainty_ms is None or within(row.utc_uncertainty_ms, 0, _MOST_BOOTTIME_MS))
    )
    try:
        body = unpack_body(row.kind, row.body)
    except ValueError:
        return False
    if isinstance(body, Gap):
        return stamped and within(body.last_seq, row.seq, (next_seq or body.last_seq + 1) - 1)
    return stamped


def within(value: object, least: int, most: int) -> bool:
    """True for a whole number in the range: a garbled row may hold anything in any column."""
    return isinstance(value, int) and least <= value <= most


@dataclass(frozen=True, slots=True)
class Replacement:
    """What to change so that removed records leave no hole.

    Attributes:
        removed: rows to delete, old gap rows that were merged among them.
        gaps: rows to insert.
    """

    removed: list[Row] = field(default_factory=list)
    gaps: list[Row] = field(default_factory=list)


def _gravity(reason: str) -> int:
    """One that is not known here, of another version of the agent, is the gravest."""
    return _GRAVITY.index(GapReason(reason)) if reason in _GRAVITY else len(_GRAVITY)


class _Run:
    """Adjacent rows that become one gap."""

    def __init__(self, row: Row, gap: Gap) -> None:
        self.rows = [row]
        self.last_seq = gap.last_seq
        self.reason = gap.reason
        self.counts = Counter(dict(gap.counts))

    def extend(self, row: Row, gap: Gap) -> None:
        self.rows.append(row)
        self.last_seq = gap.last_seq
        self.reason = max(self.reason, gap.reason, key=_gravity)
        self.counts.update(dict(gap.counts))

    def row(self) -> Row:
        counts = tuple(sorted(self.counts.items()))
        body = pack_body(Gap(self.last_seq, self.reason, counts))
        return self.rows[0]._replace(kind=Kind.GAP.value, body=body)


def gap_of(row: Row) -> Gap:
    """The body of a gap row. Raises StoreDamagedError when it is none."""
    try:
        body = unpack_body(Kind.GAP, row.body)
    except ValueError as error:
        raise StoreDamagedError(f"the gap at {row.seq} can not be read: {error}") from error
    assert isinstance(body, Gap)
    return body


def without(rows: Iterable[Row], removed: Collection[int], reason: str, *, shortest: int = 1) -> Replacement:
    """Replace the rows with the sequence numbers `removed` by gaps, and merge gaps that then touch.

    Args:
        rows: consecutive rows of one stream, ascending.
        removed: sequence numbers that go.
        reason: why.
        shortest: runs of fewer rows stay as they are, since a gap row takes about the place of a position.
    """
    replacement = Replacement()
    run: _Run | None = None

    def end(run: _Run | None) -> None:
        if run is None or (len(run.rows) == 1 and (run.rows[0].kind == Kind.GAP.value or shortest > 1)):
            return
        replacement.removed.extend(run.rows)
        replacement.gaps.append(run.row())

    for row in rows:
        if row.kind == Kind.GAP.value:
            gap = gap_of(row)
        elif row.seq in removed:
            gap = Gap(row.seq, reason, ((token_of(row.kind), 1),))
        else:
            end(run)
            run = None
            continue
        if run is not None and run.last_seq + 1 == row.seq:
            run.extend(row, gap)
        else:
            end(run)
            run = _Run(row, gap)
    end(run)
    return replacement
