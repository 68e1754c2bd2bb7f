"""Suggesting a press that was probably forgotten. It is never made by itself: the crew presses, or does not.

Each rule holds a status against what the vehicle does. What it sees must last for a dwell time before it is
told, and it is told once for each status: a crew that knows better is not nagged.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.geodesy import distance_m
from agent.domain.motion import Motion, SpeedSource
from agent.domain.places import Place
from agent.domain.record import HintRule
from agent.domain.status import UnitStatus

SCENE_RADIUS_M = 150.0
SCENE_DWELL_S = 30.0
LEAVING_DWELL_S = 20.0
ROLLING_DWELL_S = 20.0

_CERTAIN_BY_MOTION = 0.6
_WHEELS_ADD = 0.2
_PLACE_ADDS = 0.2


@dataclass(frozen=True, slots=True)
class Hint:
    """A press that was probably forgotten.

    Attributes:
        suggests: token of the status that would fit.
        because: what was seen.
        since_boottime_ns: when that began: the time the press should have had.
        place: id of the place it was seen at; None for an incident or a scene without a name.
        radius_m: of the rule.
        dwell_s: of the rule.
        confidence: 0 to 1; higher with wheel speed than with GNSS alone, and with a known place.
    """

    suggests: UnitStatus
    because: HintRule
    since_boottime_ns: int
    place: str | None
    radius_m: float
    dwell_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What the vehicle does at one moment.

    Attributes:
        boottime_ns: that moment.
        status: token that holds; None when none was set.
        motion: rolling or standing.
        position: (latitude, longitude) in degrees; None without a usable one.
        inside: places that the unit has arrived at.
        incident: (latitude, longitude) of the incident; None without.
    """

    boottime_ns: int
    status: str | None
    motion: Motion
    position: tuple[float, float] | None
    inside: tuple[Place, ...] = ()
    incident: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class _Sign:
    suggests: UnitStatus
    because: HintRule
    dwell_s: float
    place: Place | None
    placed: bool


class MissedPress:
    """Looks for forgotten presses. Fed about once a second in the order of boot time; not thread-safe.

    Args:
        scene_radius_m: within it the unit is at the incident, beyond it from where it stood it has left.
        scene_dwell_s: how long it must stand there.
        leaving_dwell_s: how long it must roll away from a scene or hospital.
        rolling_dwell_s: how long it must roll with a call, or out of its quarters.
    """

    def __init__(
        self,
        *,
        scene_radius_m: float = SCENE_RADIUS_M,
        scene_dwell_s: float = SCENE_DWELL_S,
        leaving_dwell_s: float = LEAVING_DWELL_S,
        rolling_dwell_s: float = ROLLING_DWELL_S,
    ) -> None:
        self._scene_radius_m = scene_radius_m
        self._scene_dwell_s = scene_dwell_s
        self._leaving_dwell_s = leaving_dwell_s
        self._rolling_dwell_s = rolling_dwell_s
        self._status: str | None = None
        self._stood_at: tuple[float, float] | None = None
        self._candidate: tuple[HintRule, int] | None = None
        self._told: set[HintRule] = set()

    def take(self, seen: Seen) -> Hint | None:
        """Look at one moment; returns a hint once it is sure enough, None otherwise."""
        if seen.status != self._status:
            self._status, self._stood_at, self._candidate = seen.status, seen.position, None
            self._told.clear()
        elif seen.motion.rolling is False and seen.position is not None and self._candidate is None:
            self._stood_at = seen.position
        sign = self._sign(seen)
        if sign is None or sign.because in self._told:
            self._candidate = None
            return None
        if self._candidate is None or self._candidate[0] is not sign.because:
            self._candidate = (sign.because, seen.boottime_ns)
        since_ns = self._candidate[1]
        if seen.motion.since_boottime_ns is not None:
            # The stop or start itself, which may have been before the place was reached.
            since_ns = min(since_ns, seen.motion.since_boottime_ns)
        if seen.boottime_ns - self._candidate[1] < sign.dwell_s * 1e9:
            return None
        self._told.add(sign.because)
        return Hint(
            suggests=sign.suggests,
            because=sign.because,
            since_boottime_ns=since_ns,
            place=None if sign.place is None else sign.place.id,
            radius_m=self._scene_radius_m if sign.place is None else sign.place.radius_m,
            dwell_s=sign.dwell_s,
            confidence=_CERTAIN_BY_MOTION
            + (_WHEELS_ADD if seen.motion.source is SpeedSource.WHEELS else 0.0)
            + (_PLACE_ADDS if sign.placed else 0.0),
        )

    def _sign(self, seen: Seen) -> _Sign | None:
        """What speaks for a forgotten press at this moment."""
        if seen.motion.rolling is None:
            return None
        return self._standing(seen) if seen.motion.rolling is False else self._rolling(seen)

    def _standing(self, seen: Seen) -> _Sign | None:
        status = seen.status
        if status in (UnitStatus.EN_ROUTE, UnitStatus.STAGED) and self._near(seen.position, seen.incident):
            return _Sign(
                UnitStatus.ON_SCENE, HintRule.STANDS_AT_INCIDENT, self._scene_dwell_s, None, placed=True
            )
        if status == UnitStatus.TRANSPORTING:
            hospital = next((place for place in seen.inside if place.kind == "hospital"), None)
            if hospital is not None:
                return _Sign(
                    UnitStatus.AT_DESTINATION,
                    HintRule.STANDS_AT_HOSPITAL,
                    self._scene_dwell_s,
                    hospital,
                    placed=True,
                )
        return None

    def _rolling(self, seen: Seen) -> _Sign | None:
        status, left = seen.status, self._has_left(seen)
        match status:
            case UnitStatus.ON_SCENE | UnitStatus.AT_PATIENT if left:
                placed = seen.incident is not None
                return _Sign(
                    UnitStatus.TRANSPORTING, HintRule.LEFT_SCENE, self._leaving_dwell_s, None, placed=placed
                )
            case UnitStatus.AT_DESTINATION | UnitStatus.TRANSFER_OF_CARE if left:
                return _Sign(
                    UnitStatus.AVAILABLE, HintRule.LEFT_DESTINATION, self._leaving_dwell_s, None, placed=False
                )
            case UnitStatus.IN_QUARTERS if left:
                return _Sign(
                    UnitStatus.AVAILABLE, HintRule.DRIVES_OFF, self._rolling_dwell_s, None, placed=False
                )
            case UnitStatus.DISPATCHED | UnitStatus.ACKNOWLEDGED:
                return _Sign(
                    UnitStatus.EN_ROUTE, HintRule.DRIVES_OFF, self._rolling_dwell_s, None, placed=False
                )
            case _:
                return None

    def _has_left(self, seen: Seen) -> bool:
        """Whether the unit is away from where it last stood with this status, and from the incident."""
        if seen.position is None or self._stood_at is None:
            return False
        away = distance_m(*seen.position, *self._stood_at) > self._scene_radius_m
        return away and not self._near(seen.position, seen.incident)

    def _near(self, position: tuple[float, float] | None, incident: tuple[float, float] | None) -> bool:
        if position is None or incident is None:
            return False
        return distance_m(*position, *incident) <= self._scene_radius_m
