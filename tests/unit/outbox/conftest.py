"""A clock and drafts for tests of the outbox."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.domain.fix import FixMode
from agent.domain.record import Alert, Body, Draft, Emergency, Health, Position, StatusChange, Telemetry
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.hal.clock import SystemUtc
from hil.sim.outbox_bench import mounted

START_UTC_MS = 1_773_471_600_000
"""2026-03-14T07:00:00Z."""


@dataclass(slots=True)
class BenchClock:
    """A clock that moves when told."""

    boot_id: str = "0" * 32
    now_ms: int = 1_000

    def boottime_ns(self) -> int:
        return self.now_ms * 1_000_000

    def suspended_ns(self) -> int:
        return 0

    def system_utc(self) -> SystemUtc:
        return SystemUtc(START_UTC_MS + self.now_ms, synchronised=True, max_error_ms=20)


@dataclass(slots=True)
class Scribe:
    """Makes drafts, each a second after the one before."""

    clock: BenchClock = field(default_factory=BenchClock)
    presses: int = 0

    def draft(self, body: Body) -> Draft:
        self.clock.now_ms += 1_000
        utc = Utc(START_UTC_MS + self.clock.now_ms, UtcSource.GNSS, 50)
        return Draft(Stamp(self.clock.boottime_ns(), utc), body)

    def press(self, status: str = "on_scene") -> Draft:
        self.presses += 1
        return self.draft(StatusChange(status, "en_route", status, self.presses))

    def emergency(self) -> Draft:
        return self.draft(Emergency(True, "emergency", None))

    def alert(self) -> Draft:
        return self.draft(Alert("test", "A test."))

    def position(self, lat_deg: float = 42.36, lon_deg: float = -71.06) -> Draft:
        return self.draft(Position(lat_deg, lon_deg, 12.0, 14.0, 90.0, FixMode.FIX_3D, 9, 0.9))

    def telemetry(self) -> Draft:
        return self.draft(Telemetry((("Speed", 50.4), ("Ambulance.Siren", True))))

    def health(self) -> Draft:
        return self.draft(Health(("gnss_no_fix",), ("gnss_no_fix",), ()))

    def trail(self, count: int) -> Iterator[Draft]:
        """A winding drive with telemetry every five positions and health every thirty."""
        for number in range(count):
            if number % 5 == 4:
                yield self.telemetry()
            if number % 30 == 29:
                yield self.health()
            yield self.position(42.36 + 1e-4 * number, -71.06 + 2e-4 * (number // 20 % 7))


@pytest.fixture
def scribe() -> Scribe:
    """A maker of drafts with its own clock."""
    return Scribe()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MiB; skips where it can not be mounted."""
    folder = tmp_path / "disk"
    if not mounted("2m", folder):
        pytest.skip("a file system can not be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
