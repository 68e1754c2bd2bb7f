"""Calls that dispatch gives the unit: received, shown, acknowledged, updated, cancelled, and to whom the
unit belongs meanwhile.

One call is the unit's own at a time. An assignment while another stands is a diversion: the earlier call is
kept, told as diverted, and nothing that is pressed from then on belongs to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from agent.domain.record import CallStep
from agent.domain.status import UnitStatus

MOST_CALLS: Final = 16
"""Calls that are remembered; the oldest ended one gives way."""
MOST_COMMANDS: Final = 256
"""Commands whose ids are remembered, so that one sent twice is done once."""
ENDING: Final = frozenset(
    {UnitStatus.AVAILABLE, UnitStatus.IN_QUARTERS, UnitStatus.OUT_OF_SERVICE, UnitStatus.CANCELLED}
)
"""Statuses with which the unit no longer belongs to its incident; they themselves still do."""

TEXT_LIMITS: Final[Mapping[str, int]] = {
    "incident": 40,
    "priority": 16,
    "response_mode": 24,
    "nature": 120,
    "address": 200,
    "notes": 800,
    "destination": 64,
}
"""Characters that are kept of each text; what is cut ends with an ellipsis, so that it can be seen."""
_MOST_ALTERNATES: Final = 12


@dataclass(frozen=True, slots=True)
class Call:
    """What dispatch says of an incident. None is "not told".

    Attributes:
        incident: the number, the one field that is always there.
        priority: as dispatch words it.
        response_mode: e.g. "lights_and_siren"; as dispatch words it.
        nature: what happened.
        address: where, for a person.
        lat_deg: where; None without coordinates, never one of the two alone.
        lon_deg: likewise.
        notes: anything else.
        destination: place id or name of the hospital.
        alternates: other units on the incident.
    """

    incident: str
    priority: str | None = None
    response_mode: str | None = None
    nature: str | None = None
    address: str | None = None
    lat_deg: float | None = None
    lon_deg: float | None = None
    notes: str | None = None
    destination: str | None = None
    alternates: tuple[str, ...] = ()

    @property
    def position(self) -> tuple[float, float] | None:
        """(latitude, longitude) in degrees, None without."""
        if self.lat_deg is None or self.lon_deg is None:
            return None
        return self.lat_deg, self.lon_deg


class Refusal(StrEnum):
    """Why a command from dispatch changes nothing."""

    REPEATED = "repeated"
    """Done before: answered like the first time."""
    UNKNOWN_INCIDENT = "unknown_incident"
    INCIDENT_CLOSED = "incident_closed"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class CallNews:
    """Something about a call that is recorded and, where the crew must know, sounded.

    Attributes:
        event: what.
        call: the call as it stands after it.
        changed: names of the fields that an update changed.
        sound: whether the crew's attention is asked for.
    """

    event: CallStep
    call: Call
    changed: tuple[str, ...] = ()
    sound: bool = False


@dataclass(slots=True)
class _Entry:
    call: Call
    received_ns: int
    shown: bool = False
    acknowledged: bool = False
    ended_ns: int | None = None
    by_press: bool = False
    """Whether it was a press that ended it."""
    reminded_ns: int | None = None


class CallBook:
    """The unit's calls. Pure and bounded; used from one thread.

    Args:
        remind_after_s: a call that nobody acknowledged for so long sounds again, and dispatch is told.
        keep_s: how long after its end a call's data is kept in the vehicle.
    """

    def __init__(self, *, remind_after_s: float = 30.0, keep_s: float = 86_400.0) -> None:
        self._remind_ns = round(remind_after_s * 1e9)
        self._keep_ns = round(keep_s * 1e9)
        self._entries: dict[str, _Entry] = {}
        self._current: str | None = None
        self._commands: dict[str, None] = {}
        self._ended_by_press: str | None = None

    @property
    def current(self) -> Call | None:
        """The call that the unit belongs to."""
        return None if self._current is None else self._entries[self._current].call

    @property
    def incident(self) -> str | None:
        """Its number: what stands on every record meanwhile."""
        return self._current

    @property
    def acknowledged(self) -> bool:
        """Whether the crew acknowledged the current call."""
        return self._current is not None and self._entries[self._current].acknowledged

    @property
    def is_shown(self) -> bool:
        """Whether a screen has shown the current call."""
        return self._current is not None and self._entries[self._current].shown

    def assign(self, command_id: str, call: Call, now_ns: int) -> tuple[CallNews, ...] | Refusal:
        """Dispatch gives a call; of one that stands already it is an update, or is said again to be here."""
        if self._seen(command_id):
            return Refusal.REPEATED
        known = self._entries.get(call.incident)
        if known is not None and known.ended_ns is None and self._current == call.incident:
            return self._changed(known, call) or (CallNews(CallStep.RECEIVED, known.call),)
        news = []
        if self._current is not None:
            before = self._entries[self._current]
            before.ended_ns = now_ns
            news.append(CallNews(CallStep.DIVERTED, before.call))
        self._entries[call.incident] = _Entry(call, now_ns)
        self._current, self._ended_by_press = call.incident, None
        self._forget_surplus()
        news.append(CallNews(CallStep.RECEIVED, call, sound=True))
        return tuple(news)

    def update(
        self, command_id: str, incident: str, fields: Mapping[str, Any], now_ns: int
    ) -> tuple[CallNews, ...] | Refusal:
        """Dispatch changes some fields of a call. `fields` holds values that `call_from` has checked."""
        del now_ns
        if self._seen(command_id):
            return Refusal.REPEATED
        entry = self._entries.get(incident)
        if entry is None:
            return Refusal.UNKNOWN_INCIDENT
        if entry.ended_ns is not None:
            return Refusal.INCIDENT_CLOSED
        return self._changed(entry, replace(entry.call, **{**fields, "incident": incident}))

    def cancel(self, command_id: str, incident: str, now_ns: int) -> tuple[CallNews, ...] | Refusal:
        """Dispatch takes a call back."""
        if self._seen(command_id):
            return Refusal.REPEATED
        entry = self._entries.get(incident)
        if entry is None:
            return Refusal.UNKNOWN_INCIDENT
        if entry.ended_ns is not None:
            return Refusal.INCIDENT_CLOSED
        entry.ended_ns = now_ns
        if self._current == incident:
            self._current = None
        return (CallNews(CallStep.CANCELLED, entry.call, sound=True),)

    def shown(self, incident: str) -> tuple[CallNews, ...]:
        """A screen shows the call; said once."""
        entry = self._entries.get(incident)
        if entry is None or entry.shown or entry.ended_ns is not None:
            return ()
        entry.shown = True
        return (CallNews(CallStep.SHOWN, entry.call),)

    def acknowledge(self, incident: str | None = None) -> tuple[CallNews, ...]:
        """The crew acknowledges the call, by its own key or by any status of the run; said once."""
        entry = self._entries.get(incident or self._current or "")
        if entry is None or entry.acknowledged or entry.ended_ns is not None:
            return ()
        entry.acknowledged = True
        return (CallNews(CallStep.ACKNOWLEDGED, entry.call),)

    def status_set(self, status: str, now_ns: int) -> tuple[CallNews, ...]:
        """A status was set: it acknowledges the call, or ends it. Ask `incident` before this."""
        self._ended_by_press = None
        if self._current is None or status in (UnitStatus.TALK_REQUEST, UnitStatus.DISPATCHED):
            return ()
        entry = self._entries[self._current]
        if status not in ENDING:
            return self.acknowledge()
        entry.ended_ns, entry.by_press = now_ns, True
        self._current, self._ended_by_press = None, self._current
        return (CallNews(CallStep.ENDED, entry.call),)

    def reopen(self) -> tuple[CallNews, ...]:
        """The newest status was taken back: a call that it had ended is the unit's again."""
        incident, self._ended_by_press = self._ended_by_press, None
        entry = self._entries.get(incident or "")
        if incident is None or entry is None or self._current is not None:
            return ()
        entry.ended_ns, entry.by_press, self._current = None, False, incident
        return (CallNews(CallStep.REOPENED, entry.call),)

    def reopen_amended(self, incident: str, now_ns: int) -> tuple[CallNews, ...]:
        """The press that ended a call was another status in truth: the call is the unit's again.

        Unless it has another one by now, or dispatch took that one back. Of a call that was erased, as by a
        restart, there is nothing but the number: dispatch can tell the rest by an update.
        """
        entry = self._entries.get(incident)
        if self._current is not None or (entry is not None and not entry.by_press):
            return ()
        if entry is None:
            entry = self._entries[incident] = _Entry(Call(incident), now_ns, shown=True, acknowledged=True)
            self._forget_surplus()
        entry.ended_ns, entry.by_press, self._current, self._ended_by_press = None, False, incident, None
        return (CallNews(CallStep.REOPENED, entry.call),)

    def remembered(self) -> dict[str, Any]:
        """What a restart must know, JSON-able: the call that stands, and what was done already.

        Calls that ended are not in it: after a restart nobody needs their data.
        """
        entry = None if self._current is None else self._entries[self._current]
        return {
            "commands": list(self._commands),
            "call": None
            if entry is None
            else {
                "fields": asdict(entry.call),
                "received_ns": entry.received_ns,
                "shown": entry.shown,
                "acknowledged": entry.acknowledged,
            },
        }

    def restore(self, given: Mapping[str, Any], now_ns: int, *, same_boot: bool) -> None:
        """Take up where the last run ended; only before anything else.

        Args:
            given: as `remembered` gave it.
            now_ns: CLOCK_BOOTTIME.
            same_boot: whether times in `given` are of this boot; otherwise the waiting begins anew.

        Raises:
            ValueError: what was remembered makes no sense. Nothing has changed then.
        """
        commands, told = given.get("commands", []), given.get("call")
        if not isinstance(commands, list) or not all(isinstance(one, str) for one in commands):
            raise ValueError("commands is no list of ids")
        if told is not None:
            if not isinstance(told, dict) or not isinstance(told.get("fields"), dict):
                raise ValueError("call is no table")
            received_ns = told.get("received_ns")
            call = call_from(told["fields"])
            entry = _Entry(call, received_ns if same_boot and isinstance(received_ns, int) else now_ns)
            entry.shown, entry.acknowledged = told.get("shown") is True, told.get("acknowledged") is True
            self._entries[call.incident], self._current = entry, call.incident
        self._commands = dict.fromkeys(commands[-MOST_COMMANDS:])

    def due(self, now_ns: int) -> tuple[CallNews, ...]:
        """What time brings: a call that nobody acknowledged. Also erases what was kept long enough."""
        for incident, entry in tuple(self._entries.items()):
            if entry.ended_ns is not None and now_ns - entry.ended_ns >= self._keep_ns:
                del self._entries[incident]
        if self._current is None:
            return ()
        entry = self._entries[self._current]
        since_ns = entry.received_ns if entry.reminded_ns is None else entry.reminded_ns
        if entry.acknowledged or now_ns - since_ns < self._remind_ns:
            return ()
        first, entry.reminded_ns = entry.reminded_ns is None, now_ns
        event = CallNews(CallStep.UNACKNOWLEDGED, entry.call, sound=True)
        # Dispatch is told once; the crew is asked again and again.
        return (event,) if first else (replace(event, changed=("again",)),)

    def _changed(self, entry: _Entry, call: Call) -> tuple[CallNews, ...]:
        changed = tuple(
            name for name in Call.__dataclass_fields__ if getattr(entry.call, name) != getattr(call, name)
        )
        if not changed:
            return ()
        entry.call = call
        return (CallNews(CallStep.UPDATED, call, changed, sound=True),)

    def _seen(self, command_id: str) -> bool:
        if command_id in self._commands:
            return True
        self._commands[command_id] = None
        if len(self._commands) > MOST_COMMANDS:
            del self._commands[next(iter(self._commands))]
        return False

    def _forget_surplus(self) -> None:
        while len(self._entries) > MOST_CALLS:
            del self._entries[next(name for name in self._entries if name != self._current)]


