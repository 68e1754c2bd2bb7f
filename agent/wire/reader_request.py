"""What a reader says to a unit and what the unit answers: maps of the fields of these tables by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgpack

from agent.domain.field import Field, Token
from agent.domain.record import Outcome, Stream
from agent.wire.batch import MAX_SEQ, CodecError
from agent.wire.codec import CONTENT_TYPE_JSON, CONTENT_TYPE_MSGPACK, Encoded, Encoding
from agent.wire.fields import layout
from agent.wire.unpacking import parse, unpack

MAX_REQUEST_BYTES = 16 * 1024
MOST_RESULT_BYTES = 8 * 1024
T = TypeVar("T")


class RefusalReason(Token):
    """Why a unit does not do what it was asked for."""

    MALFORMED = "malformed", "Not a request, or without a field that it needs."
    OTHER_JOURNAL = "other_journal", "The unit has another journal now; the answer names it."
    BEYOND_END = "beyond_end", "The unit has no record of that number; the answer names its newest."
    RETAINED = "retained", "A retained request: it would be answered again after every reconnection."
    BUSY = "busy", "Too many requests wait already, or come too fast; ask again later."
    UNKNOWN_COMMAND = "unknown_command", "The unit has no such command."
    NOT_ALLOWED = "not_allowed", "The unit's configuration does not allow it."
    STORE_FAULT = "store_fault", "The unit's store can not do it now; its health says why."
    EXPIRED = "expired", "It came after the time until which it was to be done."
    TIME_UNKNOWN = "time_unknown", "It has an end, and the unit does not know the time yet; ask again later."
    ID_REUSED = "id_reused", "Another command had this id; nothing was done."
    BAD_RESPONSE_TOPIC = "bad_response_topic", "Answers go to the unit's own reply topics only."
    FAILED = "failed", "It could not be done; the text says why."
    NOTHING_THERE = "nothing_there", "The unit has nothing of what was asked for; the text says what it has."
    NOT_PATCHABLE = "not_patchable", "A key of the patch can not be changed from afar, or its value is wrong."
    ROLLED_BACK = "rolled_back", "The patch was taken back: the link did not come back, or the agent failed."


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Asks for records again; goes to `command/replay`."""

    stream: Annotated[Stream, Field("Of which stream.")]
    first: Annotated[int, Field("Lowest sequence number asked for.")]
    last: Annotated[int, Field("Highest, included.")]
    journal: Annotated[int | None, Field("Whose numbers are meant; null for the unit's present one.")] = None
    id: Annotated[str | None, Field("Any text of the asker's; the answer repeats it.")] = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Says that dispatch has a stream without holes; goes to `receipt`. It is not answered."""

    stream: Annotated[Stream, Field("Of which stream.")]
    through_seq: Annotated[int, Field("Every record up to and including this one is safe at dispatch.")]
    journal: Annotated[
        int | None, Field("Whose numbers are meant; the unit ignores a receipt without it.")
    ] = None


@dataclass(frozen=True, slots=True)
class JournalRequest:
    """Asks the unit to begin a new journal; goes to `command/new-journal`."""

    journal: Annotated[int, Field("The journal to be replaced; of another one the request is refused.")]
    why: Annotated[str | None, Field("A sentence for the log and the alert.", most=200)] = None
    id: Annotated[str | None, Field("Any text of the asker's; the answer repeats it.")] = None


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """Asks for every state now and for the next fix whatever it says; goes to `command/report-now`."""

    id: Annotated[str | None, Field("Any text of the asker's; the answer repeats it.")] = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The unit's answer to a command; comes on `reply/{command}`, not retained, QoS 1."""

    command: Annotated[str, Field("Name of the command.")]
    outcome: Annotated[str, Field("What becomes of it.", tokens=Outcome)]
    id: Annotated[str | None, Field("As in the request.")] = None
    reason: Annotated[str | None, Field("Why it is refused or done in part.", tokens=RefusalReason)] = None
    text: Annotated[str | None, Field("A sentence for a person.", most=300)] = None
    journal: Annotated[int | None, Field("The unit's present journal.")] = None
    stream: Annotated[str | None, Field("Of which stream, of a replay.")] = None
    first: Annotated[int | None, Field("Lowest sequence number that will be sent.")] = None
    last: Annotated[int | None, Field("Highest that will be sent; the newest there is when refused.")] = None
    result: Annotated[
        str | None, Field("What was asked for, as JSON in a text.", most=MOST_RESULT_BYTES, since=2)
    ] = None


def encode_map(request: Any, encoding: Encoding = "msgpack") -> Encoded:
    """A request or answer as a map of its fields by name; nulls are left out."""
    given = {key: value for key, value in layout(type(request)).to_json(request).items() if value is not None}
    if encoding == "json":
        return Encoded(
            json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode(), CONTENT_TYPE_JSON
        )
    return Encoded(msgpack.packb(given), CONTENT_TYPE_MSGPACK)


def decode_map(of: type[T], payload: bytes) -> T:
    """The inverse; unknown keys are ignored. Raises CodecError on anything but a well-formed map."""
    if len(payload) > MAX_REQUEST_BYTES:
        raise CodecError(f"a request of {len(payload)} bytes")
    given = parse(payload) if payload[:1] == b"{" else unpack(payload)
    return layout(of).from_json(given)


def decode_replay_request(payload: bytes) -> ReplayRequest:
    """The inverse; unknown keys are ignored. Raises CodecError on anything but a well-formed request."""
    request = decode_map(ReplayRequest, payload)
    _check_seqs(request.first, request.last)
    _check_journal(request.journal)
    if request.first > request.last:
        raise CodecError(f"from {request.first} to {request.last} is empty")
    return request


def decode_receipt(payload: bytes) -> Receipt:
    """The inverse; unknown keys are ignored. Raises CodecError on anything but a well-formed receipt."""
    receipt = decode_map(Receipt, payload)
    _check_seqs(receipt.through_seq)
    _check_journal(receipt.journal)
    return receipt


def decode_journal_request(payload: bytes) -> JournalRequest:
    """A request for a new journal. Raises CodecError on anything else."""
    request = decode_map(JournalRequest, payload)
    _check_journal(request.journal)
    return request


def decode_reply(payload: bytes) -> Reply:
    """A unit's answer. Raises CodecError on anything else."""
    return decode_map(Reply, payload)


def _check_seqs(*seqs: int) -> None:
    if not all(0 <= seq < MAX_SEQ for seq in seqs):
        raise CodecError(f"{seqs!r:.80} are no sequence numbers")


def _check_journal(journal: int | None) -> None:
    if journal is not None and not 0 <= journal < 1 << 32:
        raise CodecError(f"{journal!r:.40} is no journal")
