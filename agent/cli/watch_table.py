"""What dispatch knows of each unit, as lines for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from agent.domain.record import (
    Alert,
    Body,
    Emergency,
    Gap,
    Health,
    Opaque,
    Position,
    StatusChange,
    Stream,
    Telemetry,
)
from agent.domain.state import (
    HealthState,
    LinkState,
    LocationState,
    State,
    StatusState,
    VehicleState,
)
from agent.domain.steady_health import told_reasons
from agent.runtime.plain_text import counted, harmless
from agent.wire.body import body_to_json
from agent.wire.codec import JournalRecord
from agent.wire.time_text import utc_text
from agent.wire.topics import Topics

_BEHIND_MS = 15_000
"""A trail that is this much older than the location state has a backlog before it."""
_BOLD, _RED, _GREEN, _YELLOW, _DIM = "1", "1;31", "32", "33", "2"
_WIDE = {"UNIT": 9, "STATUS": 27, "POSITION": 22, "SPEED": 9, "LINK": 10, "BACKLOG": 15, "HEALTH": 0}
_NARROW = {"UNIT": 8, "STATUS": 22, "LINK": 10, "BACKLOG": 14, "HEALTH": 0}
"""Columns and their widths, the last one taking the rest: 80 characters hold what needs attention."""
_WIDE_FROM = 110
_DAY_MS = 86_400_000


@dataclass(slots=True)
class UnitView:
    """What is known of one unit.

    Attributes:
        topics: whose view it is.
        link: newest link state; a will of an older session does not count.
        link_since_ms: when this reader saw the link change, Unix milliseconds.
        location: newest location.
        status: newest status.
        vehicle: newest vehicle signals.
        health: newest health.
        trail_utc_ms: UTC of the newest trail record.
        records: journal records seen.
    """

    topics: Topics
    link: LinkState | None = None
    link_since_ms: int = 0
    location: LocationState | None = None
    status: StatusState | None = None
    vehicle: VehicleState | None = None
    health: HealthState | None = None
    trail_utc_ms: int | None = None
    records: int = 0

    def note_state(self, state: State, now_ms: int) -> bool:
        """Take a state; returns whether it says something a person would want to be told."""
        match state:
            case LinkState():
                return self._note_link(state, now_ms)
            case LocationState():
                self.location = state
            case StatusState():
                self.status = state
            case VehicleState():
                self.vehicle = state
            case HealthState():
                self.health = state
        return False

    def note_record(self, record: JournalRecord) -> None:
        """Take a journal record."""
        self.records += 1
        if record.stream is Stream.TRAIL and record.utc_ms is not None and not record.replay:
            self.trail_utc_ms = max(record.utc_ms, self.trail_utc_ms or record.utc_ms)

    @property
    def emergency(self) -> bool:
        """Whether the unit says that an emergency is raised."""
        return self.status is not None and self.status.emergency

    def backlog(self) -> tuple[str, bool]:
        """How far the journal is behind what is true now, and whether that is worth a colour."""
        waiting = None if self.health is None else self.health.backlog_records
        now = None if self.location is None or self.location.utc is None else self.location.utc.unix_ms
        if now is not None and self.trail_utc_ms is not None and now - self.trail_utc_ms >= _BEHIND_MS:
            return f"{span_text(now - self.trail_utc_ms)} behind", True
        if self.trail_utc_ms is None and waiting:
            return f"{waiting} waiting", True
        return ("live" if self.trail_utc_ms is not None else "-"), False

    def _note_link(self, link: LinkState, now_ms: int) -> bool:
        known = self.link
        if known is not None and known.online and not link.online and known.session != link.session:
            return False  # the will of a connection that has long been replaced
        changed = known is None or known.online != link.online
        self.link = link
        if changed:
            self.link_since_ms = now_ms
        return changed


@dataclass(slots=True)
class Picture:
    """All units that were heard of."""

    units: dict[Topics, UnitView] = field(default_factory=dict)

    def view(self, topics: Topics) -> UnitView:
        """The view of a unit, made when it is new."""
        if topics not in self.units:
            self.units[topics] = UnitView(topics)
        return self.units[topics]

    def table(self, now_ms: int, width: int, *, colour: bool, most: int | None = None) -> list[str]:
        """A heading and one line a unit, emergencies first, cut to `width` columns and `most` lines."""
        columns = _WIDE if width >= _WIDE_FROM else _NARROW
        heading = "".join(name.ljust(size) for name, size in columns.items())
        lines = [_paint(heading[:width], _BOLD, colour=colour)]
        views = sorted(
            self.units.values(), key=lambda view: (not view.emergency, view.topics.agency, view.topics.unit)
        )
        room = len(views) if most is None else max(0, most - 1)
        if room < len(views):
            room = max(0, room - 1)
        lines += [_unit_line(view, now_ms, columns, width, colour=colour) for view in views[:room]]
        if room < len(views):
            lines.append(
                f"and {counted(len(views) - room, 'unit')} that this terminal has no room for"[:width]
            )
        return lines


def event_line(record: JournalRecord, now_ms: int, *, colour: bool = False) -> str:
    """One line for a journal record: when, who, what."""
    time = "--:--:--" if record.utc_ms is None else when_text(record.utc_ms, now_ms)
    flag = (
        "CONFLICT "
        if record.conflict
        else "replayed "
        if record.replay
        else "history "
        if record.history
        else ""
    )
    text, code = _body_text(record)
    return f"{time} {harmless(record.unit):<8} {_paint(text, code, colour=colour)} {flag}#{record.seq}"


def link_line(view: UnitView, now_ms: int, *, colour: bool = False) -> str:
    """One line for a change of the link."""
    assert view.link is not None
    if view.link.online:
        text, code = f"online (agent {view.link.agent_version})", _GREEN
    else:
        text, code = "offline, as planned" if view.link.planned else "OFFLINE", _YELLOW
    return f"{clock_text(now_ms)} {harmless(view.topics.unit):<8} {_paint(text, code, colour=colour)}"


def location_line(view: UnitView) -> str:
    """One line for where a unit is."""
    assert view.location is not None
    utc = view.location.utc
    time = "--:--:--" if utc is None else clock_text(utc.unix_ms)
    place = f"{_position_text(view.location)}, {_speed_text(view.location)}"
    return f"{time} {harmless(view.topics.unit):<8} at {place}"


def clock_text(unix_ms: int) -> str:
    """UTC time of day as HH:MM:SS."""
    try:
        return utc_text(unix_ms)[11:19]
    except OverflowError:
        return "??:??:??"


def when_text(unix_ms: int, now_ms: int) -> str:
    """UTC time of day, with the date before it when that is not today's."""
    if unix_ms // _DAY_MS == now_ms // _DAY_MS:
        return clock_text(unix_ms)
    try:
        return utc_text(unix_ms)[:19].replace("T", " ")
    except OverflowError:
        return "????-??-?? ??:??:??"


