"""Whether somebody may have taken something off the vehicle: what worked in this run, and is gone.

A cable that was never plugged in is a fault of fitting; an antenna, a receiver or buttons that worked for a
while and then vanish may be a hand. Nobody can tell a hand from a loose plug: so it is told, and not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.domain.health import HealthReason

WORKED_S: Final = 60.0
"""What was well for so long has worked."""
WATCHED: Final = (
    HealthReason.GNSS_ANTENNA,
    HealthReason.GNSS_LOST,
    HealthReason.CAN_LOST,
    HealthReason.BUTTONS_LOST,
    HealthReason.SENSOR_LOST,
    HealthReason.MODEM_LOST,
)


class TamperWatch:
    """Looks at the reasons that hold. Not thread-safe."""

    def __init__(self) -> None:
        self._well_since: dict[HealthReason, float | None] = {}
        self._gone: set[HealthReason] = set()

    def look(self, details: Mapping[HealthReason, str], now_s: float) -> str:
        """What is gone that had worked, in words; empty for nothing.

        Args:
            details: the reasons that hold, each with its detail.
            now_s: boot time.
        """
        for reason in WATCHED:
            if reason not in details:
                self._gone.discard(reason)
                if self._well_since.get(reason) is None:
                    self._well_since[reason] = now_s
                continue
            since = self._well_since.get(reason)
            if since is not None and now_s - since >= WORKED_S:
                self._gone.add(reason)
            self._well_since[reason] = None
        return "; ".join(f"{reason} {details[reason]}".rstrip() for reason in sorted(self._gone))
