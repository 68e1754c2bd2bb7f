"""What dispatch tells a unit: the payloads of `command/{name}`, read by the unit.

A JSON object of at most `MOST_BYTES`, with an `id` by which a command that comes twice is done once. Unknown
keys are ignored: a newer dispatch may say more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agent.domain.call import Call, call_fields, call_from
from agent.domain.messages import MOST_TEXT, ORDERS
from agent.wire.batch import CodecError
from agent.wire.time_text import utc_text
from agent.wire.unpacking import parse

MOST_BYTES: Final = 8_192
MOST_ID: Final = 64
MOST_SEQ: Final = 1 << 62
_MOST_JOURNAL: Final = 1 << 32
_MOST_REASON: Final = 64
_MOST_SENTENCE: Final = 300
_CREW_LIMIT: Final = 6


@dataclass(frozen=True, slots=True)
class Assign:
    """`command/assign`: a call for the unit."""

    id: str
    call: Call


@dataclass(frozen=True, slots=True)
class Update:
    """`command/update`: fields of a call that changed; those that are absent stay."""

    id: str
    incident: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cancel:
    """`command/cancel`: the call is no longer the unit's."""

    id: str
    incident: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Text:
    """`command/message`: a text, or a coded short order."""

    id: str
    text: str
    code: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """`command/answer`: whether dispatch took a record of the events.

    Attributes:
        id: of the command; may be empty, an answer is idempotent by what it answers.
        journal: identity of the store whose sequence number is meant.
        seq: in the events.
        accepted: whether it counts.
        reason: token of why not; None when it was taken, or nobody said.
        text: a sentence for the crew.
    """

    id: str
    journal: int
    seq: int
    accepted: bool
    reason: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Amend:
    """`command/amend`: a status gets another time or token; the original stays beside it.

    Attributes:
        id: of the command.
        journal: identity of the store whose sequence number is meant.
        seq: in the events.
        status: the new token; None when it stays.
        unix_ms: the new UTC in Unix milliseconds; None when it stays.
        why: in words.
        by: who at dispatch; None when that was not told.
    """

    id: str
    journal: int
    seq: int
    status: str | None
    unix_ms: int | None
    why: str
    by: str | None = None


@dataclass(frozen=True, slots=True)
class CancelEmergency:
    """`command/cancel-emergency`: dispatch knows from the crew that the emergency is over.

    Attributes:
        id: of the command.
        journal: identity of the store whose sequence number is meant.
        seq: of the newest record of the emergency: one that was raised again since is not meant.
        by: who at dispatch.
        why: in words.
    """

    id: str
    journal: int
    seq: int
    by: str
    why: str | None


@dataclass(frozen=True, slots=True)
class SignOn:
    """`command/sign-on`: who is aboard; an empty crew signs off.

    Attributes:
        id: of the command.
        crew: crew ids.
        driver: one of them; None when not known.
        call_sign: that the vehicle runs under; None for its own.
    """

    id: str
    crew: tuple[str, ...]
    driver: str | None
    call_sign: str | None


def decode_assign(payload: bytes) -> Assign:
    """Raises CodecError."""
    given = json_object(payload)
    return Assign(_id(given), _checked(lambda: call_from(_renamed(given))))


def decode_update(payload: bytes) -> Update:
    """Raises CodecError."""
    given = json_object(payload)
    fields = _checked(lambda: call_fields(_renamed(given)))
    fields.pop("incident", None)
    return Update(_id(given), some_text(given, "incident", 40), fields)


def decode_cancel(payload: bytes) -> Cancel:
    """Raises CodecError."""
    given = json_object(payload)
    return Cancel(_id(given), some_text(given, "incident", 40), maybe_text(given, "reason", _MOST_SENTENCE))


def decode_message(payload: bytes) -> Text:
    """Raises CodecError."""
    given = json_object(payload)
    code, text = maybe_text(given, "code", 32), maybe_text(given, "text", 4 * MOST_TEXT) or ""
    if code is not None and code not in ORDERS:
        raise CodecError(f"code {code!r:.40} is none of {', '.join(sorted(ORDERS))}")
    if code is None and not text.strip():
        raise CodecError("a message has a text or a code")
    return Text(_id(given), text, code)


