"""Vehicle signals by their canonical names."""

from __future__ import annotations

from typing import NamedTuple

from agent.domain.record import SignalValue


class Signal(NamedTuple):
    """One decoded vehicle signal. A tuple, because many are made a second.

    Attributes:
        name: COVESA VSS path below `Vehicle.`, e.g. "Speed", or of the overlay `Ambulance.*`.
        value: in the unit VSS gives the signal; None when the bus says "not available".
        received_boottime_ns: CLOCK_BOOTTIME when the frame was read.
    """

    name: str
    value: SignalValue | None
    received_boottime_ns: int
