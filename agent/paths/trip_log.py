"""The last trips, from the unit's own journal."""

from __future__ import annotations

from typing import Any, Final

from agent.domain.record import Kind, Stream, TripRecord
from agent.outbox.outbox import Outbox
from agent.wire.body import unpack_body
from agent.wire.time_text import utc_text

MOST_RECORDS: Final = 8192
"""Newest records of the trail that are looked at: a day or two."""
MOST_TRIPS: Final = 20
_PAGE_RECORDS, _PAGE_BYTES = 512, 128 * 1024


async def last_trips(outbox: Outbox) -> list[dict[str, Any]]:
    """The newest trips, oldest first, JSON-able: how far and how long, and neither where nor who.

    Raises StoreFaultError when the disk can not be read.
    """
    last = outbox.last_seq(Stream.TRAIL)
    after = max(0, last - MOST_RECORDS)
    trips: list[dict[str, Any]] = []
    while after < last:
        rows = await outbox.read(
            Stream.TRAIL, after, max_records=_PAGE_RECORDS, max_bytes=_PAGE_BYTES, last_seq=last
        )
        if not rows:
            break
        after = rows[-1].seq
        for row in rows:
            if row.kind != Kind.TRIP:
                continue
            try:
                body = unpack_body(Kind.TRIP, row.body)
            except ValueError:
                continue
            if isinstance(body, TripRecord):
                trips.append(_told(row.utc_ms, body))
    return trips[-MOST_TRIPS:]


def _told(utc_ms: int | None, trip: TripRecord) -> dict[str, Any]:
    return {
        "ended": None if utc_ms is None else utc_text(utc_ms),
        "duration_s": trip.duration_s,
        "distance_m": trip.distance_m,
        "odometer_m": trip.odometer_m,
        "idle_s": trip.idle_s,
        "fuel_l": trip.fuel_l,
        "top_speed_mps": trip.top_speed_mps,
        "events": None if trip.events is None else dict(trip.events),
    }