def span_text(milliseconds: int) -> str:
    """A time span as m:ss or h:mm:ss."""
    minutes, seconds = divmod(max(0, milliseconds) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class LiveTable:
    """A terminal whose last lines are a table and above it scroll events. Not thread-safe."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._height = 0

    def show(self, events: Iterable[str], table: Sequence[str]) -> None:
        """Let `events` scroll by and draw `table` below them."""
        erase = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        self._out.write(erase + "".join(f"{line}\n" for line in (*events, *table)))
        self._out.flush()
        self._height = len(table)


def _unit_line(view: UnitView, now_ms: int, columns: Mapping[str, int], width: int, *, colour: bool) -> str:
    backlog, late = view.backlog()
    health, ill = _health_text(view.health)
    cells = {
        "UNIT": (view.topics.unit, _BOLD),
        "STATUS": _status_cell(view.status, now_ms),
        "POSITION": (_position_text(view.location), ""),
        "SPEED": (_speed_text(view.location), ""),
        "LINK": _link_cell(view, now_ms),
        "BACKLOG": (backlog, _YELLOW if late else ""),
        "HEALTH": (health, _YELLOW if ill else _GREEN),
    }
    line, left = "", width
    for name, size in columns.items():
        text, code = cells[name]
        text = harmless(text)
        cell = _cut(text, size - 1).ljust(size)[:left] if size else _cut(text, left)
        left -= len(cell)
        line += _paint(cell, code, colour=colour) if code else cell
    return line


def _status_cell(status: StatusState | None, now_ms: int) -> tuple[str, str]:
    if status is None:
        return "-", _DIM
    text = status.status or "none yet"
    if status.since is not None:
        text += f" {span_text(now_ms - status.since.unix_ms)}"
    if status.seq is None and status.status is not None:
        text += " (not stored)"
    return (f"EMERGENCY {text}", _RED) if status.emergency else (text, "")


def _position_text(location: LocationState | None) -> str:
    if location is None:
        return "-"
    if location.position is None:
        known = location.last_known
        return "no fix" if known is None else f"no fix ({known.lat_deg:.2f} {known.lon_deg:.2f})"
    return f"{location.position.lat_deg:.5f} {location.position.lon_deg:.5f}"


def _speed_text(location: LocationState | None) -> str:
    if location is None or location.position is None or location.position.speed_mps is None:
        return "-"
    return f"{location.position.speed_mps * 3.6:.0f} km/h"


def _link_cell(view: UnitView, now_ms: int) -> tuple[str, str]:
    if view.link is None:
        return "-", _DIM
    if view.link.online:
        return "online", _GREEN
    return f"off {span_text(now_ms - view.link_since_ms)}", _YELLOW if view.link.planned else _RED


def _health_text(health: HealthState | None) -> tuple[str, bool]:
    if health is None:
        return "-", False
    if not health.reasons:
        return "well", False
    # With their number in front: a narrow terminal cuts the rest.
    number = f"{len(health.reasons)}: " if len(health.reasons) > 1 else ""
    return number + ", ".join(told_reasons(health)), True


def _body_text(record: JournalRecord) -> tuple[str, str]:  # noqa: PLR0911  # one return a kind
    match record.body:
        case Emergency(active=active):
            return ("EMERGENCY" if active else "emergency cancelled"), _RED if active else _YELLOW
        case StatusChange(status=status, previous=previous):
            return status + (f" (was {previous})" if previous else ""), _BOLD
        case Alert(code=code, text=text):
            return f"alert {code}: {text}", _YELLOW
        case Health(raised=raised, cleared=cleared):
            changes = [f"+{reason}" for reason in raised] + [f"-{reason}" for reason in cleared]
            return f"health {' '.join(changes) or 'unchanged'}", _YELLOW if raised else _GREEN
        case Gap(last_seq=last_seq, reason=reason, counts=counts):
            what = ", ".join(f"{count} {kind}" for kind, count in counts)
            return f"gap to #{last_seq}, {reason}: {what}", _YELLOW
        case Position() | Telemetry():
            return _trail_text(record.body), ""
        case Opaque():
            return f"{record.token}, which this program can not read", _DIM
        case body:
            return f"{record.token} {_fields_text(body)}", ""


def _fields_text(body: Body) -> str:
    """What is told by a body, field by field; what it leaves open is left out."""
    told = body_to_json(body)
    return ", ".join(f"{name} {value}" for name, value in told.items() if value not in (None, [], {}))


def _trail_text(body: Position | Telemetry) -> str:
    if isinstance(body, Position):
        return f"at {body.lat_deg:.5f} {body.lon_deg:.5f}"
    return ", ".join(f"{name} {'n/a' if value is None else value}" for name, value in body.signals)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"[:width]


def _paint(text: str, code: str, *, colour: bool) -> str:
    plain = harmless(text)
    return f"\x1b[{code}m{plain}\x1b[0m" if colour and code else plain
