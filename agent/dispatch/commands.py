"""What dispatch may say to a unit: one row a command, with what it carries and who may give it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from agent.wire.time_text import utc_text

Line = Annotated[str, StringConstraints(max_length=200, strip_whitespace=True)]
Text = Annotated[str, StringConstraints(max_length=1000, strip_whitespace=True)]
Incident = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Fields(BaseModel):
    """What a command carries; what is not known is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Assign(Fields):
    """A call for the unit."""

    incident: Incident
    priority: Line | None = None
    response_mode: Line | None = Field(None, description="lights_and_siren, or none")
    nature: Line | None = None
    address: Line | None = None
    lat_deg: float | None = Field(None, ge=-90, le=90)
    lon_deg: float | None = Field(None, ge=-180, le=180)
    notes: Text | None = None
    destination: Line | None = None
    others: list[Line] = Field(default_factory=list, max_length=20, description="Other units on the call.")


class Update(Assign):
    """What changed of a call: only what is given."""


class Cancel(Fields):
    """The call is no longer the unit's."""

    incident: Incident
    reason: Line | None = None


class ShowMessage(Fields):
    """A text, or a short order by its code."""

    text: Text = ""
    code: Line | None = None


class Answer(Fields):
    """Whether a status counts."""

    journal: int = Field(ge=0, lt=1 << 32)
    stream: Annotated[str, StringConstraints(pattern="^(events|trail)$")] = "events"
    seq: int = Field(ge=1, lt=1 << 62)
    verdict: Annotated[str, StringConstraints(pattern="^(accepted|refused)$")]
    token: Line | None = Field(None, description="Why, as a word: out_of_sequence, no_incident, ...")
    sentence: Line | None = Field(None, description="Why, for the crew.")


class Amend(Fields):
    """A status gets another time or token, afterwards; the original stays."""

    journal: int = Field(ge=0, lt=1 << 32)
    seq: int = Field(ge=1, lt=1 << 62)
    status: Line | None = None
    utc: Line | None = Field(None, description="ISO 8601 with an offset.")
    reason: Line


class CancelEmergency(Fields):
    """The emergency with this newest record is over, as somebody here knows from the crew."""

    journal: int = Field(ge=0, lt=1 << 32)
    seq: int = Field(ge=1, lt=1 << 62)
    reason: Line | None = None


class SignOn(Fields):
    """Who is aboard; an empty crew signs off."""

    crew: list[Annotated[str, StringConstraints(min_length=1, max_length=16)]] = Field(max_length=6)
    driver: Annotated[str, StringConstraints(max_length=16)] | None = None
    call_sign: Annotated[str, StringConstraints(max_length=16)] | None = None


class Replay(Fields):
    """Records to be sent again."""

    journal: int | None = Field(None, ge=0, lt=1 << 32)
    stream: Annotated[str, StringConstraints(pattern="^(events|trail)$")]
    first: int = Field(ge=1, lt=1 << 62)
    last: int = Field(ge=1, lt=1 << 62)


class Signals(Fields):
    """Vehicle signals at a rate, for a while."""

    names: list[Line] = Field(min_length=1, max_length=50)
    every_s: float = Field(ge=1, le=3600)
    for_s: float = Field(gt=0, le=3600)


class SetRate(Fields):
    """Positions no older than this, for a while."""

    every_s: float = Field(ge=1, le=600)
    for_s: float = Field(gt=0, le=21_600)


class Ask(Fields):
    """Nothing but the question."""


class Service(Fields):
    """What was done to the vehicle."""

    item: Line = Field(min_length=1)
    note: Line | None = None
    odometer_m: int | None = Field(None, ge=0, lt=1 << 40)


class Config(Fields):
    """What changes in the vehicle's configuration; null goes back to the vehicle's own file."""

    patch: dict[str, Any] = Field(min_length=1)
    confirm_within_s: float | None = Field(None, gt=0, le=3600)


class Acknowledge(Fields):
    """An emergency or alarm that dispatch has seen; the newest without a number."""

    journal: int | None = Field(None, ge=0, lt=1 << 32)
    seq: int | None = Field(None, ge=1, lt=1 << 62)


class Restart(Fields):
    """Start the agent anew."""

    reason: Line | None = None


class Fetch(Fields):
    """A recording or a bundle, in pieces."""

    what: Literal["recording", "bundle"]
    name: Line | None = None
    offset: int = Field(0, ge=0, lt=1 << 40)


@dataclass(frozen=True, slots=True)
class Command:
    """One row.

    Attributes:
        fields: what it carries.
        permission: who may give it; see `access.PERMISSIONS`.
        sentence: what it does.
        valid_s: how long after it was given it may still be done; until then it is said again to a unit that
            connects and has not answered.
        lasting: `accepted` is not the end: another answer says what became of it.
    """

    fields: type[Fields]
    permission: str
    sentence: str
    valid_s: float = 900.0
    lasting: bool = False


WEEK_S = 7 * 86_400.0
COMMANDS: dict[str, Command] = {
    "assign": Command(Assign, "command", "Give a unit a call."),
    "update": Command(Update, "command", "Tell a unit what changed of its call."),
    "cancel": Command(Cancel, "command", "Take a call from a unit."),
    "message": Command(ShowMessage, "command", "Show a text to the crew."),
    "answer": Command(Answer, "answer", "Accept or refuse a status."),
    "amend": Command(Amend, "command", "Correct a status afterwards."),
    "cancel-emergency": Command(CancelEmergency, "command", "End an emergency that is over."),
    "crew": Command(SignOn, "command", "Say who is aboard."),
    "acknowledge": Command(Acknowledge, "alarm", "Tell the crew that dispatch has seen it."),
    "report-now": Command(Ask, "vehicle_command", "Have position and states sent at once.", 120.0),
    "ping": Command(Ask, "vehicle_command", "Ask whether the unit is there.", 120.0),
    "set-rate": Command(SetRate, "vehicle_command", "Have positions sent at another rate for a while."),
    "replay": Command(Replay, "vehicle_command", "Have records sent again.", 3600.0),
    "signals": Command(Signals, "vehicle_command", "Ask for vehicle signals at a rate."),
    "diagnostics": Command(Ask, "vehicle_command", "Ask for the device's own report.", lasting=True),
    "keep": Command(Ask, "vehicle_command", "Have the moments around now kept as a recording."),
    "service": Command(Service, "vehicle_command", "Say that a service was done.", WEEK_S),
    "fetch": Command(Fetch, "vehicle_command", "Have a recording or bundle sent.", 86_400.0, lasting=True),
    "config": Command(Config, "fleet_command", "Change the vehicle's configuration.", WEEK_S, lasting=True),
    "restart": Command(Restart, "fleet_command", "Start the vehicle's agent anew.", lasting=True),
}


def told(fields: Fields) -> dict[str, Any]:
    """A command's fields without those that say nothing."""
    given = fields.model_dump(exclude_none=not isinstance(fields, Config))
    return {name: value for name, value in given.items() if value not in ("", [], None)}


def encode(
    command_id: str, fields: dict[str, Any], *, by: str | None = None, until_ms: int | None = None
) -> bytes:
    """The payload: JSON, so that whoever reads the topics can read it.

    Args:
        command_id: by which the unit knows one that it did already.
        fields: what it carries.
        by: who gave it.
        until_ms: when it is too late to do it, in Unix milliseconds.
    """
    frame: dict[str, Any] = {"id": command_id}
    if by is not None:
        frame["by"] = by[:64]
    if until_ms is not None:
        frame["until"] = utc_text(until_ms)
    return json.dumps(frame | fields, separators=(",", ":")).encode()
