"""One NMEA 0183 sentence becomes values: strict about numbers, blind to what is not needed.

pynmea2 knows the layout of each sentence type. Its conversions are not used: they read an empty position as
0.0/0.0, hand out a malformed time as text, and fail only when a malformed latitude is looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date

from pynmea2 import TalkerSentence
from pynmea2.types.talker import GGA, GLL, GNS, GSA, GST, RMC, VTG, ZDA

from agent.domain.fix import FixMode
from agent.sources.gnss.nmea_framing import Rejection
from agent.sources.gnss.sentence import MPS_PER_KNOT, UNIX_DAY_0, Sentence

# A receiver that drops leading zeros drops them everywhere: a time or date of five digits lost its first.
_TIME = re.compile(r"(\d?\d)(\d\d)(\d\d)(?:\.(\d*))?")
_DATE = re.compile(r"(\d?\d)(\d\d)(\d\d)")
# Two digits left of the point are minutes, what is left of them are degrees and may be nothing.
_ANGLE = re.compile(r"([-+]?)(\d{0,3}?)(\d{0,2}(?:\.\d*)?)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_WHOLE_NUMBER = re.compile(r"\d{1,4}")

# FAA mode indicators with a measured position: autonomous, differential, estimated (dead reckoning), RTK
# float, precise, RTK. Not among them: N (no fix), M (typed in by hand) and S (simulated).
_MEASURED_MODES = frozenset("ADEFPR")
# GGA quality likewise: 0 is no fix, 7 typed in, 8 simulated; 9 is used by NovAtel for an SBAS fix.
_MEASURED_QUALITIES = frozenset("1234569")
SOLUTION_TYPES = frozenset({"RMC", "GGA", "GNS", "GLL"})
"""The types that state a solution. ZDA is not among them: a clock of its own, it may be seconds off."""
# Status A is "data valid"; D is sent by some receivers with differential corrections.
_VALID_STATUSES = frozenset("AD")


class FieldError(ValueError):
    """A field without which the sentence can not be used is malformed."""


def parse_thoroughly(body: str) -> Sentence | Rejection | None:
    """Read one sentence of any shape, field by field.

    A malformed time, date, status or position rejects the sentence. Any other malformed field is left out and
    counted in `bad_fields`: a quirk in the course must not cost the position.

    Args:
        body: what stands between `$` and `*`.

    Returns:
        The values; a Rejection; or None for a sentence of a type that is not needed.
    """
    reader = _READERS.get(body[2:5])
    # `P` begins proprietary sentences, e.g. PQGSA, whose names can look like ours.
    if reader is None or body[0] == "P" or body[5:6] not in (",", ""):
        return None
    needed_fields, layout, read = reader
    fields = body.split(",")
    if len(fields) <= needed_fields:
        return Rejection.MALFORMED
    message = _Fields(layout, fields[1:])
    sentence = Sentence(body[:5], body[2:5], is_solution=body[2:5] in SOLUTION_TYPES)
    try:
        read(message, sentence)
    except FieldError:
        return Rejection.BAD_FIELD
    sentence.bad_fields = message.bad
    return sentence


class _Fields:
    """The fields of one sentence by pynmea2's names; a field that is missing at the end is empty."""

    __slots__ = ("_data", "_index", "bad")

    def __init__(self, layout: type[TalkerSentence], data: list[str]) -> None:
        self._index: dict[str, int] = layout.name_to_idx
        self._data = data
        self.bad = 0

    def text(self, name: str) -> str:
        index = self._index[name]
        return self._data[index].strip() if index < len(self._data) else ""

    def number(self, name: str, least: float, most: float) -> float | None:
        """A number within its bounds; None when empty; None and counted when malformed."""
        text = self.text(name)
        if not text:
            return None
        if _NUMBER.fullmatch(text) and least <= (value := float(text)) <= most:
            return value
        self.bad += 1
        return None

    def count(self, name: str) -> int | None:
        text = self.text(name)
        if not text:
            return None
        if _WHOLE_NUMBER.fullmatch(text):
            return int(text)
        self.bad += 1
        return None

    def hdop(self, name: str) -> float | None:
        # Receivers write 99.99, 50.0 or 0.0 for "none"; a solution with more than 50 is no use to anybody.
        value = self.number(name, 0, 1000)
        return value if value is not None and 0 < value < 50 else None  # noqa: PLR2004 - said above

    def course_deg(self, name: str) -> float | None:
        value = self.number(name, 0, 360)
        return 0.0 if value == 360 else value  # noqa: PLR2004 - a full circle

    def speed_mps(self, name: str) -> float | None:
        knots = self.number(name, 0, 2000)
        return None if knots is None else knots * MPS_PER_KNOT

    def time_of_day_ms(self) -> int | None:
        text = self.text("timestamp")
        if not text:
            return None
        match = _TIME.fullmatch(text)
        if match is None:
            raise FieldError(text)
        hour, minute, second = int(match[1]), int(match[2]), int(match[3])
        # A leap second is 23:59:60, and nothing else has a second 60.
        if hour > 23 or minute > 59 or second > (60 if (hour, minute) == (23, 59) else 59):  # noqa: PLR2004 - a clock
            raise FieldError(text)
        micros = int((match[4] or "").ljust(6, "0")[:6])
        return ((hour * 60 + minute) * 60 + second) * 1000 + (micros + 500) // 1000

    def position(self) -> tuple[float, float] | None:
        """Latitude and longitude in degrees; None when all four fields are empty."""
        latitude, north_south = self.text("lat"), self.text("lat_dir")
        longitude, east_west = self.text("lon"), self.text("lon_dir")
        if not latitude and not longitude:
            return None
        lat_deg = _angle_deg(latitude, north_south, "N", "S", 90)
        lon_deg = _angle_deg(longitude, east_west, "E", "W", 180)
        if lat_deg == 0 and lon_deg == 0:
            # What receivers send that know nothing. No road leads there.
            raise FieldError("0/0")
        return lat_deg, lon_deg


