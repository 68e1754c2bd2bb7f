"""Whether the unit rolls or stands, and since when, from wheel speed and GNSS speed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SpeedSource(StrEnum):
    """Who measured a speed."""

    WHEELS = "wheels"
    GNSS = "gnss"


ROLLING_ABOVE_MPS = {SpeedSource.WHEELS: 0.5, SpeedSource.GNSS: 1.5}
"""Above it the unit rolls. GNSS speed of a standing vehicle wanders by some decimetres a second."""
STANDING_BELOW_MPS = {SpeedSource.WHEELS: 0.2, SpeedSource.GNSS: 0.8}
"""Below it the unit stands; between the two it goes on doing what it did."""
CONFIRM_NS = 3_000_000_000
"""A stop or a start is believed once it lasted so long; it is then dated back to its beginning."""
FRESH_NS = 3_000_000_000
"""A speed older than this says nothing about now; while the wheels' is fresh, GNSS is not asked."""


@dataclass(frozen=True, slots=True)
class Motion:
    """What the vehicle itself says about its motion.

    Attributes:
        rolling: True when it rolls, False when it stands, None when nobody can tell.
        since_boottime_ns: CLOCK_BOOTTIME of the stop or start; None when it was not seen.
        speed_mps: the newest speed; None when there is no fresh one.
        source: who measured it; None like it.
    """

    rolling: bool | None
    since_boottime_ns: int | None
    speed_mps: float | None
    source: SpeedSource | None


@dataclass(frozen=True, slots=True)
class MotionChange:
    """The unit stopped or started, told once it is certain.

    Attributes:
        rolling: what it does since.
        at_boottime_ns: when the change began, before it was certain.
        source: whose speed said so.
    """

    rolling: bool
    at_boottime_ns: int
    source: SpeedSource


class MotionWatch:
    """Decides between rolling and standing. Fed in the order of boot time of each source; not thread-safe.

    Wheel speed decides while it is fresh: it needs no sky and does not wander. A moment without any fresh
    speed ends what was known, so that a stop during it is not invented.
    """

    def __init__(self) -> None:
        self._rolling: bool | None = None
        self._since_ns: int | None = None
        self._candidate_ns: int | None = None
        self._newest: dict[SpeedSource, tuple[int, float]] = {}
        self._heard_ns: int | None = None

    def take(self, source: SpeedSource, boottime_ns: int, speed_mps: float) -> MotionChange | None:
        """Take a speed; returns a stop or start that became certain by it."""
        speed_mps = abs(speed_mps)
        self._newest[source] = (boottime_ns, speed_mps)
        wheels = self._newest.get(SpeedSource.WHEELS)
        if source is SpeedSource.GNSS and wheels is not None and boottime_ns - wheels[0] <= FRESH_NS:
            return None
        if self._heard_ns is not None and boottime_ns - self._heard_ns > FRESH_NS:
            self._rolling = self._since_ns = self._candidate_ns = None
        self._heard_ns = boottime_ns
        rolls = self._looks_rolling(source, speed_mps)
        if rolls is None or rolls is self._rolling:
            if rolls is not None:
                self._candidate_ns = None
            return None
        if self._rolling is None:
            # The beginning of what is seen is not the beginning of what happens.
            self._rolling, self._since_ns, self._candidate_ns = rolls, None, None
            return None
        if self._candidate_ns is None:
            self._candidate_ns = boottime_ns
        if boottime_ns - self._candidate_ns < CONFIRM_NS:
            return None
        self._rolling, self._since_ns, self._candidate_ns = rolls, self._candidate_ns, None
        return MotionChange(rolls, self._since_ns, source)

    def at(self, boottime_ns: int) -> Motion:
        """Motion as it is known at this moment.

        A stop or start that has begun and is not yet certain counts: at a press the speed itself says more
        than the last certain state.
        """
        fresh = [
            (source, speed_mps)
            for source in SpeedSource
            if (newest := self._newest.get(source)) is not None and abs(boottime_ns - newest[0]) <= FRESH_NS
            for speed_mps in (newest[1],)
        ]
        if not fresh:
            return Motion(None, None, None, None)
        source, speed_mps = fresh[0]
        rolling, since_ns = self._rolling, self._since_ns
        if self._candidate_ns is not None and rolling is not None:
            rolling, since_ns = not rolling, self._candidate_ns
        return Motion(rolling, since_ns, speed_mps, source)

    def _looks_rolling(self, source: SpeedSource, speed_mps: float) -> bool | None:
        if speed_mps > ROLLING_ABOVE_MPS[source]:
            return True
        if speed_mps < STANDING_BELOW_MPS[source]:
            return False
        return None if self._rolling is None else self._rolling