def decode_answer(payload: bytes) -> Answer:
    """Raises CodecError."""
    given = json_object(payload)
    if given.get("stream", "events") != "events":
        raise CodecError("only records of the events are answered")
    verdict = given.get("verdict")
    if verdict not in ("accepted", "refused"):
        raise CodecError("verdict must be accepted or refused")
    return Answer(
        maybe_text(given, "id", MOST_ID) or "",
        whole_number(given, "journal", _MOST_JOURNAL),
        whole_number(given, "seq", MOST_SEQ),
        verdict == "accepted",
        maybe_text(given, "token", _MOST_REASON),
        maybe_text(given, "sentence", _MOST_SENTENCE),
    )


def decode_amend(payload: bytes) -> Amend:
    """Raises CodecError."""
    given = json_object(payload)
    status, utc = maybe_text(given, "status", 32), maybe_text(given, "utc", 40)
    if status is None and utc is None:
        raise CodecError("an amendment changes the status, the time, or both")
    return Amend(
        _id(given),
        whole_number(given, "journal", _MOST_JOURNAL),
        whole_number(given, "seq", MOST_SEQ),
        status,
        None if utc is None else unix_ms_of(utc),
        some_text(given, "reason", _MOST_SENTENCE),
        maybe_text(given, "by", MOST_ID),
    )


def decode_cancel_emergency(payload: bytes) -> CancelEmergency:
    """Raises CodecError."""
    given = json_object(payload)
    return CancelEmergency(
        _id(given),
        whole_number(given, "journal", _MOST_JOURNAL),
        whole_number(given, "seq", MOST_SEQ),
        some_text(given, "by", MOST_ID),
        maybe_text(given, "reason", _MOST_SENTENCE),
    )


def decode_sign_on(payload: bytes) -> SignOn:
    """Raises CodecError."""
    given = json_object(payload)
    crew = given.get("crew", [])
    if not isinstance(crew, list) or len(crew) > _CREW_LIMIT or not all(isinstance(one, str) for one in crew):
        raise CodecError(f"crew is no list of at most {_CREW_LIMIT} ids")
    return SignOn(
        _id(given), tuple(crew), maybe_text(given, "driver", 16), maybe_text(given, "call_sign", 16)
    )


def json_object(payload: bytes) -> Mapping[str, Any]:
    """The object that a command is. Raises CodecError."""
    if len(payload) > MOST_BYTES:
        raise CodecError(f"a command has at most {MOST_BYTES} bytes")
    try:
        given = parse(payload)
    except CodecError as error:
        raise CodecError("a command is a JSON object") from error
    if not isinstance(given, dict):
        raise CodecError("a command is a JSON object")
    return given


def _renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**given, "alternates": given.get("others")}


def _checked(make: Any) -> Any:
    try:
        return make()
    except ValueError as error:
        raise CodecError(str(error)) from error


def _id(given: Mapping[str, Any]) -> str:
    return some_text(given, "id", MOST_ID)


def some_text(given: Mapping[str, Any], name: str, most: int) -> str:
    """A text that must be there. Raises CodecError."""
    value = maybe_text(given, name, most)
    if value is None or not value.strip():
        raise CodecError(f"{name} is missing")
    return value


def maybe_text(given: Mapping[str, Any], name: str, most: int) -> str | None:
    """A text of at most so many characters, None when it is absent. Raises CodecError."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise CodecError(f"{name} is no text")
    if len(value) > most:
        raise CodecError(f"{name} is longer than {most} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which nobody could be sent back
        raise CodecError(f"{name} is no text") from error
    return value


def whole_number(given: Mapping[str, Any], name: str, below: int) -> int:
    """A whole number from 0 on. Raises CodecError."""
    value = given.get(name)
    if type(value) is not int or not 0 <= value < below:
        raise CodecError(f"{name} is no whole number from 0 to {below - 1}")
    return value


def unix_ms_of(text: str) -> int:
    """Unix milliseconds of an ISO 8601 time with an offset. Raises CodecError."""
    try:
        moment = datetime.fromisoformat(text)
        unix_ms = None if moment.tzinfo is None else round(moment.timestamp() * 1000)
        if unix_ms is not None:
            utc_text(unix_ms)  # a moment of the years 1 to 9999 there may be none in UTC
    except (ValueError, OverflowError) as error:
        raise CodecError(f"{text!r:.40} is no ISO 8601 date and time") from error
    if unix_ms is None:
        raise CodecError("utc needs an offset, e.g. +00:00")
    return unix_ms
