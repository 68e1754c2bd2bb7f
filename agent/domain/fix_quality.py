"""What the wheels say of a fix: a receiver that is hung or deceived goes on telling positions."""

from __future__ import annotations

from agent.domain.fix import Fix, FixMode
from agent.domain.record import PositionQuality

FRESH_NS = 2 * 1_000_000_000
"""A wheel speed older than this says nothing of a fix."""
ROLLS_ABOVE_MPS = 2.0
REPEATS = 3
"""So many fixes in a row must show it before it is believed: a tyre slips, a receiver smooths."""
APART_MPS = 3.0
APART_SHARE = 0.2
LEARNS_ABOVE_MPS = 8.0
LEARNS_HDOP = 1.5
LEARN_SAMPLES = 60
LEARNS_FIRST, LEARNS_LATER = 1.0, 0.25
SCALE_WITHIN = 0.15
"""Tyres and tachometers differ from the truth by less."""


class FixQuality:
    """Judges fixes by the wheels, and learns how far the wheels' own speed is off. Not thread-safe."""

    def __init__(self) -> None:
        self._speed: tuple[float, int] | None = None
        self._place: tuple[float, float] | None = None
        self._repeats = 0
        self._apart = 0
        self._sum_gnss = 0.0
        self._sum_wheels = 0.0
        self._samples = 0
        self.scale = 1.0
        """What a wheel speed is to be multiplied by; learnt from good fixes at speed."""

    def speed(self, speed_mps: float, at_ns: int) -> None:
        """Take the wheels' speed."""
        self._speed = abs(speed_mps), at_ns

    def judge(self, fix: Fix) -> PositionQuality | None:
        """What is wrong with a fix that has a position; None when nothing is, or nobody can tell."""
        wheels_mps = self._wheels_mps(fix.received_boottime_ns)
        place = (fix.lat_deg or 0.0, fix.lon_deg or 0.0)
        rolls = wheels_mps is not None and wheels_mps > ROLLS_ABOVE_MPS
        self._repeats = self._repeats + 1 if place == self._place and rolls else 0
        self._place = place
        self._apart = self._apart + 1 if self._disagrees(fix.speed_mps, wheels_mps) else 0
        if self._repeats >= REPEATS:
            return PositionQuality.FROZEN
        if self._apart >= REPEATS:
            return PositionQuality.CONTRADICTED
        self._learn(fix, wheels_mps)
        return None

    def stands(self, at_ns: int) -> bool:
        """True when the wheels are known to stand."""
        return self._wheels_mps(at_ns) == 0

    def _wheels_mps(self, at_ns: int) -> float | None:
        if self._speed is None or abs(at_ns - self._speed[1]) > FRESH_NS:
            return None
        return self._speed[0] * self.scale

    def _disagrees(self, gnss_mps: float | None, wheels_mps: float | None) -> bool:
        if gnss_mps is None or wheels_mps is None:
            return False
        return abs(gnss_mps - wheels_mps) > APART_MPS + APART_SHARE * wheels_mps

    def _learn(self, fix: Fix, wheels_mps: float | None) -> None:
        good = fix.mode is FixMode.FIX_3D and fix.hdop is not None and fix.hdop <= LEARNS_HDOP
        if not good or wheels_mps is None or fix.speed_mps is None or self._speed is None:
            return
        if min(fix.speed_mps, wheels_mps) < LEARNS_ABOVE_MPS or self._apart:
            return
        self._sum_gnss += fix.speed_mps
        self._sum_wheels += self._speed[0]
        self._samples += 1
        if self._samples >= LEARN_SAMPLES:
            ratio = self._sum_gnss / self._sum_wheels
            if abs(ratio - 1) <= SCALE_WITHIN:
                # The first teaches most; from then on tyres change slowly, and one stretch may be odd.
                self.scale += (ratio - self.scale) * (LEARNS_FIRST if self.scale == 1.0 else LEARNS_LATER)
            self._sum_gnss = self._sum_wheels = 0.0
            self._samples = 0
