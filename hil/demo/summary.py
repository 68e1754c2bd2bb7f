"""What a demo came to, counted independently of the parts that did it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from agent.domain.record import Emergency, Kind, StatusChange, Stream
from hil.dispatch import Dispatch
from hil.process.press_log import PressLog, percentile_ms


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles in milliseconds; None when there was nothing to measure."""

    p50: float | None
    p99: float | None

    @classmethod
    def of(cls, durations_s: list[float]) -> Percentiles:
        """Percentiles of durations in seconds."""
        return cls(percentile_ms(durations_s, 50), percentile_ms(durations_s, 99))


@dataclass(frozen=True, slots=True)
class Summary:
    """The demo's result.

    Attributes:
        unit: which vehicle.
        records_made: sequence numbers the outbox gave out, both streams.
        records_received: different records dispatch has.
        lost: made, not received, and not told as gone by a gap record.
        duplicates: records that dispatch has more than once after removal by sequence.
        redelivered: records that came again and were removed.
        positions: position records.
        statuses: tokens in the order dispatch has them.
        statuses_pressed: tokens the crew pressed, in order.
        outage_s: how long the broker was out of reach.
        press_to_stored_ms: from the button to the lamp that says stored.
        press_to_dispatch_ms: from the button to dispatch, presses during the outage included.
        press_to_dispatch_covered_ms: the same without those.
        daemon_starts: 1 unless somebody killed it.
        broker: which broker was used.
        mqtt_version: spoken with it; 4 is 3.1.1.
        lamps_delivered: presses whose lamp said delivered, by dispatch's receipt.
        all_delivered: nothing waited when the demo ended: each record has dispatch's receipt.
        last_lamp_green: the lamp of the last status said so.
        stored_at_dispatch: records that the service has on its disk; None where nobody looked.
    """

    unit: str
    records_made: int
    records_received: int
    lost: int
    duplicates: int
    redelivered: int
    positions: int
    statuses: list[str]
    statuses_pressed: list[str]
    outage_s: float
    press_to_stored_ms: Percentiles
    press_to_dispatch_ms: Percentiles
    press_to_dispatch_covered_ms: Percentiles
    daemon_starts: int
    broker: str
    mqtt_version: int | None
    lamps_delivered: int
    all_delivered: bool
    last_lamp_green: bool
    stored_at_dispatch: int | None = None

    @property
    def good(self) -> bool:
        """True when nothing was lost or doubled and every press is there, in order."""
        return (
            self.lost == 0
            and self.duplicates == 0
            and self.all_delivered
            and (self.last_lamp_green or not self.statuses_pressed)
            and self.stored_at_dispatch in (None, self.records_received)
            and self.statuses == self.statuses_pressed
            and self.records_made > 0
        )

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self) | {"good": self.good}


def summarise(
    *,
    made: dict[Stream, int],
    dispatch: Dispatch,
    presses: PressLog,
    outages_s: list[tuple[float, float]],
    **rest: Any,
) -> Summary:
    """Count. `made` is each stream's last sequence number, `outages_s` loop times without network."""
    records = [arrival.record for arrival in dispatch.arrivals]
    times = Counter((record.journal, record.stream, record.seq) for record in records)
    press_times = Counter(
        (record.body.press_session, record.body.press_seq)
        for record in records
        if isinstance(record.body, StatusChange | Emergency) and record.body.press_session is not None
    )
    counts = dispatch.reader.counts
    total = sum(made.values())
    dispatched = [p for p in presses.presses if p.dispatched_s is not None]
    return Summary(
        records_made=total,
        records_received=len(times),
        lost=max(0, total - len(times) - counts.told_gone),
        duplicates=sum(times.values()) - len(times) + sum(press_times.values()) - len(press_times),
        redelivered=counts.duplicates_removed,
        positions=sum(record.kind is Kind.POSITION for record in records),
        statuses=[record.body.status for record in records if isinstance(record.body, StatusChange)],
        outage_s=round(sum(end - start for start, end in outages_s), 1),
        last_lamp_green=any(
            press.delivered_s is not None
            for press in [one for one in presses.presses if one.key != "emergency"][-1:]
        ),
        lamps_delivered=sum(press.delivered_s is not None for press in presses.presses),
        press_to_stored_ms=Percentiles.of(
            [p.stored_s - p.pressed_s for p in presses.presses if p.stored_s is not None]
        ),
        press_to_dispatch_ms=Percentiles.of([(p.dispatched_s or 0) - p.pressed_s for p in dispatched]),
        press_to_dispatch_covered_ms=Percentiles.of(
            [
                (p.dispatched_s or 0) - p.pressed_s
                for p in dispatched
                if not any(start <= p.pressed_s <= end for start, end in outages_s)
            ]
        ),
        **rest,
    )
