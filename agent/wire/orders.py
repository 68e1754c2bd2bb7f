"""What dispatch tells a unit: the payloads of `command/{name}`, read by the unit.

A JSON object of at most `MOST_BYTES`, with an `id` by which a command that comes twice is done once. Unknown
keys are ignored: a newer dispatch may say more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agent.domain.call import Call, call_fields, call_from
from agent.domain.messages import MOST_TEXT, ORDERS
from agent.wire.batch import CodecError
from agent.wire.time_text import utc_text

MOST_BYTES: Final = 8_192
_MOST_ID: Final = 64
_MOST_SEQ: Final = 1 << 62
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
    """

    id: str
    journal: int
    seq: int
    status: str | None
    unix_ms: int | None
    why: str


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


@dataclass(frozen=True, slots=True)
class Keep:
    """`command/keep`: the vehicle's data around now becomes a recording; `why` is for who reads it later."""

    id: str
    why: str | None


def decode_assign(payload: bytes) -> Assign:
    """Raises CodecError."""
    given = _object(payload)
    return Assign(_id(given), _checked(lambda: call_from(_renamed(given))))


def decode_update(payload: bytes) -> Update:
    """Raises CodecError."""
    given = _object(payload)
    fields = _checked(lambda: call_fields(_renamed(given)))
    fields.pop("incident", None)
    return Update(_id(given), _text(given, "incident", 40), fields)


def decode_keep(payload: bytes) -> Keep:
    """Raises CodecError."""
    given = _object(payload)
    return Keep(_id(given), _maybe(given, "why", _MOST_SENTENCE))


def decode_cancel(payload: bytes) -> Cancel:
    """Raises CodecError."""
    given = _object(payload)
    return Cancel(_id(given), _text(given, "incident", 40), _maybe(given, "reason", _MOST_SENTENCE))


def decode_message(payload: bytes) -> Text:
    """Raises CodecError."""
    given = _object(payload)
    code, text = _maybe(given, "code", 32), _maybe(given, "text", 4 * MOST_TEXT) or ""
    if code is not None and code not in ORDERS:
        raise CodecError(f"code {code!r:.40} is none of {', '.join(sorted(ORDERS))}")
    if code is None and not text.strip():
        raise CodecError("a message has a text or a code")
    return Text(_id(given), text, code)


def decode_answer(payload: bytes) -> Answer:
    """Raises CodecError."""
    given = _object(payload)
    if given.get("stream", "events") != "events":
        raise CodecError("only records of the events are answered")
    verdict = given.get("verdict")
    if verdict not in ("accepted", "refused"):
        raise CodecError("verdict must be accepted or refused")
    return Answer(
        _maybe(given, "id", _MOST_ID) or "",
        _number(given, "journal", _MOST_JOURNAL),
        _number(given, "seq", _MOST_SEQ),
        verdict == "accepted",
        _maybe(given, "token", _MOST_REASON),
        _maybe(given, "sentence", _MOST_SENTENCE),
    )


def decode_amend(payload: bytes) -> Amend:
    """Raises CodecError."""
    given = _object(payload)
    status, utc = _maybe(given, "status", 32), _maybe(given, "utc", 40)
    if status is None and utc is None:
        raise CodecError("an amendment changes the status, the time, or both")
    return Amend(
        _id(given),
        _number(given, "journal", _MOST_JOURNAL),
        _number(given, "seq", _MOST_SEQ),
        status,
        None if utc is None else _unix_ms(utc),
        _text(given, "reason", _MOST_SENTENCE),
    )


def decode_sign_on(payload: bytes) -> SignOn:
    """Raises CodecError."""
    given = _object(payload)
    crew = given.get("crew", [])
    if not isinstance(crew, list) or len(crew) > _CREW_LIMIT or not all(isinstance(one, str) for one in crew):
        raise CodecError(f"crew is no list of at most {_CREW_LIMIT} ids")
    return SignOn(_id(given), tuple(crew), _maybe(given, "driver", 16), _maybe(given, "call_sign", 16))


def _object(payload: bytes) -> Mapping[str, Any]:
    if len(payload) > MOST_BYTES:
        raise CodecError(f"a command has at most {MOST_BYTES} bytes")
    try:
        given = json.loads(payload)
    except (ValueError, RecursionError) as error:
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
    return _text(given, "id", _MOST_ID)


def _text(given: Mapping[str, Any], name: str, most: int) -> str:
    value = _maybe(given, name, most)
    if value is None or not value.strip():
        raise CodecError(f"{name} is missing")
    return value


def _maybe(given: Mapping[str, Any], name: str, most: int) -> str | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise CodecError(f"{name} is no text")
    if len(value) > most:
        raise CodecError(f"{name} is longer than {most} characters")
    return value


def _number(given: Mapping[str, Any], name: str, below: int) -> int:
    value = given.get(name)
    if type(value) is not int or not 0 <= value < below:
        raise CodecError(f"{name} is no whole number from 0 to {below - 1}")
    return value


def _unix_ms(text: str) -> int:
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
