"""The live picture: what each unit last said, how old that is, and whether it may be taken for now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agent.dispatch.intake import Heard, HeardState, Message, at_ms, state_fields
from agent.dispatch.settings import Picture
from agent.domain.record import Emergency, Position, StatusChange
from agent.domain.state import LinkState, LocationState, StatusState, VehicleState
from agent.wire.batch import CodecError, JournalRecord
from agent.wire.codec import decode_state
from agent.wire.topics import Topics

CLOCK_TOLERANCE_MS = 5_000
"""A unit's time may be this far ahead of ours before it is not believed for an age."""
ON_A_RUN = frozenset(
    {
        "dispatched",
        "acknowledged",
        "en_route",
        "staged",
        "on_scene",
        "at_patient",
        "transporting",
        "at_destination",
        "transfer_of_care",
    }
)
MAX_STATES = 32
TRUSTED = frozenset({None, "blurred"})
"""Qualities of a position that do not put it in doubt; the vehicle names what does."""


@dataclass(slots=True)
class Place:
    """Where a unit is or was.

    Attributes:
        at_ms: UTC of the fix in Unix milliseconds; None when nobody can say.
        fields: as in the JSON form of a position.
        fix: whether the receiver has a fix now, as far as it told.
    """

    at_ms: int | None
    fields: dict[str, Any]
    fix: bool


@dataclass(slots=True)
class Unit:
    """One unit as dispatch sees it.

    Attributes:
        topics: which.
        heard_ms: when anything live came from it, by our clock; None since this service was started.
        birth_session: session of the connection that last said that it began.
        online: what its birth or will says; None before either.
        link_ms: when that changed, by our clock.
        place: its newest position.
        status: token.
        status_at_ms: when it was pressed.
        status_seq: (journal, sequence number) of that press.
        emergency: whether the crew's emergency is active.
        states: the fields of each state.
        answer: what was decided about the status: verdict, token and sentence.
        call: incident that it is on, as assigned here.
    """

    topics: Topics
    heard_ms: int | None = None
    birth_session: int | None = None
    online: bool | None = None
    link_ms: int | None = None
    place: Place | None = None
    status: str | None = None
    status_at_ms: int | None = None
    status_seq: tuple[int, int] | None = None
    emergency: bool = False
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    call: dict[str, Any] | None = None

    def freshness(self, now_ms: int, picture: Picture) -> str:
        """What its position is worth: `live`, or the gravest of what is against that.

        `none`: there is none. `offline`: no connection. `stale`: too old. `no_fix`: the last before the fix
        was lost. `doubtful`: the vehicle itself doubts it. `late`: older than it should be.
        """
        place = self.place
        if place is None:
            return "none"
        age_s = float("inf") if place.at_ms is None else (now_ms - place.at_ms) / 1000
        parked = self.states.get("link", {}).get("parked") is True
        stale_after_s = picture.parked_stale_after_s if parked else picture.stale_after_s
        against = {
            "offline": self.online is not True,
            "stale": age_s > stale_after_s,
            "no_fix": not place.fix,
            "doubtful": place.fields.get("quality") not in TRUSTED,
            "late": not parked and age_s > picture.late_after_s,
        }
        return next((word for word, holds in against.items() if holds), "live")

    def told(self, now_ms: int, picture: Picture) -> dict[str, Any]:
        """For the interface and the page."""
        place = self.place
        health, said = self.states.get("health", {}), self.states.get("status", {})
        return {
            "agency": self.topics.agency,
            "unit": self.topics.unit,
            "online": self.online,
            "link_ms": self.link_ms,
            "heard_ms": self.heard_ms,
            "status": self.status,
            "status_ms": self.status_at_ms,
            "emergency": self.emergency,
            "reason": said.get("reason"),
            "for_calls": said.get("for_calls"),
            "hint": said.get("hint"),
            "incident": said.get("incident"),
            "destination": self.states.get("destination"),
            "freshness": self.freshness(now_ms, picture),
            "position": None if place is None else place.fields,
            "position_ms": None if place is None else place.at_ms,
            "call": self.call,
            "health": {"reasons": health.get("reasons", []), "details": health.get("details", {})},
            "backlog_records": health.get("backlog_records"),
            "aboard": self.states.get("unit"),
            "vehicle": self.states.get("vehicle", {}).get("signals", {}),
            "version": self.states.get("link", {}).get("agent_version"),
        }


