"""A record as it lies in the store."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One stored record. A plain tuple: a million of them pass through on a drain.

    Attributes:
        seq: sequence number within its stream.
        kind: number of `agent.domain.record.Kind`.
        boot: the store's own count of boots, from 1.
        boottime_ms: CLOCK_BOOTTIME of the event in milliseconds.
        utc_ms: derived UTC in Unix milliseconds, None when not known at the time.
        utc_source: number of `agent.domain.stamp.UtcSource`.
        utc_uncertainty_ms: see `agent.domain.stamp.Utc`; None without UTC.
        body: msgpack array made by `agent.wire.body`.
    """

    seq: int
    kind: int
    boot: int
    boottime_ms: int
    utc_ms: int | None
    utc_source: int
    utc_uncertainty_ms: int | None
    body: bytes
