"""What is true now, as dispatch sees it: one value a retained topic, newest wins.

A new field is one line at the end of its state, a new state one class: see `agent.domain.field`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Annotated, ClassVar

from agent.domain.field import Field
from agent.domain.fix import FixMode
from agent.domain.health import HealthReason
from agent.domain.record import Position, ResponseMode, Signals
from agent.domain.stamp import Utc
from agent.domain.status import UnitStatus


@dataclass(frozen=True, slots=True)
class State:
    """What all states begin with."""

    name: ClassVar[str]

    boottime_ms: Annotated[int, Field("CLOCK_BOOTTIME of what the state tells of.", unit="ms")]
    utc: Annotated[Utc | None, Field("The UTC of that moment; null while no source is trusted.")]


@dataclass(frozen=True, slots=True)
class LinkState(State):
    """Whether the unit can be reached, and which sequences its journal is counted in.

    Birth and last will of one connection carry the same session number, so that a late will of an old
    connection is told from the present one.
    """

    name: ClassVar[str] = "link"

    session: Annotated[int, Field("Random number of the connection attempt.")]
    online: Annotated[bool, Field("True in the birth, false in the will and after an orderly stop.")]
    boot_id: Annotated[str, Field("The kernel's id of this boot, 32 hexadecimal digits.")]
    boot: Annotated[int, Field("The store's own count of boots, the `boot` of journal records.")]
    journal: Annotated[int, Field("The store's random identity, the `journal` of journal records.")]
    agent_version: Annotated[str, Field("Version of the agent.")]
    mqtt_version: Annotated[int | None, Field("5, or 4 for MQTT 3.1.1; null in a will.")] = None
    planned: Annotated[bool, Field("True when the unit itself said that it goes offline.")] = False
    events_seq: Annotated[
        int | None,
        Field("All events up to here were delivered by an earlier connection; null when not told."),
    ] = None
    trail_seq: Annotated[int | None, Field("The same of the trail.")] = None
    parked: Annotated[bool | None, Field("True when the unit parks: it reports seldom, or not at all.")] = (
        None
    )
    computer: Annotated[
        str | None, Field("Pseudonym of the computer, so that a copied card is told from the one it copies.")
    ] = None


@dataclass(frozen=True, slots=True)
class LocationState(State):
    """Where the unit is, or that it is not known."""

    name: ClassVar[str] = "location"

    position: Annotated[Position | None, Field("The live position; null without a fix, never 0/0.")]
    mode: Annotated[FixMode, Field("Kind of fix now: 1 none, 2 2D, 3 3D.")]
    last_known: Annotated[Position | None, Field("Newest position, while `position` is null.")] = None
    last_known_utc: Annotated[Utc | None, Field("The UTC of `last_known`.")] = None
    withheld: Annotated[bool | None, Field("True when positions are withheld on purpose, off duty.")] = None


@dataclass(frozen=True, slots=True)
class StatusState(State):
    """What the crew last said."""

    name: ClassVar[str] = "status"

    status: Annotated[str | None, Field("The unit status; null when none was ever set.", tokens=UnitStatus)]
    since: Annotated[Utc | None, Field("The UTC of the press; null when it was not known.")] = None
    seq: Annotated[int | None, Field("The press's number in the events; null while not stored.")] = None
    emergency: Annotated[bool, Field("True while the crew's emergency is active.")] = False
    emergency_since: Annotated[Utc | None, Field("The UTC at which it was raised.")] = None
    emergency_seq: Annotated[int | None, Field("Sequence number of the newest emergency record.")] = None
    journal: Annotated[int | None, Field("The journal that the sequence numbers are of.")] = None
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.")] = None
    reason: Annotated[str | None, Field("Reason of out of service or delay.")] = None
    for_calls: Annotated[bool | None, Field("Whether the unit can be sent, apart from its status.")] = None
    emergency_silent: Annotated[bool | None, Field("True when nothing in the cab shows it.")] = None
    emergency_test: Annotated[bool | None, Field("True when it is a test.")] = None
    call_acknowledged: Annotated[bool | None, Field("Whether the crew acknowledged the call.")] = None
    response: Annotated[str | None, Field("How the unit drives.", tokens=ResponseMode)] = None
    hint: Annotated[str | None, Field("Status that motion and place suggest.", tokens=UnitStatus)] = None


@dataclass(frozen=True, slots=True)
class VehicleState(State):
    """Newest value of vehicle signals."""

    name: ClassVar[str] = "vehicle"

    signals: Annotated[
        Signals,
        Field(
            "VSS path below `Vehicle.` to value in the VSS unit; null is not available.", most=128, items=0
        ),
    ]
    complete: Annotated[
        bool | None,
        Field("False when only what changed is told, to be merged; else what is not told is not known."),
    ] = None

    def over(self, earlier: VehicleState) -> VehicleState:
        """The picture that this state makes of an earlier one: what is told anew, on what was known."""
        if self.complete is not False:
            return self
        signals = tuple(sorted((dict(earlier.signals) | dict(self.signals)).items(), key=itemgetter(0)))
        return replace(self, signals=signals, complete=earlier.complete)


@dataclass(frozen=True, slots=True)
class HealthState(State):
    """How the device is, and how far behind dispatch's picture may be."""

    name: ClassVar[str] = "health"

    reasons: Annotated[
        tuple[str, ...], Field("All named reasons that hold now, sorted.", most=24, tokens=HealthReason)
    ]
    details: Annotated[
        tuple[tuple[str, str], ...], Field("Reason to a sentence for a person.", most=160, items=16)
    ] = ()
    backlog_records: Annotated[int | None, Field("Records that wait; null when not counted.")] = None
    backlog_oldest_utc: Annotated[Utc | None, Field("The UTC of the oldest of them.")] = None


@dataclass(frozen=True, slots=True)
class UnitState(State):
    """Who and what the unit is on this shift."""

    name: ClassVar[str] = "unit"

    call_sign: Annotated[str | None, Field("Call sign that the vehicle runs under.")]
    vehicle: Annotated[str | None, Field("The vehicle itself, whatever its call sign.")] = None
    capabilities: Annotated[tuple[str, ...] | None, Field("Tokens such as `als`, `bls`, equipment.")] = None
    crew: Annotated[tuple[str, ...] | None, Field("Crew ids aboard; null when not known.", items=12)] = None
    driver: Annotated[str | None, Field("Crew id of the driver; null when not known.")] = None
    shift: Annotated[str | None, Field("Id of the shift.")] = None
    shift_since: Annotated[Utc | None, Field("When it began.")] = None


@dataclass(frozen=True, slots=True)
class DestinationState(State):
    """Where the unit is going, and when it will be there."""

    name: ClassVar[str] = "destination"

    destination: Annotated[str | None, Field("Id of the place, or its name; null when there is none.")]
    eta: Annotated[Utc | None, Field("When it will be there; null when nobody can say.")] = None
    remaining_m: Annotated[int | None, Field("Remaining distance.", unit="m")] = None
    method: Annotated[str | None, Field("How that was worked out: `distance_over_speed`, `route`.")] = None
    incident: Annotated[str | None, Field("Incident that it belongs to.")] = None


STATES: tuple[type[State], ...] = (
    LinkState,
    StatusState,
    LocationState,
    VehicleState,
    HealthState,
    UnitState,
    DestinationState,
)
STATE_TYPES: dict[str, type[State]] = {kind.name: kind for kind in STATES}
"""The state of each topic name."""
