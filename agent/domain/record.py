"""What the journal holds: the table of record kinds, and the fields of each kind's body.

A new field is one line at the end of its body. A new kind is a body and one row of `Kind`. Everything else
that knows of kinds and fields (both forms on the wire, the store's order of giving up, the document, the JSON
Schemas) is made from these tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated, Self

from agent.domain.field import Field, Token
from agent.domain.fix import FixMode
from agent.domain.stamp import Stamp
from agent.domain.status import UnitStatus


class Stream(StrEnum):
    """A journal stream; each has a sequence of its own, strictly ascending, without holes."""

    EVENTS = "events"
    TRAIL = "trail"


class Body:
    """What happened, the part of a record that differs between kinds; see the subclasses."""

    __slots__ = ()


# --- words ----------------------------------------------------------------------------------------


class Made(Token):
    """How a press, a change or an answer came to be."""

    BUTTON = "button", "A hardware key in the vehicle."
    PANEL = "panel", "The touch panel in the vehicle."
    DISPATCH = "dispatch", "Dispatch, by a command."
    FLEET = "fleet", "Fleet services, by a command."
    INFERRED = "inferred", "The agent itself, from motion and place."


class StatusFlag(Token):
    """What is remarkable about a status; it is accepted all the same."""

    UNEXPECTED = "unexpected", "Does not follow the status before it."
    CONTRADICTED = "contradicted", "The vehicle's own evidence says something else."
    REPEATED = "repeated", "Says again what held already."


class MotionWord(Token):
    """Whether the wheels turn."""

    ROLLING = "rolling", "The vehicle moves."
    STANDING = "standing", "The vehicle stands."


class GapReason(Token):
    """Why a reader does not get what a gap record covers; from harmless to grave."""

    TRIMMED = "trimmed", "Delivered once, and no longer kept; only in answers to a request."
    THINNED = "thinned", "Left out between others, to keep within the byte budget."
    EVICTED = "evicted", "Left out to keep within the byte budget."
    DAMAGED = (
        "damaged",
        "Went bad on the unit's disk. So may have its stamp: `boottime_ms` is 0 and there is no UTC.",
    )


class AlertCode(Token):
    """What dispatch or fleet services are told once."""

    STORE_SET_ASIDE = "store_set_aside", "The store was damaged; what could be read was carried over."
    STORE_REPLACED = "store_replaced", "The store in use was replaced; a new journal began."
    STORE_MOVED = "store_moved", "The store's file was deleted or replaced while in use; all is kept."
    STORE_RECORD_DAMAGED = "store_record_damaged", "What a record held was garbled; gaps tell of each."
    JOURNAL_BEGUN = "journal_begun", "A new journal began: the old one had records of two under one number."
    BUTTON_EDGES_LOST = "button_edges_lost", "The button panel lost presses or releases."
    BUTTON_CHATTER = "button_chatter", "A key chatters; its presses are left out until it is quiet."
    UNATTENDED_MOVEMENT = "unattended_movement", "The vehicle moves without ignition, crew or key."
    BUTTON_UNKNOWN = "button_unknown", "A key was pressed that has no meaning in the configuration."
    GNSS_JAMMED = "gnss_jammed", "The receiver is jammed, or its antenna taken off; the text has the sign."
    GNSS_SPOOFED = "gnss_spoofed", "Position or time may be forged; the text has the sign."


class OdometerSource(Token):
    """By what the newest metres of an odometer were counted."""

    VEHICLE = "vehicle", "The vehicle's own odometer."
    WHEELS = "wheels", "The speed of the wheels over time; the count began when the agent first ran."
    GNSS = "gnss", "The speed by GNSS over time; likewise."


class PositionQuality(Token):
    """What is wrong with a position; null when nothing is."""

    ESTIMATED = "estimated", "Dead reckoning: no fix, carried on from speed and course."
    STALE = "stale", "The receiver's fix is older than it should be."
    FROZEN = "frozen", "The receiver repeats a position although the wheels turn."
    JUMPED = "jumped", "Impossibly far from where the vehicle just was."
    CONTRADICTED = "contradicted", "At odds with the wheel speed."
    BLURRED = "blurred", "Made coarse on purpose, for privacy off duty."


class Contradicts(Token):
    """Why the vehicle's own evidence does not agree with a press."""

    ROLLING = "rolling", "The status says that the unit stands, and it rolled."
    FAR_FROM_INCIDENT = (
        "far_from_incident",
        "The status says that the unit is at the incident; it was far away.",
    )


class CallStep(Token):
    """What became of a call in the vehicle."""

    RECEIVED = "received", "The vehicle has it."
    SHOWN = "shown", "The crew was shown it, or told by sound."
    ACKNOWLEDGED = "acknowledged", "The crew acknowledged it."
    UNACKNOWLEDGED = "unacknowledged", "Nobody acknowledged it within the configured time."
    UPDATED = "updated", "An update was received."
    CANCELLED = "cancelled", "The cancellation was received."
    DIVERTED = "diverted", "Another call took the unit away."
    ENDED = "ended", "The unit became free."
    REOPENED = "reopened", "The press that ended it was taken back: it is the unit's again."
    SENT = "sent", "The crew sent it."
    REFUSED = "refused", "The vehicle could not take it; the text says why."
    ERASED = "erased", "The call's data was erased from the vehicle."


