"""The sentences that a receiver with a fix sends all day, read by one look at their whole shape.

What does not have exactly the usual shape, or a value at the edge of what is allowed, is left to the thorough
reader of `agent.sources.gnss.nmea_sentence`, which is several times slower; a test holds both against each
other on every recorded sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache

from agent.domain.fix import FixMode
from agent.sources.gnss.sentence import MPS_PER_KNOT, UNIX_DAY_0, Sentence

_TIME = r"(\d{6}(?:\.\d{1,3})?)"
_PLACE = r"(\d\d)([0-5]\d\.\d{1,9}),([NS]),(\d{3})([0-5]\d\.\d{1,9}),([EW])"
_SPEED = r"(\d{1,3}\.\d{1,4})"
_COURSE = r"((?:[0-2]?\d?\d|3[0-5]\d)\.\d{1,4})?"
_RMC = re.compile(
    rf"..RMC,{_TIME},A,{_PLACE},{_SPEED},{_COURSE},(\d{{6}}),[0-9.]*,[EW]?(?:,[ADEFPR](?:,[A-Z])?)?"
)
_GGA = re.compile(
    rf"..GGA,{_TIME},{_PLACE},[1-6],(\d{{1,2}}),([1-9]?\d\.\d{{1,2}}),(-?\d{{1,3}}\.\d{{1,3}}),M,[-0-9.]*,M,"
    r"[0-9.]*,\d*"
)
_GLL = re.compile(rf"..GLL,{_PLACE},{_TIME},A(?:,[ADEFPR])?")
_GSA = re.compile(r"..GSA,[AM],([23])(?:,\d{0,3}){12},[0-9.]*,([1-4]?\d\.\d{1,2}),[0-9.]*(?:,\d)?")
_VTG = re.compile(rf"..VTG,{_COURSE},T,[0-9.]*,M,{_SPEED},N,[0-9.]*,K(?:,[ADEFPR])?")


def read_usual(body: str) -> Sentence | None:
    """Values of a sentence of usual shape, checksum already verified; None for any other."""
    read = USUAL.get(body[2:5])
    # `P` begins proprietary sentences, whose names can look like ours.
    return None if read is None or body[0] == "P" else read(body)


@lru_cache(maxsize=8)
def _time_ms(text: str) -> int | None:
    """The sentences of an epoch repeat its time."""
    hour, minute, second = int(text[:2]), int(text[2:4]), int(text[4:6])
    if hour > 23 or minute > 59 or second > 59:  # noqa: PLR2004 - a clock; leap seconds are not usual
        return None
    return ((hour * 60 + minute) * 60 + second) * 1000 + (int(text[7:].ljust(3, "0")) if text[7:] else 0)


@lru_cache(maxsize=8)
def _day(text: str) -> int | None:
    # GPS time began in 1980: a two-digit year before 80 is of this century.
    century = 1900 if text[4:] >= "80" else 2000
    try:
        return date(century + int(text[4:]), int(text[2:4]), int(text[:2])).toordinal() - UNIX_DAY_0
    except ValueError:
        return None


@lru_cache(maxsize=8)
def _place(place: tuple[str, ...]) -> tuple[float, float] | None:
    """Most sentences of an epoch repeat its place."""
    lat_whole, lat_minutes, north_south, lon_whole, lon_minutes, east_west = place
    lat_deg = int(lat_whole) + float(lat_minutes) / 60
    lon_deg = int(lon_whole) + float(lon_minutes) / 60
    if lat_deg > 89 or lon_deg > 179 or lat_deg == lon_deg == 0:  # noqa: PLR2004 - the edges are not usual
        return None
    return (lat_deg if north_south == "N" else -lat_deg), (lon_deg if east_west == "E" else -lon_deg)


def _rmc(body: str) -> Sentence | None:
    match = _RMC.fullmatch(body)
    if match is None:
        return None
    time, *place, knots, course, day_text = match.groups()
    where, time_ms, day = _place(tuple(place)), _time_ms(time), _day(day_text)
    if where is None or time_ms is None or day is None:
        return None
    return Sentence(
        body[:5],
        "RMC",
        is_solution=True,
        time_of_day_ms=time_ms,
        day=day,
        valid=True,
        lat_deg=where[0],
        lon_deg=where[1],
        speed_mps=float(knots) * MPS_PER_KNOT,
        course_deg=None if course is None else float(course),
    )


def _gga(body: str) -> Sentence | None:
    match = _GGA.fullmatch(body)
    if match is None:
        return None
    time, *place, satellites, hdop, alt = match.groups()
    where, time_ms = _place(tuple(place)), _time_ms(time)
    if where is None or time_ms is None:
        return None
    return Sentence(
        body[:5],
        "GGA",
        is_solution=True,
        time_of_day_ms=time_ms,
        valid=True,
        lat_deg=where[0],
        lon_deg=where[1],
        alt_m=float(alt),
        satellites=int(satellites),
        hdop=_hdop(hdop),
    )


def _gll(body: str) -> Sentence | None:
    match = _GLL.fullmatch(body)
    if match is None:
        return None
    *place, time = match.groups()
    where, time_ms = _place(tuple(place)), _time_ms(time)
    if where is None or time_ms is None:
        return None
    return Sentence(
        body[:5],
        "GLL",
        is_solution=True,
        time_of_day_ms=time_ms,
        valid=True,
        lat_deg=where[0],
        lon_deg=where[1],
    )


def _gsa(body: str) -> Sentence | None:
    match = _GSA.fullmatch(body)
    if match is None:
        return None
    return Sentence(body[:5], "GSA", is_solution=False, mode=_MODES[match[1]], hdop=_hdop(match[2]))


def _vtg(body: str) -> Sentence | None:
    match = _VTG.fullmatch(body)
    if match is None:
        return None
    course, knots = match.groups()
    return Sentence(
        body[:5],
        "VTG",
        is_solution=False,
        speed_mps=float(knots) * MPS_PER_KNOT,
        course_deg=None if course is None else float(course),
    )


def _hdop(text: str) -> float | None:
    value = float(text)
    return value if 0 < value < 50 else None  # noqa: PLR2004 - as the thorough reader has it


_MODES = {"2": FixMode.FIX_2D, "3": FixMode.FIX_3D}
USUAL: dict[str, Callable[[str], Sentence | None]] = {
    "RMC": _rmc,
    "GGA": _gga,
    "GLL": _gll,
    "GSA": _gsa,
    "VTG": _vtg,
}
"""Type to its quick reader, which returns None for a sentence that is not of the usual shape."""
