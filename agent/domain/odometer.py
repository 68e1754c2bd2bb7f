"""How far the unit has driven: by the vehicle's own odometer, else by its wheels, else by its fixes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.domain.fix import Fix
from agent.domain.record import OdometerSource

NS_PER_S = 1_000_000_000
FRESH_NS = 10 * NS_PER_S
"""Without a word of any source for longer, the unit may have been driven on: nothing is known."""
WHEELS_FRESH_NS = 3 * NS_PER_S
"""Two wheel speeds farther apart say nothing of the way between; a bus repeats what it says each second."""
FIXES_APART_NS = 5 * NS_PER_S
WHEELS_REST_MPS = 0.1
GNSS_ROLLS_MPS, GNSS_RESTS_MPS = 1.5, 0.5
"""Above and below, by GNSS: the speed of a standing receiver wanders by some decimetres a second."""
FASTEST_MPS = 100.0
STEP_MOST_M = 2_000.0
"""Odometers count in steps of up to a kilometre or a mile."""
DRIVEN_WITHOUT_US_M = 5_000_000.0
"""Farther no unit went while its agent was off."""
WAITS_NS = 60 * NS_PER_S
"""A count of our own is told after so long: the vehicle's own odometer may yet be heard, and be another."""
AGREEING = 3
"""So many readings in a row must agree before one that can not follow from the last is believed."""
MOST_M = 10_000_000_000.0
AHEAD_MOST_M = 200.0
"""So far may ours be ahead of the vehicle's and wait for it; what is more is taken for driven."""
OTHER_SOURCE_M = 50.0
"""So much must another source have counted before it is told as the source: a bus that pauses is no news."""


@dataclass(frozen=True, slots=True)
class OdometerReading:
    """What the odometer says.

    Attributes:
        metres: the vehicle's own count where it tells one; else metres since this unit's agent first counted.
        source: by what the newest metres were counted.
    """

    metres: float
    source: OdometerSource


def told(reading: OdometerReading | None) -> tuple[int | None, str | None]:
    """The odometer as a record has it: whole metres and source; None where it is not known."""
    return (None, None) if reading is None else (round(reading.metres), str(reading.source))


@dataclass(frozen=True, slots=True)
class _Anchor:
    """A reading of the vehicle's odometer, and what ours was then.

    Attributes:
        at_ns: boot time of the newest reading; None for one of a run before.
    """

    vehicle_m: float
    metres: float
    at_ns: int | None