class Crossing(Token):
    """Which way the border of a place was crossed."""

    IN = "in", "The unit came in."
    OUT = "out", "The unit left."


class CrewStep(Token):
    """What changed about who is aboard."""

    ON = "on", "Signed on."
    OFF = "off", "Signed off."
    DRIVER = "driver", "Another driver took the wheel."
    FOR_CALLS = "for_calls", "The crew takes calls, whatever the status."
    NOT_FOR_CALLS = "not_for_calls", "The crew takes no calls, whatever the status."


class DrivingKind(Token):
    """What was remarkable about the driving."""

    BRAKING = "braking", "Harsh braking; the value is the deceleration in m/s2."
    ACCELERATION = "acceleration", "Harsh acceleration; the value is in m/s2."
    CORNERING = "cornering", "Harsh cornering; the value is the lateral acceleration in m/s2."
    REVERSING = "reversing", "Fast reversing; the value is the speed in m/s."
    OVERSPEED = "overspeed", "Too fast for the response mode; the value is the speed in m/s."
    BELT = "belt", "A seat was taken and not belted in motion."
    DOOR = "door", "A door was open in motion."
    SPOTTER = "spotter", "Reversed without the spotter's button; the value is the speed in m/s."


class Leg(Token):
    """A part of a run whose response mode is reported."""

    TO_SCENE = "to_scene", "From en route to on scene; NEMSIS eResponse.24."
    TRANSPORT = "transport", "From transporting to at destination; NEMSIS eDisposition.18."


class VehicleWarning(Token):
    """What fleet services are told of a vehicle beside what `[[watch]]` watches."""

    IDLING = "idling", "The engine runs and the vehicle stands; the value is seconds."
    WEAK_CRANKING = "weak_cranking", "The voltage fell too low while the engine was started; in V."
    UNATTENDED = "unattended", "It moves without ignition, crew or key; the value is metres."
    LEFT_AREA = "left_area", "It is outside of its area and on no call; the value is metres."
    SERVICE_DUE = "service_due", "A service is due by distance, hours or days; `item` names it."


class IdleNeed(Token):
    """Why an engine that idles may have to."""

    HIGH_IDLE = "high_idle", "High idle or power take-off is on."
    HEAT = "heat", "It is cold outside, or too cold in the patient compartment."
    COOLING = "cooling", "It is hot outside, or too hot in the patient compartment."


class CodeStage(Token):
    """How sure a control unit is of a trouble code."""

    CONFIRMED = "confirmed", "It has the fault now, or OBD-II keeps it as confirmed."
    PENDING = "pending", "Seen once; OBD-II confirms it when it comes again."
    PREVIOUS = "previous", "It had the fault earlier (J1939 DM2)."


class HintRule(Token):
    """What suggests a press that was probably forgotten."""

    STANDS_AT_INCIDENT = "stands_at_incident", "The unit stands where the incident is."
    LEFT_SCENE = "left_scene", "It drives off from the scene."
    STANDS_AT_HOSPITAL = "stands_at_hospital", "It stands at a hospital."
    LEFT_DESTINATION = "left_destination", "It drives off from where it brought somebody."
    DRIVES_OFF = "drives_off", "It drives although its status says that it stands."


class ResponseMode(Token):
    """How the unit drives."""

    NORMAL = "normal", "Neither lights nor siren."
    LIGHTS = "lights", "Emergency lights without siren."
    LIGHTS_AND_SIREN = "lights_and_siren", "Emergency lights and siren."


class Outcome(Token):
    """What became of a request."""

    ACCEPTED = "accepted", "Taken, and being done."
    DONE = "done", "Done."
    PARTLY = "partly", "Done in part; the text says what was not."
    REFUSED = "refused", "Not done; the reason says why."


# --- parts of bodies ------------------------------------------------------------------------------

SignalValue = bool | int | float | str
Signals = tuple[tuple[str, SignalValue | None], ...]