def call_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the fields of a call from outside; unknown ones are ignored, texts are cut at their limit.

    Raises:
        ValueError: a field is not of its type, or one coordinate stands without the other.
    """
    fields: dict[str, Any] = {}
    for name, most in TEXT_LIMITS.items():
        value = given.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise ValueError(f"{name} is no text")  # noqa: TRY004  # one kind of error for what is sent to us
        fields[name] = value if len(value) <= most else value[: most - 1] + "…"
    lat, lon = given.get("lat_deg"), given.get("lon_deg")
    if (lat is None) != (lon is None):
        raise ValueError("lat_deg and lon_deg go together")
    if lat is not None:
        fields["lat_deg"], fields["lon_deg"] = _degrees(lat, 90.0), _degrees(lon, 180.0)
    alternates = given.get("alternates")
    if alternates is not None:
        if not isinstance(alternates, list | tuple) or not all(isinstance(one, str) for one in alternates):
            raise ValueError("alternates is no list of texts")
        fields["alternates"] = tuple(one[:40] for one in alternates[:_MOST_ALTERNATES])
    return fields


def call_from(given: Mapping[str, Any]) -> Call:
    """A call from outside. Raises ValueError as `call_fields`, and without an incident's number."""
    fields = call_fields(given)
    if not fields.get("incident", "").strip():
        raise ValueError("a call needs the number of its incident")
    return Call(**fields)


def _degrees(value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
        raise ValueError(f"{value!r:.40} is no coordinate")
    return float(value)
