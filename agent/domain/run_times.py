"""Times and legs of runs, from the statuses of a unit in the order of their sequence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from agent.domain.run_order import COMMITTED, RESPONDING
from agent.domain.status import MOMENTARY, UnitStatus

NEMSIS_TIMES = {
    UnitStatus.DISPATCHED: "eTimes.03",
    UnitStatus.ACKNOWLEDGED: "eTimes.04",
    UnitStatus.EN_ROUTE: "eTimes.05",
    UnitStatus.STAGED: "eTimes.17",
    UnitStatus.ON_SCENE: "eTimes.06",
    UnitStatus.AT_PATIENT: "eTimes.07",
    UnitStatus.TRANSPORTING: "eTimes.09",
    UnitStatus.AT_DESTINATION: "eTimes.11",
    UnitStatus.TRANSFER_OF_CARE: "eTimes.12",
    UnitStatus.AVAILABLE: "eTimes.13",
    UnitStatus.CANCELLED: "eTimes.14",
    UnitStatus.IN_QUARTERS: "eTimes.15",
}
"""Element of NEMSIS v3.5 that each status gives the time of."""

NEMSIS_ODOMETERS = {
    UnitStatus.EN_ROUTE: "eResponse.19",
    UnitStatus.ON_SCENE: "eResponse.20",
    UnitStatus.AT_DESTINATION: "eResponse.21",
    UnitStatus.AVAILABLE: "eResponse.22",
}
"""Element of NEMSIS v3.5 for the odometer at each: beginning, on scene, at the destination, ending."""

_EMERGENT = frozenset({"lights_and_siren", "lights", "emergent"})
_NOT_EMERGENT = frozenset({"normal", "none", "non_emergent"})
_NEMSIS_MODES = {
    (True, True): "2223001",
    (True, False): "2223003",
    (False, False): "2223005",
    (False, True): "2223007",
}
"""Codes of eResponse.23 by whether the response was emergent at first, and in the end."""

_ENDS = frozenset({UnitStatus.AVAILABLE, UnitStatus.CANCELLED})
_AFTER = frozenset({UnitStatus.AVAILABLE, UnitStatus.IN_QUARTERS})
KM_PER_MILE = 1.609344

LEGS = (
    ("turnout", UnitStatus.DISPATCHED, UnitStatus.EN_ROUTE),
    ("response", UnitStatus.EN_ROUTE, UnitStatus.ON_SCENE),
    ("to patient", UnitStatus.ON_SCENE, UnitStatus.AT_PATIENT),
    ("on scene", UnitStatus.ON_SCENE, UnitStatus.TRANSPORTING),
    ("transport", UnitStatus.TRANSPORTING, UnitStatus.AT_DESTINATION),
    ("at destination", UnitStatus.AT_DESTINATION, UnitStatus.AVAILABLE),
)
"""Name, first and last status of each part of a run whose length is told."""


@dataclass(frozen=True, slots=True)
class StatusTime:
    """One status with its time, as amendments and withdrawals left it.

    Attributes:
        seq: its sequence number in the events.
        status: token.
        unix_ms: UTC of the press in Unix milliseconds; None when it was never known.
        incident: number of the incident it belongs to; None when there was none.
        odometer_km: None where not known.
        amended: True when the time or the status is not the one that was pressed.
        flags: what was found unusual, e.g. "contradicted".
        mode: response mode of the call at that time, as dispatch said it; None when it said none.
    """

    seq: int
    status: str
    unix_ms: int | None
    incident: str | None = None
    odometer_km: float | None = None
    amended: bool = False
    flags: tuple[str, ...] = ()
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of a run.

    Attributes:
        name: as in `LEGS`.
        seconds: how long it took; None when one of its ends has no time.
        km: distance by the odometer; None where that is not known.
    """

    name: str
    seconds: float | None
    km: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run: from being sent out to being free again, and home.

    Attributes:
        incident: its number; None when none was told.
        times: the first press of each status, in order.
        closed: True once the unit was free again.
    """

    incident: str | None
    times: tuple[StatusTime, ...] = ()
    closed: bool = False
    legs: tuple[Leg, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "legs", tuple(_legs(self.times)))

    def time_of(self, status: str) -> StatusTime | None:
        """The press of that status, None when there was none."""
        return next((time for time in self.times if time.status == status), None)


def runs(statuses: Iterable[StatusTime]) -> tuple[Run, ...]:
    """Divide a unit's statuses into runs, oldest first.

    A run begins with the first status that commits the unit, or when the incident changes (a diversion: the
    run before it ends there, without a time in service). It ends when the unit is available or cancelled; a
    following "in quarters" still belongs to it. Of a status that is set twice the first counts.
    """
    found: list[Run] = []
    current: Run | None = None
    for time in statuses:
        if time.status in MOMENTARY:
            continue
        if time.status in COMMITTED:
            if current is None or current.closed or _of_another_incident(current, time):
                current = Run(time.incident)
                found.append(current)
            elif current.incident is None and time.incident is not None:
                current = found[-1] = replace(current, incident=time.incident)
        if current is None or not _belongs(current, time):
            continue
        if current.time_of(time.status) is None:
            current = found[-1] = replace(current, times=(*current.times, time))
        if time.status in _ENDS:
            current = found[-1] = replace(current, closed=True)
        elif time.status == UnitStatus.OUT_OF_SERVICE:
            current = None
    return tuple(found)


def _of_another_incident(run: Run, time: StatusTime) -> bool:
    return run.incident is not None and time.incident is not None and time.incident != run.incident


def _belongs(run: Run, time: StatusTime) -> bool:
    if time.status == UnitStatus.CANCELLED and _of_another_incident(run, time):
        return False  # of a call that the unit had left already
    return not run.closed or time.status in _AFTER


def nemsis(run: Run) -> dict[str, str]:
    """The run's elements of NEMSIS v3.5: name to text. What is not known is left out, never invented.

    Date-times have an offset (a trailing Z is invalid there); odometers are miles with two decimals.
    """
    given: dict[str, str] = {}
    if run.incident is not None:
        given["eResponse.03"] = run.incident
    mode = _nemsis_mode(run)
    if mode is not None:
        given["eResponse.23"] = mode
    for time in run.times:
        if time.status not in NEMSIS_TIMES:
            continue
        status = UnitStatus(time.status)
        if time.unix_ms is not None:
            given[NEMSIS_TIMES[status]] = nemsis_time(time.unix_ms)
        if status in NEMSIS_ODOMETERS and time.odometer_km is not None:
            given[NEMSIS_ODOMETERS[status]] = f"{time.odometer_km / KM_PER_MILE:.2f}"
    return given


def _nemsis_mode(run: Run) -> str | None:
    """How the unit was to drive to the scene; None where dispatch did not say, or in words of its own."""
    before = [time for time in run.times if time.status in RESPONDING or time.status == UnitStatus.ON_SCENE]
    modes = [time.mode for time in before if time.mode is not None]
    if not modes or any(mode not in _EMERGENT | _NOT_EMERGENT for mode in (modes[0], modes[-1])):
        return None
    return _NEMSIS_MODES[modes[0] in _EMERGENT, modes[-1] in _EMERGENT]


def nemsis_time(unix_ms: int) -> str:
    """A UTC as NEMSIS writes it: seconds, and the offset spelled out."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=unix_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S+00:00")


def _legs(times: tuple[StatusTime, ...]) -> Iterable[Leg]:
    by_status = {time.status: time for time in times}
    for name, first, last in LEGS:
        begin, end = by_status.get(first), by_status.get(last)
        if begin is None or end is None:
            continue
        seconds = km = None
        if begin.unix_ms is not None and end.unix_ms is not None:
            seconds = (end.unix_ms - begin.unix_ms) / 1000
        if begin.odometer_km is not None and end.odometer_km is not None:
            km = round(end.odometer_km - begin.odometer_km, 3)
        yield Leg(name, seconds, km)
