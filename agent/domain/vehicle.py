"""Vehicle signals by their canonical names."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.record import SignalValue


@dataclass(frozen=True, slots=True)
class Signal:
    """One decoded vehicle signal.

    Attributes:
        name: COVESA VSS path below `Vehicle.`, e.g. "Speed", or of the overlay `Ambulance.*`.
        value: in the unit VSS gives the signal; None when the bus says "not available".
        received_boottime_ns: CLOCK_BOOTTIME when the frame was read.
    """

    name: str
    value: SignalValue | None
    received_boottime_ns: int
