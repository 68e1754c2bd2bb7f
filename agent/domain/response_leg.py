"""With which lights and siren a leg of a run was driven, for how long and how far. A pure rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.domain.record import Leg, ResponseLeg, ResponseMode
from agent.domain.status import UnitStatus

_NS = 1_000_000_000
LONGEST_STEP_NS = 10 * _NS
"""Two looks farther apart say nothing about how it was driven in between."""
_BEGINS: dict[str, Leg] = {UnitStatus.EN_ROUTE: Leg.TO_SCENE, UnitStatus.TRANSPORTING: Leg.TRANSPORT}
_GOES_ON = {Leg.TO_SCENE: frozenset({UnitStatus.EN_ROUTE, UnitStatus.STAGED}),
            Leg.TRANSPORT: frozenset({UnitStatus.TRANSPORTING})}  # fmt: skip
_NORMAL, _LIGHTS, _SIREN = ResponseMode.NORMAL, ResponseMode.LIGHTS, ResponseMode.LIGHTS_AND_SIREN
NEMSIS: dict[Leg, dict[str, str]] = {
    Leg.TO_SCENE: {
        "siren": "2224015", "lights": "2224017", "none": "2224019", "upgraded": "2224021",
        "downgraded": "2224023",
    },
    Leg.TRANSPORT: {
        "siren": "4218011", "lights": "4218013", "none": "4218015", "upgraded": "4218017",
        "downgraded": "4218019",
    },
}  # fmt: skip
"""Codes of eResponse.24 and eDisposition.18 (NEMSIS 3.5) for how lights and siren were used."""
SHARE = 0.8
"""A mode that was had for this share of the leg's time is what the leg was driven with."""


@dataclass(slots=True)
class _Driving:
    leg: Leg
    incident: str | None
    begun_ns: int
    at_ns: int
    begun: ResponseMode | None
    ended: ResponseMode | None
    metres: float = 0.0
    has_speed: bool = False
    seconds: dict[ResponseMode, float] = field(default_factory=dict)
    metres_of: dict[ResponseMode, float] = field(default_factory=dict)


class ResponseLegs:
    """Looked at about once a second, in the order of time. Not thread-safe."""

    def __init__(self) -> None:
        self._driving: _Driving | None = None

    def look(
        self,
        now_ns: int,
        status: str | None,
        incident: str | None,
        *,
        mode: ResponseMode | None,
        speed_mps: float | None,
    ) -> ResponseLeg | None:
        """What holds now; the leg that ended with it, if one did.

        Args:
            now_ns: CLOCK_BOOTTIME.
            status: unit status.
            incident: that the unit is assigned to.
            mode: how it drives; None when the vehicle does not tell.
            speed_mps: how fast; None when nobody tells.
        """
        driving = self._driving
        if driving is not None:
            self._pass(driving, now_ns, mode, speed_mps)
            if status in _GOES_ON[driving.leg] and incident == driving.incident:
                return None
        self._driving = None
        leg = _BEGINS.get(status or "")
        if leg is not None:
            self._driving = _Driving(leg, incident, now_ns, now_ns, mode, mode)
        return None if driving is None else _record(driving)

    def _pass(
        self, driving: _Driving, now_ns: int, mode: ResponseMode | None, speed_mps: float | None
    ) -> None:
        passed_ns, driving.at_ns = now_ns - driving.at_ns, now_ns
        driving.begun = mode if driving.begun is None else driving.begun
        held, driving.ended = driving.ended, mode if mode is not None else driving.ended
        if not 0 < passed_ns <= LONGEST_STEP_NS:
            return
        passed_s = passed_ns / _NS
        metres = None if speed_mps is None else speed_mps * passed_s
        if metres is not None:
            driving.has_speed = True
            driving.metres += metres
        if held is not None:
            driving.seconds[held] = driving.seconds.get(held, 0.0) + passed_s
            if metres is not None:
                driving.metres_of[held] = driving.metres_of.get(held, 0.0) + metres


def _record(driving: _Driving) -> ResponseLeg:
    known = bool(driving.seconds)

    def seconds(mode: ResponseMode) -> int | None:
        return round(driving.seconds.get(mode, 0.0)) if known else None

    def metres(mode: ResponseMode) -> int | None:
        return round(driving.metres_of.get(mode, 0.0)) if known and driving.has_speed else None

    return ResponseLeg(
        leg=driving.leg,
        incident=driving.incident,
        from_boottime_ms=driving.begun_ns // 1_000_000,
        duration_s=round((driving.at_ns - driving.begun_ns) / _NS),
        distance_m=round(driving.metres) if driving.has_speed else None,
        normal_s=seconds(_NORMAL),
        lights_s=seconds(_LIGHTS),
        siren_s=seconds(_SIREN),
        normal_m=metres(_NORMAL),
        lights_m=metres(_LIGHTS),
        siren_m=metres(_SIREN),
        begun=driving.begun,
        ended=driving.ended,
        nemsis=_nemsis(driving),
    )


def _nemsis(driving: _Driving) -> str | None:
    """The code that says how the leg was driven; None when nothing is known of its lights.

    A siren sounds at crossings only: time with lights counts for both where the siren was heard at all.
    """
    whole = sum(driving.seconds.values())
    if whole <= 0:
        return None
    codes = NEMSIS[driving.leg]
    normal = driving.seconds.get(_NORMAL, 0.0) / whole
    if normal >= SHARE:
        return codes["none"]
    if 1 - normal >= SHARE:
        return codes["siren" if driving.seconds.get(_SIREN) else "lights"]
    return codes["downgraded" if driving.begun is not _NORMAL else "upgraded"]
