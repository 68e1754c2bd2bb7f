"""Where the time comes from."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

from pydantic import field_validator

from agent.config.section import Section, from_file_folder
from agent.domain.date_floor import DateFloor


class Clock(Section):
    """The sources of time beside the receiver."""

    ntp: bool = True
    """Whether the system clock is believed while the kernel says that a time service disciplines it."""
    not_before: date | None = None
    """No true date lies before this day; without it, before that of the program. For playing recordings of
    past years."""
    replay: bool = False
    """For recordings that are played faster than life: each epoch's time is believed as it comes,
    and the wheels are not compared with the receiver."""

    chrony_socket: Path | None = None
    """Where chrony listens for the receiver's time (`refclock SOCK` in its configuration) to set the system
    clock by it; nothing is passed on without it. The system clock is then no second witness of the time, so
    that `ntp` does not count."""

    _paths = field_validator("chrony_socket", mode="after")(from_file_folder)

    @property
    def believes_ntp(self) -> bool:
        """Whether a disciplined system clock counts: not one that goes by our own word."""
        return self.ntp and self.chrony_socket is None

    @property
    def of_the_past(self) -> bool:
        """Whether the receiver's time is that of a recording, and not the present."""
        return self.replay or self.not_before is not None

    def floor(self, built_utc_ms: int | None) -> DateFloor:
        """Which dates can be, for a program made at that UTC."""
        if self.not_before is None:
            return DateFloor(built_utc_ms)
        midnight = datetime(self.not_before.year, self.not_before.month, self.not_before.day, tzinfo=UTC)
        return DateFloor(built_utc_ms, round(midnight.timestamp() * 1000))
