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

_TIME = r"([0-9]{6}(?:\.[0-9]{1,3})?)"
_PLACE = r"([0-9]{2}[0-5][0-9]\.[0-9]{1,9},[NS],[0-9]{3}[0-5][0-9]\.[0-9]{1,9},[EW])"
_SPEED = r"([0-9]{1,3}\.[0-9]{1,4})"
_COURSE = r"((?:[0-2]?[0-9]?[0-9]|3[0-5][0-9])\.[0-9]{1,4})?"
_RMC = re.compile(
    rf"..RMC,{_TIME},A,{_PLACE},{_SPEED},{_COURSE},([0-9]{{6}}),[0-9.]*,[EW]?(?:,[ADEFPR](?:,[A-Z])?)?"
)
_GGA = re.compile(
    rf"..GGA,{_TIME},{_PLACE},[1-6],([0-9]{{1,2}}),([1-9]?[0-9]\.[0-9]{{1,2}}),"
    r"(-?[0-9]{1,3}\.[0-9]{1,3}),M,[-0-9.]*,M,[0-9.]*,[0-9]*"
)
_GLL = re.compile(rf"..GLL,{_PLACE},{_TIME},A(?:,[ADEFPR])?")
_GSA = re.compile(
    r"..GSA,[AM],([23])(?:,[0-9]{0,3}){12},[0-9.]*,([1-4]?[0-9]\.[0-9]{1,2}),[0-9.]*(?:,[0-9])?"
)
_GSA_WITHOUT_FIX = re.compile(r"..GSA,[AM],1(?:,[0-9]{0,3}){12},[0-9.]*,[0-9.]*,[0-9.]*(?:,[0-9])?")
_RMC_WITHOUT_FIX = re.compile(rf"..RMC,{_TIME}?,V,,,,,,,([0-9]{{6}})?,,(?:,N?(?:,[A-Z])?)?")
_GGA_WITHOUT_FIX = re.compile(rf"..GGA,{_TIME}?,,,,,0,([0-9]{{1,2}})?,[0-9.]*,,M?,,M?,,[0-9]*")
_VTG = re.compile(rf"..VTG,{_COURSE},T,[0-9.]*,M,{_SPEED},N,[0-9.]*,K(?:,[ADEFPR])?")


def read_usual(body: str) -> Sentence | None:
    """Values of a sentence of usual shape, checksum already verified; None for any other."""
    read = USUAL.get(body[2:5])
    # `P` begins proprietary sentences, whose names can look like ours.
    return None if read is None or body[0] == "P" else read(body)


@lru_cache(maxsize=8)
def _time_ms(text: str) -> int | None:
    """The sentences of an epoch repeat its time."""
    minute_ms, second = _minute_ms(text[:4]), float(text[4:])
    if minute_ms is None or second >= 60:  # noqa: PLR2004 - a clock; leap seconds are not usual
        return None
    return minute_ms + round(second * 1000)


@lru_cache(maxsize=2)
def _minute_ms(text: str) -> int | None:
    hour, minute = int(text[:2]), int(text[2:])
    return None if hour > 23 or minute > 59 else (hour * 60 + minute) * 60_000  # noqa: PLR2004 - a clock


@lru_cache(maxsize=8)
def _day(text: str) -> int | None:
    # GPS time began in 1980: a two-digit year before 80 is of this century.
    century = 1900 if text[4:] >= "80" else 2000
    try:
        return date(century + int(text[4:]), int(text[2:4]), int(text[:2])).toordinal() - UNIX_DAY_0
    except ValueError:
        return None


@lru_cache(maxsize=8)
def _place(text: str) -> tuple[float, float] | None:
    """Most sentences of an epoch repeat its place."""
    latitude, north_south, longitude, east_west = text.split(",")
    lat_deg = int(latitude[:2]) + float(latitude[2:]) / 60
    lon_deg = int(longitude[:3]) + float(longitude[3:]) / 60
    if lat_deg > 89 or lon_deg > 179 or lat_deg == lon_deg == 0:  # noqa: PLR2004 - the edges are not usual
        return None
    return (lat_deg if north_south == "N" else -lat_deg), (lon_deg if east_west == "E" else -lon_deg)


# Sentences are made by position: by name takes twice as long, and this is done all day.
# Name, type, is_solution, time, day, has_full_year, valid, latitude, longitude, height, speed, course, mode,
# satellites, HDOP.


def _rmc(body: str) -> Sentence | None:
    match = _RMC.fullmatch(body)
    if match is None:
        return _without_fix(body, "RMC", _RMC_WITHOUT_FIX)
    time, place, knots, course, day_text = match.groups()
    where, time_ms, day = _place(place), _time_ms(time), _day(day_text)
    if where is None or time_ms is None or day is None:
        return None
    speed_mps, course_deg = float(knots) * MPS_PER_KNOT, None if course is None else float(course)
    return Sentence(body[:5], "RMC", True, time_ms, day, False, True, *where, None, speed_mps, course_deg)


def _without_fix(body: str, name: str, shape: re.Pattern[str]) -> Sentence | None:
    match = shape.fullmatch(body)
    if match is None:
        return None
    time, number = match.groups()
    time_ms = None if time is None else _time_ms(time)
    day = _day(number) if name == "RMC" and number is not None else None
    if (time is not None and time_ms is None) or (name == "RMC" and number is not None and day is None):
        return None
    sentence = Sentence(body[:5], name, True, time_ms, day, False, False)
    if name == "GGA" and number is not None:
        sentence.satellites = int(number)
    return sentence


def _gga(body: str) -> Sentence | None:
    match = _GGA.fullmatch(body)
    if match is None:
        return _without_fix(body, "GGA", _GGA_WITHOUT_FIX)
    time, place, satellites, hdop, alt = match.groups()
    where, time_ms = _place(place), _time_ms(time)
    if where is None or time_ms is None:
        return None
    said = int(satellites), _hdop(hdop)
    return Sentence(
        body[:5], "GGA", True, time_ms, None, False, True, *where, float(alt), None, None, None, *said
    )


def _gll(body: str) -> Sentence | None:
    match = _GLL.fullmatch(body)
    if match is None:
        return None
    place, time = match.groups()
    where, time_ms = _place(place), _time_ms(time)
    if where is None or time_ms is None:
        return None
    return Sentence(body[:5], "GLL", True, time_ms, None, False, True, *where)


@lru_cache(maxsize=64)
def _gsa(body: str) -> Sentence | None:
    """What satellites are used changes every few seconds, and is told in every epoch."""
    match = _GSA.fullmatch(body)
    if match is None:
        if _GSA_WITHOUT_FIX.fullmatch(body) is None:
            return None
        return Sentence(body[:5], "GSA", False, mode=FixMode.NONE)
    return Sentence(body[:5], "GSA", False, mode=_MODES[match[1]], hdop=_hdop(match[2]))


def _vtg(body: str) -> Sentence | None:
    match = _VTG.fullmatch(body)
    if match is None:
        return None
    course, knots = match.groups()
    speed_mps, course_deg = float(knots) * MPS_PER_KNOT, None if course is None else float(course)
    return Sentence(body[:5], "VTG", False, speed_mps=speed_mps, course_deg=course_deg)


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