class Fleet:
    """All units. Used from the event loop only.

    Args:
        picture: the limits.
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self._units: dict[Topics, Unit] = {}
        self._told: dict[Topics, str] = {}
        self._changed: set[Topics] = set()
        self._listeners: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[Unit]:
        yield from sorted(self._units.values(), key=lambda unit: (unit.topics.agency, unit.topics.unit))

    def get(self, topics: Topics) -> Unit | None:
        """A unit that ever said something; None for another."""
        return self._units.get(topics)

    def unit(self, topics: Topics) -> Unit:
        """A unit, known from now on."""
        return self._units.setdefault(topics, Unit(topics))

    def take(self, heard: Heard, now_ms: int) -> None:
        """What was stored becomes the picture."""
        for state in heard.states:
            self.take_state(state, now_ms)
        for batch in heard.batches:
            unit = self.unit(batch.topics)
            unit.heard_ms = batch.message.received_ms
            for record in batch.records:
                self._take_record(unit, record, batch.message.received_ms)
            self._changed.add(batch.topics)

    def take_state(self, heard: HeardState, now_ms: int) -> None:
        """One state; what the broker had kept is as old as it says itself."""
        unit = self.unit(heard.topics)
        state = heard.state
        if state is None:
            unit.states.pop(heard.name, None)
            self._changed.add(heard.topics)
            return
        if isinstance(state, LinkState) and not _take_link(unit, state, heard.message):
            return
        if not heard.message.retained:
            unit.heard_ms = heard.message.received_ms
        if heard.name in unit.states or len(unit.states) < MAX_STATES:
            fields = state_fields(state)
            if isinstance(state, VehicleState) and state.complete is False:
                before = unit.states.get(heard.name, {}).get("signals", {})
                fields["signals"] = before | fields["signals"]
            unit.states[heard.name] = fields
        if isinstance(state, LocationState):
            _take_location(unit, state, heard.message, now_ms)
        elif isinstance(state, StatusState):
            _take_status(unit, state)
        self._changed.add(heard.topics)

    def restore(self, topics: Topics, name: str, payload: bytes, received_ms: int, now_ms: int) -> None:
        """A state that was stored before this service was started: it may be old."""
        try:
            state = decode_state(name, payload)
        except CodecError:
            return  # written by a version that knew more; the unit says it again
        message = Message("", payload, received_ms, retained=True)
        self.take_state(HeardState(topics, name, message, state), now_ms)

    def touch(self, topics: Topics) -> None:
        """Something about a unit changed that is kept elsewhere."""
        self.unit(topics)
        self._changed.add(topics)

    def changes(self, now_ms: int) -> list[dict[str, Any]]:
        """Units that are to be told anew, also because they grew old."""
        for topics, unit in self._units.items():
            if self._told.get(topics) != unit.freshness(now_ms, self.picture):
                self._changed.add(topics)
        changed, self._changed = self._changed, set()
        told = []
        for topics in changed:
            unit = self._units[topics]
            self._told[topics] = unit.freshness(now_ms, self.picture)
            told.append(unit.told(now_ms, self.picture))
        return told

    def _take_record(self, unit: Unit, record: JournalRecord, received_ms: int) -> None:
        body = record.body
        when_ms = at_ms(record, received_ms)
        if isinstance(body, Position):
            # The state is what is live; the journal only tells more when it is newer than that.
            newer = unit.place is None or (
                record.utc_ms is not None and record.utc_ms > (unit.place.at_ms or 0)
            )
            if newer and record.utc_ms is not None and record.utc_ms <= received_ms + CLOCK_TOLERANCE_MS:
                unit.place = Place(record.utc_ms, _position_fields(body), fix=not record.history)
        elif isinstance(body, StatusChange):
            if unit.status_at_ms is None or when_ms >= unit.status_at_ms:
                unit.status, unit.status_at_ms = body.status, when_ms
                unit.status_seq = record.journal, record.seq
        elif isinstance(body, Emergency) and not record.history:
            unit.emergency = body.active


def _take_link(unit: Unit, state: LinkState, message: Message) -> bool:
    """By the session rule: a will whose session is not that of the last birth is old news."""
    if state.online:
        unit.birth_session = state.session
    elif unit.birth_session is not None and state.session != unit.birth_session:
        return False
    if unit.online is not state.online:
        unit.online, unit.link_ms = state.online, message.received_ms
    return True


def _take_location(unit: Unit, state: LocationState, message: Message, now_ms: int) -> None:
    live = state.position is not None
    position = state.position or state.last_known
    utc = state.utc if live else state.last_known_utc
    if position is None:
        unit.place = None
        return
    when_ms = None if utc is None else utc.unix_ms
    if when_ms is not None and when_ms > now_ms + CLOCK_TOLERANCE_MS:
        when_ms = None  # a clock of the future would look live for ever
    if when_ms is None and live and not message.retained:
        when_ms = message.received_ms
    unit.place = Place(when_ms, _position_fields(position), fix=live)


def _take_status(unit: Unit, state: StatusState) -> None:
    unit.status = state.status
    unit.emergency = state.emergency
    unit.status_at_ms = None if state.since is None else state.since.unix_ms
    if state.seq is not None and state.journal is not None:
        unit.status_seq = state.journal, state.seq


def _position_fields(position: Position) -> dict[str, Any]:
    return {
        "lat_deg": position.lat_deg,
        "lon_deg": position.lon_deg,
        "alt_m": position.alt_m,
        "speed_mps": position.speed_mps,
        "course_deg": position.course_deg,
        "quality": position.quality,
        "uncertainty_m": position.uncertainty_m,
    }