def _angle_deg(text: str, direction: str, positive: str, negative: str, most: float) -> float:
    match = _ANGLE.fullmatch(text)
    if match is None or match[3] in ("", ".") or direction not in (positive, negative):
        raise FieldError(text, direction)
    minutes = float(match[3])
    degrees = int(match[2] or "0") + minutes / 60
    if minutes >= 60 or degrees > most:  # noqa: PLR2004 - minutes of arc
        raise FieldError(text)
    if direction == positive:
        return -degrees if match[1] == "-" else degrees
    if match[1]:
        raise FieldError(text, direction)  # "-12.3,W": twice west, or east after all?
    return -degrees


def _day(year: int, month: int, day: int) -> int:
    try:
        return date(year, month, day).toordinal() - UNIX_DAY_0
    except ValueError as error:
        raise FieldError(f"{year}-{month}-{day}") from error


def _read_position(fields: _Fields, sentence: Sentence, *, valid: bool) -> None:
    sentence.time_of_day_ms = fields.time_of_day_ms()
    sentence.valid = valid
    if valid and (position := fields.position()) is not None:
        sentence.lat_deg, sentence.lon_deg = position


def _valid(fields: _Fields, faa_mode: str) -> bool:
    """Status says valid and the mode, which NMEA before 2.3 does not have, says measured."""
    status, mode = fields.text("status"), fields.text(faa_mode)
    if status not in ("", "A", "D", "V"):
        raise FieldError(status)
    return status in _VALID_STATUSES and (not mode or mode in _MEASURED_MODES)


def _read_rmc(fields: _Fields, sentence: Sentence) -> None:
    _read_position(fields, sentence, valid=_valid(fields, "mode_indicator"))
    if sentence.valid:
        sentence.speed_mps = fields.speed_mps("spd_over_grnd")
        sentence.course_deg = fields.course_deg("true_course")
    text = fields.text("datestamp")
    if text:
        match = _DATE.fullmatch(text)
        if match is None:
            raise FieldError(text)
        year = int(match[3])
        # GPS time began in 1980: a two-digit year before 80 is of this century.
        sentence.day = _day(year + (1900 if year >= 80 else 2000), int(match[2]), int(match[1]))  # noqa: PLR2004


def _read_gga(fields: _Fields, sentence: Sentence) -> None:
    quality = fields.text("gps_qual")
    if quality not in ("", "0", "7", "8") and quality not in _MEASURED_QUALITIES:
        raise FieldError(quality)
    _read_position(fields, sentence, valid=quality in _MEASURED_QUALITIES)
    _read_solution(fields, sentence, "horizontal_dil")


def _read_gns(fields: _Fields, sentence: Sentence) -> None:
    modes = fields.text("mode_indicator")
    _read_position(fields, sentence, valid=not _MEASURED_MODES.isdisjoint(modes))
    if not modes:
        # The sentence of a single constellation within a common solution: it counts satellites, no more.
        sentence.valid = None
    _read_solution(fields, sentence, "hdop")


def _read_solution(fields: _Fields, sentence: Sentence, hdop: str) -> None:
    sentence.satellites = fields.count("num_sats")
    if sentence.valid:
        sentence.hdop = fields.hdop(hdop)
        sentence.alt_m = fields.number("altitude", -1000, 20_000)


def _read_gll(fields: _Fields, sentence: Sentence) -> None:
    _read_position(fields, sentence, valid=_valid(fields, "faa_mode"))


def _read_gsa(fields: _Fields, sentence: Sentence) -> None:
    mode = fields.text("mode_fix_type")
    if mode:
        if mode not in ("1", "2", "3"):
            raise FieldError(mode)
        sentence.mode = FixMode(int(mode))
    if sentence.mode is not FixMode.NONE:
        sentence.hdop = fields.hdop("hdop")


def _read_vtg(fields: _Fields, sentence: Sentence) -> None:
    mode = fields.text("faa_mode")
    if not mode or mode in _MEASURED_MODES:
        sentence.speed_mps = fields.speed_mps("spd_over_grnd_kts")
        sentence.course_deg = fields.course_deg("true_track")


def _read_zda(fields: _Fields, sentence: Sentence) -> None:
    sentence.time_of_day_ms = fields.time_of_day_ms()
    day, month, year = fields.count("day"), fields.count("month"), fields.count("year")
    if fields.bad:
        raise FieldError("date")
    if day is not None and month is not None and year is not None:
        sentence.day = _day(year, month, day)
        sentence.has_full_year = True


def _read_gst(fields: _Fields, sentence: Sentence) -> None:
    sentence.time_of_day_ms = fields.time_of_day_ms()
    lat_m, lon_m = fields.number("std_dev_latitude", 0, 1e6), fields.number("std_dev_longitude", 0, 1e6)
    if lat_m is not None and lon_m is not None and (lat_m or lon_m):
        sentence.error_m = math.hypot(lat_m, lon_m)


# Type to: number of fields it must have at least, layout, reader.
_READERS: dict[str, tuple[int, type[TalkerSentence], Callable[[_Fields, Sentence], None]]] = {
    "RMC": (9, RMC, _read_rmc),
    "GGA": (9, GGA, _read_gga),
    "GNS": (9, GNS, _read_gns),
    "GLL": (6, GLL, _read_gll),
    "GSA": (17, GSA, _read_gsa),
    "GST": (8, GST, _read_gst),
    "VTG": (8, VTG, _read_vtg),
    "ZDA": (4, ZDA, _read_zda),
}