@dataclass(frozen=True, slots=True)
class Position(Body):
    """A reported position. In the compact form every field is a whole number, a text or null."""

    lat_deg: Annotated[float, Field("Latitude, WGS 84, north positive.", unit="degree", scale=1e7)]
    lon_deg: Annotated[float, Field("Longitude, WGS 84, east positive.", unit="degree", scale=1e7)]
    alt_m: Annotated[float | None, Field("Height above mean sea level.", unit="m", scale=10)]
    speed_mps: Annotated[float | None, Field("Speed over ground.", unit="m/s", scale=100)]
    course_deg: Annotated[
        float | None, Field("Course over ground, true, 0 <= c < 360.", unit="degree", scale=10, wrap=3600)
    ]
    mode: Annotated[FixMode, Field("Kind of fix: 1 none, 2 2D, 3 3D.")]
    satellites: Annotated[int | None, Field("Number used in the solution.")]
    hdop: Annotated[float | None, Field("Horizontal dilution of precision.", scale=100)]
    quality: Annotated[str | None, Field("What is wrong with it.", tokens=PositionQuality)] = None
    uncertainty_m: Annotated[
        float | None, Field("Radius that holds the true position in 95 of 100 cases.", unit="m", scale=10)
    ] = None
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.")] = None


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """What the vehicle itself knows at the moment of a press."""

    position: Annotated[Position | None, Field("Newest position; null when there is none.")] = None
    position_age_ms: Annotated[int | None, Field("Age of that position.", unit="ms")] = None
    odometer_m: Annotated[int | None, Field("Odometer.", unit="m")] = None
    motion: Annotated[str | None, Field("Rolling or standing.", tokens=MotionWord)] = None
    motion_for_ms: Annotated[int | None, Field("For how long that has held.", unit="ms")] = None
    speed_mps: Annotated[float | None, Field("Speed of the wheels.", unit="m/s", scale=100)] = None
    incident_distance_m: Annotated[int | None, Field("Distance to the incident.", unit="m")] = None
    place: Annotated[str | None, Field("The nearest known place.")] = None
    place_distance_m: Annotated[int | None, Field("Distance to its border; 0 inside.", unit="m")] = None
    motion_source: Annotated[str | None, Field("Whose speed said so, e.g. `wheel`, `gnss`.")] = None
    contradictions: Annotated[
        tuple[str, ...] | None, Field("Why it does not agree with the press.", tokens=Contradicts, items=4)
    ] = None
    odometer_source: Annotated[
        str | None, Field("By what the odometer was counted.", tokens=OdometerSource, since=2)
    ] = None


# --- bodies ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Emergency(Body):
    """The crew's emergency button."""

    active: Annotated[bool, Field("True when raised, false when cancelled.")]
    input: Annotated[str, Field("Which key, e.g. `emergency`.")]
    press_seq: Annotated[int | None, Field("The key device's own sequence number; null if it has none.")]
    press_session: Annotated[int | None, Field("The device's power-up that `press_seq` counts in.")] = None
    made: Annotated[str | None, Field("How it was made; null from a key.", tokens=Made)] = None
    silent: Annotated[bool | None, Field("True when nothing in the cab shows or sounds it.")] = None
    test: Annotated[bool | None, Field("True for a test.")] = None
    repeat: Annotated[bool | None, Field("True when an emergency stood already.")] = None
    by: Annotated[str | None, Field("Crew id of who raised or cancelled it; null when not known.")] = None
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.")] = None
    evidence: Annotated[EvidenceRecord | None, Field("What the vehicle knew.")] = None
    request: Annotated[str | None, Field("Id of the command that cancelled it.", since=2)] = None
    why: Annotated[str | None, Field("Why it was cancelled, in words.", most=300, since=2)] = None


@dataclass(frozen=True, slots=True)
class StatusChange(Body):
    """A unit status, as a rule set by the crew."""

    status: Annotated[str, Field("The unit status.", tokens=UnitStatus)]
    previous: Annotated[str | None, Field("The one before; null at the first of a store.", tokens=UnitStatus)]
    input: Annotated[str, Field("Which key.")]
    press_seq: Annotated[int | None, Field("The key device's own sequence number; null if it has none.")]
    press_session: Annotated[int | None, Field("The device's power-up that `press_seq` counts in.")] = None
    made: Annotated[str | None, Field("How it was made; null from a key.", tokens=Made)] = None
    reason: Annotated[str | None, Field("Reason from the agency's list, of out of service or delay.")] = None
    flags: Annotated[tuple[str, ...] | None, Field("What is remarkable.", tokens=StatusFlag, items=8)] = None
    by: Annotated[str | None, Field("Crew id of who set it; null when not known.")] = None
    incident: Annotated[str | None, Field("Incident that it belongs to.")] = None
    evidence: Annotated[EvidenceRecord | None, Field("What the vehicle knew.")] = None


@dataclass(frozen=True, slots=True)
class Alert(Body):
    """Something dispatch or fleet services must be told once."""

    code: Annotated[str, Field("Stable token.", tokens=AlertCode)]
    text: Annotated[str, Field("One plain sentence for a person.", most=500)]


@dataclass(frozen=True, slots=True)
class Telemetry(Body):
    """Vehicle signals that changed since the last telemetry record, or that were asked for."""

    signals: Annotated[
        Signals,
        Field(
            "VSS path below `Vehicle.` to value in the VSS unit; null is not available.", most=128, items=0
        ),
    ]


