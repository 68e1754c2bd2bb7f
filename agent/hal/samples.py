"""A sensor, as readings."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.record import SignalValue
from agent.hal.feed import Feed


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading.

    Attributes:
        signal: name of the vehicle signal (VSS path below `Vehicle.`).
        value: in `unit`; None when the device itself says that it has no value.
        unit: token as of `agent.sources.can.vss`, such as "celsius"; None for a value without unit.
        received_boottime_ns: CLOCK_BOOTTIME when it was read.
    """

    signal: str
    value: SignalValue | None
    unit: str | None
    received_boottime_ns: int


SampleFeed = Feed[Sample]
