"""What the vehicle itself says at the moment of a press, and whether that contradicts the press.

A disputed response time is settled by what stands beside the button: did the unit roll, since when did it
stand, how far was it from the incident. The crew is right until somebody decides otherwise: a press is
never refused and never changed, it is flagged.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.geodesy import distance_m
from agent.domain.motion import Motion
from agent.domain.places import Places
from agent.domain.record import Contradicts
from agent.domain.status import UnitStatus

ROLLING_AT_LEAST_MPS = 2.5
"""Below 9 km/h a unit may be looking for the door; above, a press that says "arrived" came too early."""
FAR_FROM_INCIDENT_M = 500.0
"""Farther than any staging along the street; addresses are geocoded to some tens of metres."""

STANDING_STATUSES = frozenset(
    {
        UnitStatus.STAGED,
        UnitStatus.ON_SCENE,
        UnitStatus.AT_PATIENT,
        UnitStatus.AT_DESTINATION,
        UnitStatus.TRANSFER_OF_CARE,
        UnitStatus.IN_QUARTERS,
    }
)
"""Statuses that say that the unit stands: NEMSIS defines on scene as "vehicle stopped moving"."""
AT_INCIDENT = frozenset({UnitStatus.ON_SCENE, UnitStatus.AT_PATIENT})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What stands beside a press.

    Attributes:
        motion: rolling or standing, since when, by whose word.
        lat_deg: where the unit was; None without a fix fresh enough to say so.
        lon_deg: likewise.
        position_age_ms: age of that position at the press.
        incident_distance_m: metres to the incident; None without a position or without an incident's place.
        place: id of the nearest known place; None when none is near.
        place_distance_m: metres to its border, 0 inside.
    """

    motion: Motion
    lat_deg: float | None = None
    lon_deg: float | None = None
    position_age_ms: int | None = None
    incident_distance_m: float | None = None
    place: str | None = None
    place_distance_m: float | None = None


def gather(
    motion: Motion,
    position: tuple[float, float] | None,
    position_age_ms: int | None,
    incident: tuple[float, float] | None,
    places: Places,
) -> Evidence:
    """Put the evidence of one moment together.

    Args:
        motion: at that moment.
        position: (latitude, longitude) in degrees; None without a usable one.
        position_age_ms: its age; None with it.
        incident: (latitude, longitude) of the incident; None without one or when it has no coordinates.
        places: known places.
    """
    if position is None:
        return Evidence(motion)
    lat_deg, lon_deg = position
    near = places.nearest(lat_deg, lon_deg)
    return Evidence(
        motion,
        lat_deg=lat_deg,
        lon_deg=lon_deg,
        position_age_ms=position_age_ms,
        incident_distance_m=None if incident is None else distance_m(lat_deg, lon_deg, *incident),
        place=None if near is None else near[0].id,
        place_distance_m=None if near is None else near[1],
    )


def contradictions(status: str, evidence: Evidence) -> tuple[Contradicts, ...]:
    """What speaks against a press of this status; empty when nothing does, or when nobody can tell."""
    found = []
    motion = evidence.motion
    if (
        status in STANDING_STATUSES
        and motion.rolling
        and motion.speed_mps is not None
        and motion.speed_mps >= ROLLING_AT_LEAST_MPS
    ):
        found.append(Contradicts.ROLLING)
    away_m = evidence.incident_distance_m
    if status in AT_INCIDENT and away_m is not None and away_m > FAR_FROM_INCIDENT_M:
        found.append(Contradicts.FAR_FROM_INCIDENT)
    return tuple(found)