@dataclass(frozen=True, slots=True)
class Health(Body):
    """The device's own health."""

    reasons: Annotated[tuple[str, ...], Field("All named reasons that hold now, sorted.", most=24, items=24)]
    raised: Annotated[tuple[str, ...], Field("New since the last health record.", most=24, items=24)]
    cleared: Annotated[tuple[str, ...], Field("Gone since the last health record.", most=24, items=24)]


@dataclass(frozen=True, slots=True)
class Gap(Body):
    """Tells a reader what it does not have; stands at the first sequence number that went."""

    last_seq: Annotated[int, Field("Last sequence number covered; the record's own is the first.")]
    reason: Annotated[str, Field("Why.", tokens=GapReason)]
    counts: Annotated[tuple[tuple[str, int], ...], Field("Kind to number of records that went.")]


@dataclass(frozen=True, slots=True)
class ClockCorrection(Body):
    """The UTC of one boot's records, known better than when they were made."""

    of_boot: Annotated[
        int, Field("The boot whose records it corrects; that of the records, not of this one.")
    ]
    from_boottime_ms: Annotated[int, Field("First boot time that it holds for.", unit="ms")]
    to_boottime_ms: Annotated[int, Field("Last boot time that it holds for.", unit="ms")]
    offset_ms: Annotated[int, Field("UTC in Unix milliseconds less boot time.", unit="ms")]
    source: Annotated[int, Field("Number of the UTC source.")]
    uncertainty_ms: Annotated[int | None, Field("As in a UTC.", unit="ms")] = None


@dataclass(frozen=True, slots=True)
class Withdrawal(Body):
    """Takes back a record of the events stream; never a deletion."""

    of_seq: Annotated[int, Field("Sequence number of what is withdrawn.")]
    of_kind: Annotated[str, Field("Its kind.")]
    made: Annotated[str | None, Field("How; null from a key.", tokens=Made)] = None
    by: Annotated[str | None, Field("Crew id of who did it; null when not known.")] = None
    status: Annotated[str | None, Field("The unit status that holds again.", tokens=UnitStatus)] = None
    input: Annotated[str | None, Field("Which key.")] = None
    press_seq: Annotated[int | None, Field("The key device's own sequence number.")] = None
    press_session: Annotated[int | None, Field("The device's power-up that `press_seq` counts in.")] = None


@dataclass(frozen=True, slots=True)
class Amendment(Body):
    """Corrects one field of a record of the events stream; the original stays beside it."""

    of_seq: Annotated[int, Field("Sequence number of what is amended.")]
    of_kind: Annotated[str, Field("Its kind.")]
    field: Annotated[str, Field("Name of the field, or `utc` for the time.")]
    original: Annotated[str | None, Field("Value before, as text.", most=200)]
    value: Annotated[str | None, Field("Value from now on, as text.", most=200)]
    made: Annotated[str | None, Field("How.", tokens=Made)] = None
    by: Annotated[str | None, Field("Who; null when not known.")] = None
    why: Annotated[str | None, Field("Why, in words.", most=300)] = None
    request: Annotated[str | None, Field("Id of the command that asked for it.")] = None


@dataclass(frozen=True, slots=True)
class Verdict(Body):
    """What dispatch answered to a status, emergency or amendment."""

    of_seq: Annotated[int, Field("Sequence number in the events stream of what is answered.")]
    accepted: Annotated[bool, Field("Whether dispatch took it.")]
    reason: Annotated[str | None, Field("Token of why not.")] = None
    text: Annotated[str | None, Field("A sentence for the crew.", most=300)] = None
    request: Annotated[str | None, Field("Id of the answer.")] = None


@dataclass(frozen=True, slots=True)
class CallRecord(Body):
    """A step of a call in the vehicle. Call data itself is not in the journal."""

    step: Annotated[str, Field("What happened.", tokens=CallStep)]
    incident: Annotated[str, Field("Incident number.")]
    request: Annotated[str | None, Field("Id of the command that it came by.")] = None
    revision: Annotated[int | None, Field("Revision of the call, as dispatch counts.")] = None
    made: Annotated[str | None, Field("How an acknowledgement was made.", tokens=Made)] = None
    by: Annotated[str | None, Field("Crew id; null when not known.")] = None
    text: Annotated[str | None, Field("Why it could not be taken.", most=300)] = None
    diverted_from: Annotated[str | None, Field("Incident that the unit left for this one.")] = None
    response_mode: Annotated[str | None, Field("How it is to be driven, in dispatch's word.")] = None


@dataclass(frozen=True, slots=True)
class MessageRecord(Body):
    """A step of a message or coded order in the vehicle, or one that the crew sent."""

    step: Annotated[str, Field("What happened.", tokens=CallStep)]
    message: Annotated[str, Field("Id of the message.")]
    code: Annotated[str | None, Field("Code of a coded order or of a fixed answer.")] = None
    text: Annotated[str | None, Field("Words of the crew; dispatch's own are not repeated.", most=500)] = None
    incident: Annotated[str | None, Field("Incident that it belongs to.")] = None
    made: Annotated[str | None, Field("How.", tokens=Made)] = None
    by: Annotated[str | None, Field("Crew id; null when not known.")] = None