class Odometer:
    """One count that never goes back, whichever source there is. Fed in the order of boot time.

    Each metre is counted by one source: the wheels, and where there are none, the fixes. Whenever the
    vehicle's own odometer moves on, the count is put to it. As it counts in steps, wheels fill what lies
    between; where they were ahead, the count waits.
    """

    def __init__(self) -> None:
        self._told_m: float | None = None
        self._metres = 0.0
        """As counted; may be behind what was told, which then waits."""
        self._anchor: _Anchor | None = None
        self._candidate: tuple[float, int] | None = None
        self._agreeing = 0
        self._source = OdometerSource.VEHICLE
        self._counted_by = {OdometerSource.WHEELS: 0.0, OdometerSource.GNSS: 0.0}
        self._wheels: tuple[float, int] | None = None
        self._fix: tuple[float, int] | None = None
        self._rolls = False
        self._counted_until_ns = 0
        self._heard_ns: int | None = None
        self._waits_until_ns: int | None = None

    @property
    def is_anchored(self) -> bool:
        """True when the vehicle tells its own odometer: then what is lost here comes back with it."""
        return self._anchor is not None and self._anchor.at_ns is not None

    def at(self, now_ns: int) -> OdometerReading | None:
        """What it says at this boot time; None before there was any, and when nobody tells of motion now."""
        if self._told_m is None or self._heard_ns is None or now_ns - self._heard_ns > FRESH_NS:
            return None
        if self._anchor is None and self._waits_until_ns is not None and now_ns < self._waits_until_ns:
            return None
        return OdometerReading(self._told_m, self._source)

    # ------------------------------------------------------------------ what comes in

    def take_vehicle(self, vehicle_m: float, at_ns: int) -> None:
        """Take a reading of the vehicle's own odometer, again and again as the bus repeats it."""
        if not 0 <= vehicle_m <= MOST_M:
            return
        anchor = self._anchor
        if anchor is not None and _follows(anchor, vehicle_m, at_ns):
            self._candidate, self._agreeing = None, 0
            self._put_to(anchor, vehicle_m, at_ns)
            return
        before, self._candidate = self._candidate, (vehicle_m, at_ns)
        agrees = before is not None and _follows(_Anchor(before[0], 0.0, before[1]), vehicle_m, at_ns)
        self._agreeing = self._agreeing + 1 if agrees else 1
        if self._agreeing < AGREEING:
            return
        self._candidate, self._agreeing = None, 0
        # The first that there ever was is ours, too. With any other the odometer was changed: ours goes on.
        own_m = self._told_m or 0.0
        metres = max(own_m, vehicle_m) if anchor is None else own_m
        self._anchor = _Anchor(vehicle_m, metres, at_ns)
        self._by_vehicle(metres, at_ns)

    def take_wheels(self, speed_mps: float, at_ns: int) -> None:
        """Take the wheels' speed, with their scale put right."""
        speed_mps = abs(speed_mps)
        if not speed_mps <= FASTEST_MPS:  # no number is not, either
            self._wheels = None
            return
        before, self._wheels = self._wheels, (speed_mps, at_ns)
        if before is None or not 0 <= at_ns - before[1] <= WHEELS_FRESH_NS:
            self._begin(at_ns)
            return
        mean_mps = (before[0] + speed_mps) / 2
        self._drive(mean_mps if mean_mps > WHEELS_REST_MPS else 0.0, before[1], at_ns, OdometerSource.WHEELS)

    def take_fix(self, fix: Fix) -> None:
        """Take a fix of which nothing is known to be wrong."""
        at_ns = fix.received_boottime_ns
        if not fix.has_position or fix.speed_mps is None or not fix.speed_mps <= FASTEST_MPS:
            self._fix = None
            return
        before, self._fix = self._fix, (fix.speed_mps, at_ns)
        self._rolls = fix.speed_mps > (GNSS_RESTS_MPS if self._rolls else GNSS_ROLLS_MPS)
        if self._wheels is not None and at_ns - self._wheels[1] <= WHEELS_FRESH_NS:
            return
        if before is None or not 0 <= at_ns - before[1] <= FIXES_APART_NS:
            self._begin(at_ns)
            return
        mean_mps = (before[0] + fix.speed_mps) / 2 if self._rolls else 0.0
        # Where the wheels just fell silent, the way since is not counted yet.
        lately = 0 < at_ns - self._counted_until_ns <= FIXES_APART_NS
        from_ns = self._counted_until_ns if lately else before[1]
        self._drive(mean_mps, from_ns, at_ns, OdometerSource.GNSS)

    # ------------------------------------------------------------------ across a restart

    def remembered(self) -> dict[str, Any]:
        """What `restore` must be given after a restart."""
        anchor = self._anchor
        return {
            "metres": None if self._told_m is None else math.ceil(self._told_m * 10) / 10,
            "source": str(self._source),
            "vehicle": None if anchor is None else [round(anchor.vehicle_m, 1), round(anchor.metres, 1)],
        }

    def restore(self, remembered: Mapping[str, Any]) -> None:
        """Go on from a run before.

        Raises:
            ValueError, TypeError, KeyError: that makes no sense; nothing of it is taken.
        """
        metres, vehicle = remembered["metres"], remembered["vehicle"]
        source = OdometerSource(remembered["source"])
        numbers = [number for number in (metres, *(vehicle or ())) if number is not None]
        if not all(type(number) in (int, float) and 0 <= number <= MOST_M for number in numbers):
            raise ValueError("not metres")
        anchor = None
        if vehicle is not None:
            vehicle_m, then_m = vehicle
            anchor = _Anchor(float(vehicle_m), float(then_m), None)
        if metres is not None:
            self._told_m = self._metres = float(metres)
        self._anchor, self._source = anchor, source

    # ------------------------------------------------------------------ counting

    def _put_to(self, anchor: _Anchor, vehicle_m: float, at_ns: int) -> None:
        metres = anchor.metres + vehicle_m - anchor.vehicle_m
        moved = vehicle_m != anchor.vehicle_m
        if self._told_m is not None and self._told_m - metres > AHEAD_MOST_M and moved:
            metres = self._told_m
        self._anchor = _Anchor(vehicle_m, metres, at_ns)
        if moved or self._told_m is None:
            self._by_vehicle(metres, at_ns)
        self._heard_ns = at_ns
        if self._source is not OdometerSource.VEHICLE and not any(self._counted_by.values()):
            self._source = OdometerSource.VEHICLE

    def _by_vehicle(self, metres: float, at_ns: int) -> None:
        self._metres = metres
        self._told_m = max(metres, self._told_m or 0.0)
        self._source, self._heard_ns = OdometerSource.VEHICLE, at_ns
        self._counted_by = dict.fromkeys(self._counted_by, 0.0)

    def _begin(self, at_ns: int) -> None:
        """A source is heard: from here on there is a count, of nothing yet when there was none."""
        if self._told_m is None:
            self._told_m = self._metres = 0.0
            self._waits_until_ns = at_ns + WAITS_NS
            self._source = OdometerSource.WHEELS if self._wheels is not None else OdometerSource.GNSS
        self._heard_ns = at_ns

    def _drive(self, mean_mps: float, from_ns: int, to_ns: int, source: OdometerSource) -> None:
        began_ns = max(from_ns, self._counted_until_ns)
        self._begin(to_ns)
        if to_ns <= began_ns:
            return
        self._counted_until_ns = to_ns
        way_m = mean_mps * (to_ns - began_ns) / NS_PER_S
        self._metres += way_m
        self._told_m = max(self._metres, self._told_m or 0.0)
        counted = self._counted_by[source] = self._counted_by[source] + way_m
        steps_m = STEP_MOST_M if self._hears_vehicle(to_ns) else OTHER_SOURCE_M
        if counted > steps_m and source is not self._source:
            self._source = source
            self._counted_by = dict.fromkeys(self._counted_by, 0.0)
            self._counted_by[source] = counted

    def _hears_vehicle(self, now_ns: int) -> bool:
        anchor = self._anchor
        return anchor is not None and anchor.at_ns is not None and now_ns - anchor.at_ns <= FRESH_NS


def _follows(anchor: _Anchor, vehicle_m: float, at_ns: int) -> bool:
    """Whether a reading can come after another: forward, and not faster than anything drives."""
    step_m = vehicle_m - anchor.vehicle_m
    if anchor.at_ns is None:
        return 0 <= step_m <= DRIVEN_WITHOUT_US_M
    return 0 <= step_m <= FASTEST_MPS * max(0, at_ns - anchor.at_ns) / NS_PER_S + STEP_MOST_M
