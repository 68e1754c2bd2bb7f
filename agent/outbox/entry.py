"""A record on its way into the store."""

from __future__ import annotations

from typing import NamedTuple

from agent.domain.record import Draft, Kind, Telemetry
from agent.domain.stamp import UtcSource
from agent.wire.body import bounded, pack_body

STREAM_OF_KIND = {kind.value: kind.streams[0] for kind in Kind if len(kind.streams) == 1}
"""Where a new record of each kind is appended; a gap is put in the place of what went."""


class Entry(NamedTuple):
    """A record ready to be inserted: a Row without what the store gives it."""

    kind: int
    boottime_ms: int
    utc_ms: int | None
    utc_source: int
    utc_uncertainty_ms: int | None
    body: bytes


def entries_of(draft: Draft) -> list[Entry]:
    """Pack a draft whose body may be too large for one record: telemetry is divided by its signals."""
    if not isinstance(draft.body, Telemetry):
        return [entry_of(draft)]
    return [entry_of(Draft(draft.stamp, body)) for body in bounded(draft.body)]


def entry_of(draft: Draft) -> Entry:
    """Pack a draft."""
    stamp = draft.stamp
    boottime_ms = stamp.boottime_ns // 1_000_000
    if stamp.utc is None:
        return Entry(draft.kind.value, boottime_ms, None, UtcSource.NONE.value, None, pack_body(draft.body))
    utc = stamp.utc
    return Entry(
        draft.kind.value,
        boottime_ms,
        utc.unix_ms,
        utc.source.value,
        utc.uncertainty_ms,
        pack_body(draft.body),
    )