@dataclass(frozen=True, slots=True)
class HintRecord(Body):
    """A status that motion and place suggest and nobody pressed. It never changes the status."""

    status: Annotated[str, Field("What seems to hold.", tokens=UnitStatus)]
    rule: Annotated[str, Field("What was seen.", tokens=HintRule)]
    confidence: Annotated[float | None, Field("0 to 1.", scale=100)] = None
    place: Annotated[str | None, Field("Place that it goes by.")] = None
    dwell_s: Annotated[int | None, Field("Dwell time of the rule.", unit="s")] = None
    radius_m: Annotated[int | None, Field("Radius of the rule.", unit="m")] = None
    since_boottime_ms: Annotated[int | None, Field("When it began: the press's own time.", unit="ms")] = None
    current: Annotated[str | None, Field("The status that was pressed last.", tokens=UnitStatus)] = None
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.")] = None
    evidence: Annotated[EvidenceRecord | None, Field("What the vehicle knew.")] = None


@dataclass(frozen=True, slots=True)
class PlaceRecord(Body):
    """The unit crossed the border of a known place."""

    crossing: Annotated[str, Field("In or out.", tokens=Crossing)]
    place: Annotated[str, Field("Id of the place.")]
    category: Annotated[str | None, Field("What it is: station, post, hospital, border.")] = None
    dwell_s: Annotated[int | None, Field("Time spent inside, when it left.", unit="s")] = None
    position: Annotated[Position | None, Field("Where.")] = None
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.")] = None


@dataclass(frozen=True, slots=True)
class CrewRecord(Body):
    """Who is aboard changed."""

    step: Annotated[str, Field("What changed.", tokens=CrewStep)]
    crew: Annotated[tuple[str, ...], Field("Crew ids aboard from now on, pseudonyms.", items=12)]
    member: Annotated[str | None, Field("Crew id of who it was; null when not known.")] = None
    driver: Annotated[str | None, Field("Crew id of the driver; null when not known.")] = None
    call_sign: Annotated[str | None, Field("Call sign that the vehicle runs under.")] = None
    shift: Annotated[str | None, Field("Id of the shift.")] = None
    made: Annotated[str | None, Field("How.", tokens=Made)] = None
    reason: Annotated[str | None, Field("Why the crew takes no calls.", since=2)] = None


@dataclass(frozen=True, slots=True)
class Breakdown(Body):
    """The vehicle failed while the unit was on a call, as its crew says; with what the vehicle told last."""

    reason: Annotated[str, Field("Reason from the agency's list, e.g. `breakdown`.")]
    incident: Annotated[str, Field("Incident that the unit was assigned to.")]
    status: Annotated[str | None, Field("The status that says so.", tokens=UnitStatus)] = None
    signals: Annotated[
        Signals | None,
        Field("The most telling fresh signals; all stand in a telemetry record of the same moment.", items=8),
    ] = None
    position: Annotated[Position | None, Field("Where; null when not known.")] = None
    odometer_m: Annotated[int | None, Field("Odometer.", unit="m")] = None
    odometer_source: Annotated[
        str | None, Field("By what the odometer was counted.", tokens=OdometerSource, since=2)
    ] = None
    made: Annotated[str | None, Field("How.", tokens=Made)] = None
    by: Annotated[str | None, Field("Crew id; null when not known.")] = None


@dataclass(frozen=True, slots=True)
class MotionRecord(Body):
    """The wheels began to turn or came to rest."""

    motion: Annotated[str, Field("What holds since the record's own time.", tokens=MotionWord)]
    source: Annotated[str | None, Field("Whose speed said so, e.g. `wheel`, `gnss`.")] = None
    odometer_m: Annotated[int | None, Field("Odometer.", unit="m")] = None
    position: Annotated[Position | None, Field("Where.")] = None
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.")] = None
    odometer_source: Annotated[
        str | None, Field("By what the odometer was counted.", tokens=OdometerSource, since=2)
    ] = None


