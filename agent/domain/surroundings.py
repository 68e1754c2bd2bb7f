"""Where the unit is among its places and how it moves: what is asked when somebody presses."""

from __future__ import annotations

from agent.domain.evidence import Evidence, gather
from agent.domain.fix import Fix
from agent.domain.missed_press import Hint, MissedPress, Seen
from agent.domain.motion import MotionChange, MotionWatch, SpeedSource
from agent.domain.places import PlaceEvent, Places, PlaceWatch

FRESH_FIX_NS = 10_000_000_000
"""An older position is not where the unit is at a press: at 30 m/s it is 300 m away."""
WALKING_MPS = 2.0
"""Above it the screen shows nothing that must be read."""


class Surroundings:
    """Collects fixes and wheel speeds, and answers what stands beside a press. Not thread-safe.

    Args:
        places: known places.
        missed_press: rules that suggest forgotten presses; None for none.
    """

    def __init__(self, places: Places, missed_press: MissedPress | None = None) -> None:
        self._places = places
        self._watch = PlaceWatch(places)
        self._motion = MotionWatch()
        self._missed_press = missed_press
        self._fix: Fix | None = None

    @property
    def places(self) -> Places:
        """All known places."""
        return self._places

    def take_fix(self, fix: Fix) -> tuple[MotionChange | PlaceEvent, ...]:
        """Take a believed fix; returns stops, starts, arrivals and departures that became certain by it."""
        if not fix.has_position or fix.lat_deg is None or fix.lon_deg is None:
            return ()
        self._fix = fix
        news: list[MotionChange | PlaceEvent] = []
        if fix.speed_mps is not None:
            change = self._motion.take(SpeedSource.GNSS, fix.received_boottime_ns, fix.speed_mps)
            news += [] if change is None else [change]
        news += self._watch.take(fix.received_boottime_ns, fix.lat_deg, fix.lon_deg)
        return tuple(news)

    def take_wheel_speed(self, boottime_ns: int, speed_mps: float) -> MotionChange | None:
        """Take the vehicle's own speed; returns a stop or start that became certain by it."""
        return self._motion.take(SpeedSource.WHEELS, boottime_ns, speed_mps)

    def evidence(self, boottime_ns: int, incident: tuple[float, float] | None) -> Evidence:
        """What the vehicle says at this moment; `incident` is (latitude, longitude) in degrees."""
        position, age_ns = self._position(boottime_ns)
        age_ms = None if position is None else age_ns // 1_000_000
        return gather(self._motion.at(boottime_ns), position, age_ms, incident, self._places)

    def hint(self, boottime_ns: int, status: str | None, incident: tuple[float, float] | None) -> Hint | None:
        """A press that was probably forgotten, once; asked about once a second."""
        if self._missed_press is None:
            return None
        position, _ = self._position(boottime_ns)
        motion = self._motion.at(boottime_ns)
        return self._missed_press.take(
            Seen(boottime_ns, status, motion, position, self._watch.inside, incident)
        )

    def is_driving(self, boottime_ns: int) -> bool:
        """Whether the unit moves faster than a walk; False when nobody can tell."""
        speed_mps = self._motion.at(boottime_ns).speed_mps
        return speed_mps is not None and speed_mps > WALKING_MPS

    def _position(self, boottime_ns: int) -> tuple[tuple[float, float] | None, int]:
        fix = self._fix
        if fix is None or fix.lat_deg is None or fix.lon_deg is None:
            return None, 0
        age_ns = boottime_ns - fix.received_boottime_ns
        if not -FRESH_FIX_NS <= age_ns <= FRESH_FIX_NS:
            return None, 0
        return (fix.lat_deg, fix.lon_deg), max(0, age_ns)
