"""What of the unit's place leaves the vehicle while it is off duty."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from agent.domain.geodesy import EARTH_RADIUS_M
from agent.domain.record import Body, EvidenceRecord, HintRecord, PlaceRecord, Position, PositionQuality
from agent.domain.record import Telemetry as TelemetryRecord
from agent.domain.state import DestinationState, LocationState, State, VehicleState

HALF_DIAGONAL = math.sqrt(0.5)
"""Of a square, for each metre of its side: the radius about its middle that holds it."""
PLACE_SIGNALS = "CurrentLocation."
"""VSS: what a vehicle itself tells of its place."""
LIFTED_NS = 3600 * 1_000_000_000


class OffDuty(StrEnum):
    """What is told of the place off duty."""

    TELL = "tell"
    """All, as on duty."""
    BLUR = "blur"
    """The middle of a square, and that it is so."""
    WITHHOLD = "withhold"
    """Nothing, and that it is so."""


@dataclass(frozen=True, slots=True)
class PrivacyRule:
    """When the unit is off duty, and what is told then.

    Attributes:
        off_duty: what is told.
        blur_m: side of the square.
        statuses: in which it is off duty.
        by_schedule: whether it is at a UTC, in Unix milliseconds.
    """

    off_duty: OffDuty = OffDuty.TELL
    blur_m: float = 1000.0
    statuses: frozenset[str] = frozenset()
    by_schedule: Callable[[int], bool] = lambda _: False


AnyBody = TypeVar("AnyBody", bound=Body)


class Privacy:
    """Makes coarse or leaves out the place in all that leaves the vehicle. Not thread-safe.

    An emergency, an incident, and whoever `lift`s it (an impact, a unit that moves unattended) come first:
    then people or the vehicle are to be found. Where the time is not known, no schedule holds.
    """

    def __init__(self, rule: PrivacyRule) -> None:
        self._rule = rule
        self._status: str | None = None
        self._needed = False
        self._lifted_until_ns = 0

    @property
    def is_open(self) -> bool:
        """Whether all is told at all times, as shipped."""
        return self._rule.off_duty is OffDuty.TELL

    def on_status(self, status: str | None, *, needed: bool) -> None:
        """Take what holds, and whether there is an emergency or an incident."""
        self._status, self._needed = status, needed

    def lift(self, now_ns: int) -> None:
        """Tell everything for an hour."""
        self._lifted_until_ns = now_ns + LIFTED_NS

    def holds(self, utc_ms: int | None, now_ns: int) -> bool:
        """Whether the place is not to be told as it is."""
        rule = self._rule
        if self.is_open or self._needed or now_ns < self._lifted_until_ns:
            return False
        return self._status in rule.statuses or (utc_ms is not None and rule.by_schedule(utc_ms))

    def shown(self, position: Position | None) -> Position | None:
        """What of a position may be told."""
        if position is None or self._rule.off_duty is OffDuty.WITHHOLD:
            return None
        if position.quality == PositionQuality.BLURRED:
            return position
        lat_deg, lon_deg = middle(position.lat_deg, position.lon_deg, self._rule.blur_m)
        return replace(
            position,
            lat_deg=lat_deg,
            lon_deg=lon_deg,
            alt_m=None,
            speed_mps=None,
            course_deg=None,
            satellites=None,
            hdop=None,
            quality=PositionQuality.BLURRED,
            uncertainty_m=self._rule.blur_m * HALF_DIAGONAL,
        )

    def body(self, body: AnyBody) -> AnyBody | None:
        """What of a record may be kept and told; None for nothing."""
        if isinstance(body, Position):
            return self.shown(body)  # type: ignore[return-value]  # it is the same kind of body
        if isinstance(body, PlaceRecord):
            return None  # it says nothing but the place
        if isinstance(body, TelemetryRecord):
            return replace(body, signals=_without_place(body.signals))
        return self._parts(body)  # type: ignore[no-any-return]

    def state(self, state: State) -> State:
        """What of a live state may be told."""
        if isinstance(state, LocationState):
            return replace(
                state,
                position=self.shown(state.position),
                last_known=self.shown(state.last_known),
                last_known_utc=None if self._rule.off_duty is OffDuty.WITHHOLD else state.last_known_utc,
                withheld=self._rule.off_duty is OffDuty.WITHHOLD or None,
            )
        if isinstance(state, DestinationState):
            return replace(state, remaining_m=None, eta=None)
        if isinstance(state, VehicleState):
            return replace(state, signals=_without_place(state.signals))
        return state

    def _parts(self, whole: Any) -> Any:
        """A body with every position in it shown as it may be, and without the words for a place."""
        changed: dict[str, Any] = {}
        for field in fields(whole):
            value = getattr(whole, field.name)
            if isinstance(value, Position):
                changed[field.name] = self.shown(value)
            elif is_dataclass(value) and not isinstance(value, type):
                changed[field.name] = self._parts(value)
        if isinstance(whole, EvidenceRecord):
            changed |= dict.fromkeys(("place", "place_distance_m", "incident_distance_m"))
        if isinstance(whole, HintRecord):
            changed |= dict.fromkeys(("place", "radius_m"))
        return replace(whole, **changed) if changed else whole


def middle(lat_deg: float, lon_deg: float, side_m: float) -> tuple[float, float]:
    """The middle of the square of a fixed grid that a place lies in, in degrees.

    The grid does not move with the unit: many reports tell no more than one.
    """
    step_deg = math.degrees(side_m / EARTH_RADIUS_M)
    row = math.floor(lat_deg / step_deg)
    middle_lat = min(90.0, max(-90.0, (row + 0.5) * step_deg))
    circle = max(math.cos(math.radians(middle_lat)), 1e-6)
    lon_step_deg = min(360.0, step_deg / circle)
    middle_lon = (math.floor((lon_deg + 180.0) / lon_step_deg) + 0.5) * lon_step_deg - 180.0
    return middle_lat, min(180.0, max(-180.0, middle_lon))


def without_place(signals: Mapping[str, Any]) -> dict[str, Any]:
    """Signals by name, without those that tell the place."""
    return {name: value for name, value in signals.items() if not name.startswith(PLACE_SIGNALS)}


def _without_place(signals: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    return tuple(pair for pair in signals if not pair[0].startswith(PLACE_SIGNALS))
