"""What dispatch may say to a unit: one row a command, with what it carries and who may give it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

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
    every_s: float = Field(ge=0.1, le=3600)
    for_s: float = Field(gt=0, le=86_400)


@dataclass(frozen=True, slots=True)
class Command:
    """One row.

    Attributes:
        fields: what it carries.
        permission: who may give it; see `access.PERMISSIONS`.
        sentence: what it does.
    """

    fields: type[Fields]
    permission: str
    sentence: str


COMMANDS: dict[str, Command] = {
    "assign": Command(Assign, "command", "Give a unit a call."),
    "update": Command(Update, "command", "Tell a unit what changed of its call."),
    "cancel": Command(Cancel, "command", "Take a call from a unit."),
    "message": Command(ShowMessage, "command", "Show a text to the crew."),
    "answer": Command(Answer, "answer", "Accept or refuse a status."),
    "amend": Command(Amend, "command", "Correct a status afterwards."),
    "crew": Command(SignOn, "command", "Say who is aboard."),
    "replay": Command(Replay, "vehicle_command", "Have records sent again."),
    "signals": Command(Signals, "vehicle_command", "Ask for vehicle signals at a rate."),
}


def told(fields: Fields) -> dict[str, Any]:
    """A command's fields without those that say nothing."""
    given = fields.model_dump(exclude_none=True)
    return {name: value for name, value in given.items() if value not in ("", [])}


def encode(command_id: str, fields: dict[str, Any]) -> bytes:
    """The payload: JSON, so that whoever reads the topics can read it."""
    return json.dumps({"id": command_id, **fields}, separators=(",", ":")).encode()
