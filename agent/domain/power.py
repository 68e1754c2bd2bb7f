"""When a unit parks, and when its computer may be turned off: the ignition's rules. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_S: Final = 1_000_000_000

IGNITION: Final = "LowVoltageSystemState"
"""VSS path below `Vehicle.` of the ignition."""
IGNITION_ON: Final = frozenset({"ON", "START", "ACC"})
"""With the key in ACC somebody sits in the cab."""
IGNITION_OFF: Final = frozenset({"OFF", "LOCK"})
BATTERY: Final = "LowVoltageBattery.CurrentVoltage"
LEAST_V, MOST_V = 5.0, 60.0
"""What a vehicle's battery can have; anything else is no voltage."""
LOW_FOR_NS: Final = 10 * _S
"""A dip is no empty battery."""
AFTER_HOLD_NS: Final = 60 * _S
"""What held the computer on is over for so long before it may go off."""
UNKNOWN_AFTER_NS: Final = 60 * _S
MOVING_AFTER_NS: Final = 10 * _S
FLAPS: Final = 6
FLAPS_WITHIN_NS: Final = 60 * _S
FLAPS_HELD_NS: Final = 600 * _S
"""A sense that flapped is not believed for so long."""
ANSWER_NS: Final = 60 * _S
"""So long after it was asked the system has turned the computer off, or will not."""
AGAIN_NS: Final = 600 * _S
LONGEST_AGAIN_NS: Final = 6 * 3600 * _S


class Hold(StrEnum):
    """Why the computer must stay on, whatever the ignition says."""

    RUN = "run"
    """The unit is on a run."""
    EMERGENCY = "emergency"
    """An emergency stands."""
    NOT_STORED = "not_stored"
    """Something that somebody pressed, or that was recorded, is not on the disk."""
    MOVING = "moving"
    """The unit moves: the sense is wrong."""


@dataclass(frozen=True, slots=True)
class PowerSight:
    """What is known at one moment.

    Attributes:
        ignition_on: None while nobody says.
        battery_v: None while nobody says; a voltage that can not be is as none.
        moving: whether wheels or receiver say that the unit moves.
        holds: why the computer must stay on, beside motion.
    """

    ignition_on: bool | None
    battery_v: float | None = None
    moving: bool = False
    holds: frozenset[Hold] = frozenset()


@dataclass(frozen=True, slots=True)
class PowerOrder:
    """What is to be done, and told.

    Attributes:
        parked: the unit parks.
        turn_off: the system is to be asked, now, to turn the computer off; say `asked` or `failed`.
        withdraw: what was asked is to be taken back, now.
        off_in_s: until it parks; None while that is not coming.
        holds: what keeps an ignition that is off from parking the unit.
        doubt: why the sense is not believed; empty when it is.
        failure: why the computer is still on though it was to be off; empty when nothing failed.
    """

    parked: bool = False
    turn_off: bool = False
    withdraw: bool = False
    off_in_s: float | None = None
    holds: tuple[Hold, ...] = ()
    doubt: str = ""
    failure: str = ""


