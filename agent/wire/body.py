"""Record bodies as compact bytes: a msgpack array of the fields in order, positions as scaled integers."""

from __future__ import annotations

from typing import Any

import msgpack

from agent.domain.fix import FixMode
from agent.domain.record import Alert, Body, Emergency, Gap, Health, Kind, Position, StatusChange, Telemetry

POSITION_COLUMNS = (
    "lat_e7",
    "lon_e7",
    "alt_dm",
    "speed_cmps",
    "course_ddeg",
    "mode",
    "satellites",
    "hdop_e2",
)
"""Fields of a packed position: 1e-7 degree, decimetre, cm/s, 0.1 degree, FixMode, count, 0.01."""


def pack_body(body: Body) -> bytes:
    """Pack a body; `unpack_body` gives it back, positions rounded to the resolution of POSITION_COLUMNS."""
    return msgpack.packb(_fields(body))  # type: ignore[no-any-return]  # msgpack is untyped


def unpack_body(kind: Kind, packed: bytes) -> Body:
    """Give back a body of `kind`. Raises ValueError when the bytes are not one."""
    try:
        return _body(kind, msgpack.unpackb(packed))
    except (AttributeError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
        raise ValueError(f"not a {kind.token} body: {error}") from error


def position_fields(position: Position) -> list[int | None]:
    """A position as scaled integers, in the order of POSITION_COLUMNS."""
    p = position
    return [
        round(p.lat_deg * 1e7),
        round(p.lon_deg * 1e7),
        None if p.alt_m is None else round(p.alt_m * 10),
        None if p.speed_mps is None else round(p.speed_mps * 100),
        None if p.course_deg is None else round(p.course_deg * 10) % 3600,
        int(p.mode),
        p.satellites,
        None if p.hdop is None else round(p.hdop * 100),
    ]


def position_from_fields(fields: list[int | None]) -> Position:
    """The inverse of `position_fields`."""
    lat, lon, alt, speed, course, mode, satellites, hdop = fields
    if lat is None or lon is None or mode is None:
        raise TypeError("a position has coordinates and a mode")
    return Position(
        lat_deg=lat / 1e7,
        lon_deg=lon / 1e7,
        alt_m=None if alt is None else alt / 10,
        speed_mps=None if speed is None else speed / 100,
        course_deg=None if course is None else course / 10,
        mode=FixMode(mode),
        satellites=satellites,
        hdop=None if hdop is None else hdop / 100,
    )


def _fields(body: Body) -> list[Any]:  # noqa: PLR0911  # one return a kind is the clearest form
    match body:
        case Position():
            return list(position_fields(body))
        case StatusChange(status, previous, source, press_seq, press_session):
            return [status, previous, source, press_seq, press_session]
        case Emergency(active, source, press_seq, press_session):
            return [active, source, press_seq, press_session]
        case Alert(code, text):
            return [code, text]
        case Telemetry(signals):
            return [dict(signals)]
        case Health(reasons, raised, cleared):
            return [reasons, raised, cleared]
        case Gap(last_seq, reason, counts):
            return [last_seq, reason, dict(counts)]


def _body(kind: Kind, fields: list[Any]) -> Body:  # noqa: PLR0911  # one return a kind is the clearest form
    match kind:
        case Kind.POSITION:
            return position_from_fields(fields)
        case Kind.STATUS:
            return StatusChange(*fields)
        case Kind.EMERGENCY:
            return Emergency(*fields)
        case Kind.ALERT:
            return Alert(*fields)
        case Kind.TELEMETRY:
            return Telemetry(tuple(fields[0].items()))
        case Kind.HEALTH:
            return Health(*(tuple(part) for part in fields))
        case Kind.GAP:
            last_seq, reason, counts = fields
            return Gap(last_seq, reason, tuple(counts.items()))
