"""A GNSS receiver in an ambulance: what it makes of the truth, once a second."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from hil.drive.nmea_writer import GLONASS_FROM, Satellite, Solution
from hil.drive.route import METRES_PER_DEGREE, Sky
from hil.drive.timeline import Situation

EPOCH_S = 1.0
COURSE_ABOVE_MPS = 0.5
"""Below it the receiver gives no course."""
REACQUIRE_S = (1.5, 5.0)
"""How long after a tunnel until the next fix."""
HEIGHT_M = 9.0
"""Antenna above mean sea level; Boston is flat enough for one value."""
SATELLITE_COUNT = 26
DAY_S = 43_082.0
"""A GPS satellite's orbit: half a sidereal day."""


@dataclass(frozen=True, slots=True)
class _Error:
    """Size and memory of the position error, and the lowest usable satellite."""

    sigma_m: float
    memory_s: float
    mask_deg: float
    dimmed_db: float


ERRORS = {
    Sky.OPEN: _Error(1.2, 120.0, 8.0, 0.0),
    Sky.CANYON: _Error(6.0, 20.0, 38.0, 7.0),
    Sky.TUNNEL: _Error(1.2, 120.0, 90.0, 99.0),
}


class Receiver:
    """Turns the true situation into solutions; asked once for each epoch, in order.

    The error of a position is correlated in time (a Gauss-Markov process): it wanders like a real one's
    instead of jittering, and wanders farther and faster between tall buildings.
    """

    def __init__(self, rng: random.Random, first_fix_s: float) -> None:
        self._rng = rng
        self._fix_again_s = first_fix_s
        self._error_m = [rng.gauss(0, 2.0) for _ in range(3)]
        self._orbits = [
            (number, rng.uniform(0, 360), rng.uniform(0, DAY_S), rng.uniform(25, 89))
            for number in sorted(rng.sample(range(1, 33), 16) + rng.sample(range(GLONASS_FROM, 89), 10))
        ]

    def epoch(self, situation: Situation) -> tuple[Solution | None, list[Satellite]]:
        """Solution (None without a fix) and satellites in view for one epoch."""
        satellites = self._in_view(situation)
        used = sum(satellite.used for satellite in satellites)
        if situation.sky is Sky.TUNNEL:
            self._fix_again_s = situation.t_s + self._rng.uniform(*REACQUIRE_S)
        self._wander(ERRORS[situation.sky])
        if situation.t_s < self._fix_again_s or used < 4:
            return None, satellites
        return self._solution(situation, used), satellites

    def _wander(self, error: _Error) -> None:
        keep = math.exp(-EPOCH_S / error.memory_s)
        kick_m = error.sigma_m * math.sqrt(1 - keep * keep)
        gauss = self._rng.gauss
        self._error_m = [value * keep + gauss(0, kick_m) for value in self._error_m]

    def _solution(self, situation: Situation, used: int) -> Solution:
        gauss = self._rng.gauss
        east_m, north_m, up_m = (value + gauss(0, 0.15) for value in self._error_m)
        lat, lon = situation.point
        moving = situation.speed_mps > 0
        speed_mps = abs(situation.speed_mps + gauss(0, 0.12 if moving else 0.03))
        course_deg = (situation.course_deg + gauss(0, 1.5 / max(speed_mps, 1.0))) % 360
        hdop = max(0.5, 8.5 / used + gauss(0, 0.02))
        return Solution(
            point=(
                lat + north_m / METRES_PER_DEGREE,
                lon + east_m / (METRES_PER_DEGREE * math.cos(math.radians(lat))),
            ),
            alt_m=HEIGHT_M + 1.8 * up_m,
            speed_mps=speed_mps,
            course_deg=course_deg if speed_mps >= COURSE_ABOVE_MPS else None,
            hdop=hdop,
            vdop=hdop * 1.4,
        )

    def _in_view(self, situation: Situation) -> list[Satellite]:
        error = ERRORS[situation.sky]
        satellites = []
        for number, azimuth_deg, phase_s, highest_deg in self._orbits:
            turn = 2 * math.pi * (situation.t_s + phase_s) / DAY_S
            elevation_deg = highest_deg * math.sin(turn)
            if elevation_deg < 3:
                continue
            signal_dbhz = 30 + elevation_deg / 5 - error.dimmed_db + self._rng.gauss(0, 1.0)
            used = elevation_deg > error.mask_deg and signal_dbhz > 24
            satellites.append(
                Satellite(
                    number,
                    min(round(elevation_deg), 90),
                    round(azimuth_deg + 60 * math.cos(turn)) % 360,
                    max(round(signal_dbhz), 1) if signal_dbhz > 15 else None,
                    used,
                )
            )
        return satellites