class PowerRules:
    """Looks at the ignition once a second or oftener, in the order of boot time. Used from one thread.

    The computer goes off only when the ignition was seen off, without a break, for the whole time, and
    nothing holds it on. A sense that is missing, flaps or contradicts the motion counts as an ignition that
    is on: what stays on too long is a flat battery, what goes off too soon is a crew without a voice.

    Args:
        off_after_ns: how long the ignition must have been off.
        low_off_after_ns: the same with a battery that is low.
        low_v: below this voltage it is.
        may_turn_off: whether the computer is turned off at all, or the unit only parks.
    """

    def __init__(self, *, off_after_ns: int, low_off_after_ns: int, low_v: float, may_turn_off: bool) -> None:
        self._off_after_ns = off_after_ns
        self._low_off_after_ns = low_off_after_ns
        self._low_v = low_v
        self._may_turn_off = may_turn_off
        self._ignition: bool | None = None
        self._off_since_ns: int | None = None
        self._low_since_ns: int | None = None
        self._unknown_since_ns: int | None = None
        self._moving_since_ns: int | None = None
        self._switched: deque[int] = deque(maxlen=FLAPS)
        self._flapped_ns: int | None = None
        self._held_ns: int | None = None
        self._asked_ns: int | None = None
        self._again_ns: int | None = None
        self._pause_ns = AGAIN_NS
        self._failure = ""

    @property
    def asked(self) -> bool:
        """Whether the system was asked to turn the computer off, and has not refused."""
        return self._asked_ns is not None

    def look(self, now_ns: int, sight: PowerSight) -> PowerOrder:
        """What is to be done now."""
        self._watch_sense(now_ns, sight)
        holds = set(sight.holds)
        if sight.moving:
            holds.add(Hold.MOVING)
        doubt = self._doubt(now_ns)
        off = sight.ignition_on is False and not self._flaps(now_ns)
        if not off:
            self._off_since_ns = self._held_ns = None
        elif self._off_since_ns is None:
            self._off_since_ns = now_ns
        if off and holds:
            self._held_ns = now_ns
        parked = off and not holds and now_ns >= self._due_ns(now_ns)
        if not parked:
            return self._awake(now_ns, off=off, holds=holds, doubt=doubt)
        return self._parked(now_ns, doubt)

    def ask_done(self, now_ns: int) -> None:
        """The system was asked."""
        self._asked_ns = now_ns

    def ask_failed(self, now_ns: int, why: str) -> None:
        """It could not be asked, or not everything is on the disk. It is tried again, ever more seldom."""
        self._asked_ns = None
        self._failure = why
        self._again_ns = now_ns + self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, LONGEST_AGAIN_NS)

    def forget_sense(self) -> None:
        """The computer slept: nobody knows what the ignition did meanwhile."""
        self._off_since_ns = self._held_ns = self._ignition = None

    # ------------------------------------------------------------------ its parts

    def _awake(self, now_ns: int, *, off: bool, holds: set[Hold], doubt: str) -> PowerOrder:
        withdraw, self._asked_ns = self._asked_ns is not None, None
        if not off:
            self._failure, self._again_ns, self._pause_ns = "", None, AGAIN_NS
        off_in_s = None
        if off and not holds:
            off_in_s = max(0, self._due_ns(now_ns) - now_ns) / _S
        return PowerOrder(
            withdraw=withdraw,
            off_in_s=off_in_s,
            holds=tuple(sorted(holds)) if off else (),
            doubt=doubt,
            failure=self._failure,
        )

    def _parked(self, now_ns: int, doubt: str) -> PowerOrder:
        withdraw = False
        if self._asked_ns is not None and now_ns - self._asked_ns >= ANSWER_NS:
            self.ask_failed(now_ns, f"the system did not do it within {ANSWER_NS // _S} s")
            withdraw = True
        waits = self._again_ns is not None and now_ns < self._again_ns
        turn_off = self._may_turn_off and self._asked_ns is None and not waits
        return PowerOrder(
            parked=True, turn_off=turn_off, withdraw=withdraw, doubt=doubt, failure=self._failure
        )

    def _due_ns(self, now_ns: int) -> int:
        assert self._off_since_ns is not None
        low = self._low_since_ns is not None and now_ns - self._low_since_ns >= LOW_FOR_NS
        due_ns = self._off_since_ns + (self._low_off_after_ns if low else self._off_after_ns)
        return due_ns if self._held_ns is None else max(due_ns, self._held_ns + AFTER_HOLD_NS)

    def _watch_sense(self, now_ns: int, sight: PowerSight) -> None:
        if not is_low(sight.battery_v, self._low_v):
            self._low_since_ns = None
        elif self._low_since_ns is None:
            self._low_since_ns = now_ns
        if sight.ignition_on is not None:
            self._unknown_since_ns = None
            if self._ignition is not None and sight.ignition_on is not self._ignition:
                self.switched(now_ns)
            self._ignition = sight.ignition_on
        elif self._unknown_since_ns is None:
            self._unknown_since_ns = now_ns
        if not (sight.moving and sight.ignition_on is False):
            self._moving_since_ns = None
        elif self._moving_since_ns is None:
            self._moving_since_ns = now_ns

    def switched(self, now_ns: int) -> None:
        """The ignition was switched; also between two looks."""
        self._switched.append(now_ns)
        if len(self._switched) == FLAPS and now_ns - self._switched[0] <= FLAPS_WITHIN_NS:
            self._flapped_ns = now_ns

    def _flaps(self, now_ns: int) -> bool:
        return self._flapped_ns is not None and now_ns - self._flapped_ns < FLAPS_HELD_NS

    def _doubt(self, now_ns: int) -> str:
        if self._flaps(now_ns):
            return f"switched {FLAPS} times within {FLAPS_WITHIN_NS // _S} s"
        if self._unknown_since_ns is not None and now_ns - self._unknown_since_ns >= UNKNOWN_AFTER_NS:
            return "nobody says whether the ignition is on"
        if self._moving_since_ns is not None and now_ns - self._moving_since_ns >= MOVING_AFTER_NS:
            return "the ignition is said to be off, and the unit moves"
        return ""


def is_low(battery_v: float | None, low_v: float) -> bool:
    """Whether a voltage is known, can be, and is low."""
    if battery_v is None or isinstance(battery_v, bool) or not math.isfinite(battery_v):
        return False
    return LEAST_V <= battery_v <= MOST_V and battery_v < low_v


def ignition_of(value: object) -> bool | None:
    """What a value of the signal says; None for nothing."""
    if isinstance(value, str):
        return True if value in IGNITION_ON else False if value in IGNITION_OFF else None
    return None