@dataclass(frozen=True, slots=True)
class TripRecord(Body):
    """From ignition on to ignition off."""

    from_boottime_ms: Annotated[int | None, Field("When it began; null in another boot.", unit="ms")]
    duration_s: Annotated[int, Field("How long it took.", unit="s")]
    distance_m: Annotated[int | None, Field("Distance.", unit="m")]
    odometer_m: Annotated[int | None, Field("Odometer at its end.", unit="m")] = None
    idle_s: Annotated[int | None, Field("Time with the engine running and the wheels at rest.", unit="s")] = (
        None
    )
    fuel_l: Annotated[float | None, Field("Fuel used.", unit="l", scale=100)] = None
    top_speed_mps: Annotated[float | None, Field("Highest speed.", unit="m/s", scale=100)] = None
    lights_s: Annotated[int | None, Field("Time with emergency lights.", unit="s")] = None
    siren_s: Annotated[int | None, Field("Time with siren.", unit="s")] = None
    events: Annotated[tuple[tuple[str, int], ...] | None, Field("Driving events by kind.", items=16)] = None
    driver: Annotated[str | None, Field("Crew id of the driver; null when not known.")] = None
    incidents: Annotated[tuple[str, ...] | None, Field("Incidents served.", items=8)] = None
    begin: Annotated[Position | None, Field("Where it began.")] = None
    end: Annotated[Position | None, Field("Where it ended.")] = None
    odometer_source: Annotated[
        str | None, Field("By what the odometer was counted.", tokens=OdometerSource, since=2)
    ] = None
    drivers: Annotated[
        tuple[str, ...] | None, Field("Crew ids of all who drove, in their order.", items=4, since=2)
    ] = None
    statuses: Annotated[
        tuple[tuple[str, int], ...] | None, Field("Seconds in each unit status.", items=13, since=2)
    ] = None
    grade: Annotated[
        float | None,
        Field(
            "Driving, 10 for no events and less with events a distance (docs/driving.md).", scale=10, since=2
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Driving(Body):
    """A remarkable piece of driving."""

    event: Annotated[str, Field("What.", tokens=DrivingKind)]
    grade: Annotated[int | None, Field("1 or 2, the graver.")] = None
    value: Annotated[float | None, Field("Extreme value; the unit is that of `event`.", scale=100)] = None
    limit: Annotated[float | None, Field("Limit that was passed, in the same unit.", scale=100)] = None
    duration_ms: Annotated[int | None, Field("How long.", unit="ms")] = None
    response: Annotated[str | None, Field("How the unit drove.", tokens=ResponseMode)] = None
    seat: Annotated[str | None, Field("Which seat or door, VSS path below `Vehicle.`.", most=100)] = None
    driver: Annotated[str | None, Field("Crew id of the driver; null when not known.")] = None
    position: Annotated[Position | None, Field("Where.")] = None
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.")] = None


@dataclass(frozen=True, slots=True)
class ResponseLeg(Body):
    """How a leg of a run was driven: with which lights and siren, for how long and how far."""

    leg: Annotated[str, Field("Which leg.", tokens=Leg)]
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.")] = None
    from_boottime_ms: Annotated[int | None, Field("When it began.", unit="ms")] = None
    duration_s: Annotated[int | None, Field("How long it took.", unit="s")] = None
    distance_m: Annotated[int | None, Field("How far.", unit="m")] = None
    normal_s: Annotated[int | None, Field("Time with neither lights nor siren.", unit="s")] = None
    lights_s: Annotated[int | None, Field("Time with lights and without siren.", unit="s")] = None
    siren_s: Annotated[int | None, Field("Time with lights and siren.", unit="s")] = None
    normal_m: Annotated[int | None, Field("Distance with neither.", unit="m")] = None
    lights_m: Annotated[int | None, Field("Distance with lights alone.", unit="m")] = None
    siren_m: Annotated[int | None, Field("Distance with lights and siren.", unit="m")] = None
    begun: Annotated[str | None, Field("Response mode at its beginning.", tokens=ResponseMode)] = None
    ended: Annotated[str | None, Field("Response mode at its end.", tokens=ResponseMode)] = None
    nemsis: Annotated[str | None, Field("Code for the NEMSIS element; null when nothing is known.")] = None
    driver: Annotated[str | None, Field("Crew id of the driver; null when not known.")] = None


@dataclass(frozen=True, slots=True)
class Warned(Body):
    """Something about the vehicle that fleet services should know began or ended."""

    warning: Annotated[str, Field("What.", tokens=VehicleWarning)]
    open: Annotated[bool | None, Field("True when it began, false when it ended; null for a moment.")] = None
    value: Annotated[float | None, Field("Extreme value; the unit is that of `warning`.", scale=100)] = None
    limit: Annotated[float | None, Field("Limit that was passed, in the same unit.", scale=100)] = None
    duration_s: Annotated[int | None, Field("How long so far.", unit="s")] = None
    place: Annotated[str | None, Field("Known place where it is.")] = None
    category: Annotated[str | None, Field("What that is; `scene` on scene, null elsewhere.")] = None
    need: Annotated[str | None, Field("Why the engine may have to idle.", tokens=IdleNeed)] = None
    item: Annotated[str | None, Field("Which service.")] = None
    odometer_m: Annotated[int | None, Field("Odometer.", unit="m")] = None
    position: Annotated[Position | None, Field("Where.")] = None
    status: Annotated[str | None, Field("Unit status at that time.", tokens=UnitStatus)] = None
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.")] = None
    driver: Annotated[str | None, Field("Crew id of the driver; null when not known.")] = None


@dataclass(frozen=True, slots=True)
class TroubleCode(Body):
    """A diagnostic trouble code came or went."""

    active: Annotated[bool, Field("True when it came, false when it went.")]
    code: Annotated[str | None, Field("OBD-II code, e.g. `P0300`; null for J1939.", most=32)] = None
    spn: Annotated[int | None, Field("J1939 suspect parameter number.")] = None
    fmi: Annotated[int | None, Field("J1939 failure mode.")] = None
    occurrences: Annotated[int | None, Field("J1939 occurrence count.")] = None
    lamps: Annotated[tuple[str, ...] | None, Field("Warning lamps that are lit.", most=24, items=8)] = None
    controller: Annotated[int | None, Field("Source address of the control unit.")] = None
    odometer_m: Annotated[int | None, Field("Odometer.", unit="m")] = None
    position: Annotated[Position | None, Field("Where.")] = None
    status: Annotated[str | None, Field("Unit status at that time.", tokens=UnitStatus)] = None
    stage: Annotated[
        str | None, Field("How sure it is; null from an older agent.", tokens=CodeStage, since=2)
    ] = None
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.", since=2)] = None


@dataclass(frozen=True, slots=True)
class Excursion(Body):
    """A watched value left its limits, or came back."""

    signal: Annotated[str, Field("Signal, VSS path below `Vehicle.`.", most=100)]
    place: Annotated[str | None, Field("What is watched, e.g. `drug_fridge`.")]
    open: Annotated[bool, Field("True while it lasts, false in the record of its end.")]
    extreme: Annotated[float | None, Field("Farthest value, in the signal's unit.")] = None
    low: Annotated[float | None, Field("Lower limit.")] = None
    high: Annotated[float | None, Field("Upper limit.")] = None
    duration_s: Annotated[int | None, Field("How long so far.", unit="s")] = None


@dataclass(frozen=True, slots=True)
class CommandResult(Body):
    """A command was taken, done or refused; who asked for what."""

    command: Annotated[str, Field("Name of the command.")]
    outcome: Annotated[str, Field("What became of it.", tokens=Outcome)]
    request: Annotated[str | None, Field("Id of the command.")] = None
    by: Annotated[str | None, Field("Who asked.")] = None
    reason: Annotated[str | None, Field("Token of why not.")] = None
    text: Annotated[str | None, Field("A sentence for a person.", most=300)] = None


@dataclass(frozen=True, slots=True)
class SourceSwitch(Body):
    """Another device gives a value from now on."""

    subject: Annotated[str, Field("What: `position`, `time`, `speed`, `odometer`.")]
    source: Annotated[str | None, Field("Device in use from now on; null for none.")]
    previous: Annotated[str | None, Field("Device before; null for none.")] = None
    reason: Annotated[str | None, Field("Token of why.")] = None


@dataclass(frozen=True, slots=True)
class RecordingKept(Body):
    """A recording was kept that can be fetched."""

    recording: Annotated[str, Field("Its id.")]
    trigger: Annotated[str, Field("What for: `impact`, `crew`, `dispatch`.")]
    from_boottime_ms: Annotated[int | None, Field("Where it begins.", unit="ms")] = None
    to_boottime_ms: Annotated[int | None, Field("Where it ends.", unit="ms")] = None
    size_bytes: Annotated[int | None, Field("Its size.", unit="byte")] = None
    sha256: Annotated[str | None, Field("Digest of the file, hexadecimal.")] = None
    complete: Annotated[bool | None, Field("False when it was cut off, e.g. by a loss of power.")] = None
    incident: Annotated[str | None, Field("Incident that the unit is assigned to.")] = None
    position: Annotated[Position | None, Field("Where.")] = None


@dataclass(frozen=True, slots=True)
class Readiness(Body):
    """How the unit stood when a shift began: the first of a crew signed on."""

    ready: Annotated[bool, Field("Whether nothing was found that should not be so.")]
    bad: Annotated[
        tuple[str, ...], Field("What was not as it should be: subjects, health reasons.", most=24, items=24)
    ]
    unknown: Annotated[tuple[str, ...] | None, Field("What could not be told.", most=24, items=12)] = None


@dataclass(frozen=True, slots=True)
class Opaque(Body):
    """A body that this program can not read: of a kind it does not know, or not as its kind should be.

    It is never made by a rule; readers get it, and a store may hold it from another version of the agent.

    Attributes:
        number: number of the kind; 0 when only its token is known.
        token: the kind's token, when it came in JSON.
        raw: the body as it came: msgpack, or JSON when it begins with "{".
        fault: what is wrong with it; empty for a kind that is not known.
    """

    number: int
    token: str | None
    raw: bytes
    fault: str = ""


# --- kinds ----------------------------------------------------------------------------------------

_EVENTS = (Stream.EVENTS,)
_TRAIL = (Stream.TRAIL,)
_BOTH = (Stream.EVENTS, Stream.TRAIL)
_AT_ONCE, _GROUPED = True, False
_NEVER = None


class Kind(IntEnum):
    """The table of record kinds: number, streams, durability, order in which it is given up, body.

    Numbers are stored and sent: never renumber, never use one again. The token is the name in small letters.
    Kinds of the events are kept for ever, so what machines make goes to the trail.

    Attributes:
        streams: where its records stand; a gap may stand in either.
        durable_at_once: committed by itself before `put` returns; others are committed in groups.
        given_up: place in the order in which undelivered records go when the store outgrows its budget, the
            lowest first; None for never.
        body: type of the body.
    """

    streams: tuple[Stream, ...]
    durable_at_once: bool
    given_up: int | None
    body: type[Body]

    def __new__(
        cls,
        number: int,
        streams: tuple[Stream, ...] = (),
        durable_at_once: bool | None = None,
        given_up: int | None = None,
        body: type[Body] | None = None,
    ) -> Self:
        """Make a row. Raises TypeError for one that is incomplete or contradicts itself."""
        if not streams or durable_at_once is None or body is None:
            raise TypeError(
                f"kind {number}: a row is number, streams, durable at once, order of giving up, body"
            )
        if streams == _TRAIL and given_up is None:
            raise TypeError(f"kind {number} lies in the trail: say in which order it is given up")
        if streams != _TRAIL and given_up is not None:
            raise TypeError(f"kind {number} lies in the events, of which nothing is given up")
        one = int.__new__(cls, number)
        one._value_ = number
        one.streams, one.durable_at_once, one.given_up, one.body = streams, durable_at_once, given_up, body
        return one

    EMERGENCY = 1, _EVENTS, _AT_ONCE, _NEVER, Emergency
    STATUS = 2, _EVENTS, _AT_ONCE, _NEVER, StatusChange
    ALERT = 3, _EVENTS, _AT_ONCE, _NEVER, Alert
    POSITION = 4, _TRAIL, _GROUPED, 1, Position
    TELEMETRY = 5, _TRAIL, _GROUPED, 2, Telemetry
    HEALTH = 6, _TRAIL, _GROUPED, 3, Health
    GAP = 7, _BOTH, _GROUPED, _NEVER, Gap
    CLOCK = 8, _EVENTS, _AT_ONCE, _NEVER, ClockCorrection
    WITHDRAWAL = 9, _EVENTS, _AT_ONCE, _NEVER, Withdrawal
    AMENDMENT = 10, _EVENTS, _AT_ONCE, _NEVER, Amendment
    ANSWER = 11, _EVENTS, _AT_ONCE, _NEVER, Verdict
    CALL = 12, _EVENTS, _AT_ONCE, _NEVER, CallRecord
    MESSAGE = 13, _EVENTS, _AT_ONCE, _NEVER, MessageRecord
    CREW = 14, _EVENTS, _AT_ONCE, _NEVER, CrewRecord
    RECORDING = 15, _EVENTS, _AT_ONCE, _NEVER, RecordingKept
    HINT = 16, _TRAIL, _GROUPED, 6, HintRecord
    PLACE = 17, _TRAIL, _GROUPED, 5, PlaceRecord
    MOTION = 18, _TRAIL, _GROUPED, 7, MotionRecord
    DRIVING = 19, _TRAIL, _GROUPED, 5, Driving
    TROUBLE_CODE = 20, _TRAIL, _GROUPED, 6, TroubleCode
    EXCURSION = 21, _TRAIL, _GROUPED, 7, Excursion
    COMMAND = 22, _TRAIL, _GROUPED, 7, CommandResult
    SOURCE = 23, _TRAIL, _GROUPED, 4, SourceSwitch
    TRIP = 24, _TRAIL, _GROUPED, 7, TripRecord
    BREAKDOWN = 25, _EVENTS, _AT_ONCE, _NEVER, Breakdown
    READINESS = 29, _TRAIL, _GROUPED, 7, Readiness
    RESPONSE_LEG = 32, _TRAIL, _GROUPED, 7, ResponseLeg
    WARNING = 33, _TRAIL, _GROUPED, 7, Warned

    @property
    def stream(self) -> Stream:
        """The stream a new record of this kind is appended to.

        Raises:
            ValueError: for a gap, which stands in the stream of what it replaces.
        """
        if len(self.streams) != 1:
            raise ValueError(f"records of kind {self.token} stand in either stream")
        return self.streams[0]

    @property
    def token(self) -> str:
        """The word on the wire in JSON form."""
        return self.name.lower()


KIND_OF_BODY: dict[type[Body], Kind] = {kind.body: kind for kind in Kind}
KIND_OF_TOKEN: dict[str, Kind] = {kind.token: kind for kind in Kind}
_TOKENS: dict[int, str] = {kind.value: kind.token for kind in Kind}


def token_of(number: int) -> str:
    """The word for a kind, also for one that is not known: a store may hold rows of another version."""
    return _TOKENS.get(number) or f"kind_{number}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before the outbox gave it a sequence number."""

    stamp: Stamp
    body: Body

    @property
    def kind(self) -> Kind:
        """The kind, from the body's type."""
        return KIND_OF_BODY[type(self.body)]
