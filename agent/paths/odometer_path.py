"""Keeps the odometer fed and on the disk, and tells when another source counts."""

from __future__ import annotations

from agent.domain.fix import Fix
from agent.domain.odometer import Odometer, OdometerReading
from agent.domain.record import Draft, OdometerSource, SourceSwitch
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.outbox.outbox import Outbox
from agent.paths.run_memory import RunMemory
from agent.runtime.log import EventLog

log = EventLog("odometer")

KEEP_NS = 30 * 1_000_000_000
"""While the unit moves, so often at most: a power cut costs no more of the way."""
KEEP_ANCHORED_NS = 300 * 1_000_000_000
"""The same where the vehicle tells its own odometer, by which what was lost comes back."""
RESTS_NS = 3 * 1_000_000_000
"""What was driven is kept once the count has stood for so long: power mostly goes at rest."""
WORTH_KEEPING_M = 1.0
SCALE_WITHIN = 0.15
SCALE_WORTH_KEEPING = 0.002
TOLD_EVERY_NS = 60 * 1_000_000_000
"""At most so often is a change of source put on record: a bus with a loose plug must not fill the journal."""


class OdometerPath:
    """The odometer across power cuts. Used from the event loop.

    Args:
        clock: boot time.
        time_base: gives records their time.
        outbox: gets a source record whenever another source counts.
        memory: where the count, and the scale of the wheels, are across a restart.
    """

    def __init__(self, clock: Clock, time_base: TimeBase, outbox: Outbox, memory: RunMemory) -> None:
        self._clock = clock
        self._time_base = time_base
        self._outbox = outbox
        self._memory = memory
        self._odometer = Odometer()
        self._kept: OdometerReading | None = None
        self._kept_ns = 0
        self._kept_scale = 1.0
        self._moved_ns: int | None = None
        self._newest_m = 0.0
        self._told: OdometerSource | None = None
        self._told_ns: int | None = None
        self.scale = 1.0
        """What a speed of the wheels is to be multiplied by."""

    async def open(self) -> None:
        """Go on from the run before."""
        remembered = await self._memory.read()
        if not remembered:
            return
        try:
            self._odometer.restore(remembered["odometer"])
            scale = remembered["wheel_scale"]
            if isinstance(scale, int | float) and abs(scale - 1) <= SCALE_WITHIN:
                self.scale = self._kept_scale = float(scale)
        except (ValueError, TypeError, KeyError) as error:
            log.error("not_remembered", why=type(error).__name__)

    async def close(self) -> None:
        """Have the newest count on the disk, once, and release it."""
        self._keep(self._clock.boottime_ns())
        await self._memory.close()

    def reading(self) -> OdometerReading | None:
        """What it says now, for a record; None when that is not known.

        It is kept at once, so that no record after a power cut tells less.
        """
        now_ns = self._clock.boottime_ns()
        reading = self._odometer.at(now_ns)
        if reading is not None and (self._kept is None or reading.metres > self._kept.metres):
            self._keep(now_ns)
        return reading

    def now(self) -> OdometerReading | None:
        """The same for who only looks."""
        return self._odometer.at(self._clock.boottime_ns())

    def on_vehicle(self, metres: float, at_ns: int) -> None:
        """Take what the vehicle's own odometer says."""
        self._odometer.take_vehicle(metres, at_ns)
        self._look(at_ns)

    def on_wheels(self, speed_mps: float, at_ns: int) -> None:
        """Take the speed of the wheels, with their scale put right."""
        self._odometer.take_wheels(speed_mps, at_ns)
        self._look(at_ns)

    def on_fix(self, fix: Fix) -> None:
        """Take a fix of which nothing is known to be wrong."""
        self._odometer.take_fix(fix)
        self._look(fix.received_boottime_ns)

    def _look(self, now_ns: int) -> None:
        reading = self._odometer.at(now_ns)
        if reading is None:
            return
        lately = self._told_ns is not None and now_ns - self._told_ns < TOLD_EVERY_NS
        if reading.source is not self._told and not lately:
            self._switched(reading.source, now_ns)
        if reading.metres - self._newest_m > WORTH_KEEPING_M or self._moved_ns is None:
            self._newest_m, self._moved_ns = reading.metres, now_ns
        new = self._kept is None or reading.metres - self._kept.metres >= WORTH_KEEPING_M
        new = new or abs(self.scale - self._kept_scale) >= SCALE_WORTH_KEEPING
        every_ns = KEEP_ANCHORED_NS if self._odometer.is_anchored else KEEP_NS
        rests = now_ns - self._moved_ns >= RESTS_NS
        if new and (rests or self._kept is None or now_ns - self._kept_ns >= every_ns):
            self._keep(now_ns)

    def _keep(self, now_ns: int) -> None:
        reading = self._odometer.at(now_ns)
        if reading is not None:
            self._kept, self._kept_ns, self._kept_scale = reading, now_ns, self.scale
        remembered = self._odometer.remembered()
        if remembered["metres"] is not None:
            self._memory.keep({"odometer": remembered, "wheel_scale": round(self.scale, 5)})

    def _switched(self, source: OdometerSource, now_ns: int) -> None:
        before, self._told, self._told_ns = self._told, source, now_ns
        log.info("odometer_source", before=before, after=source)
        body = SourceSwitch("odometer", str(source), None if before is None else str(before), "counts")
        self._outbox.stage(Draft(self._time_base.stamp(now_ns), body))
