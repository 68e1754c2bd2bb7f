"""NMEA 0183 sentences as a modern multi-constellation receiver sends them (talkers GN, GP, GL; NMEA 4.10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import xor

from hil.drive.route import GeoPoint

KNOTS_PER_MPS = 3600 / 1852
GEOID_SEPARATION_M = -28.0
"""Height of the geoid over the WGS 84 ellipsoid in Boston."""
GLONASS_FROM = 65
"""Satellites from this number on are GLONASS in NMEA numbering."""


@dataclass(frozen=True, slots=True)
class Satellite:
    """A satellite in view: its NMEA number, and its signal in dB-Hz, None when it is not tracked."""

    number: int
    elevation_deg: int
    azimuth_deg: int
    signal_dbhz: int | None
    used: bool


@dataclass(frozen=True, slots=True)
class Solution:
    """What the receiver computed for one epoch.

    Attributes:
        point: WGS 84 latitude and longitude.
        alt_m: height above mean sea level.
        speed_mps: speed over ground.
        course_deg: None at standstill, when the receiver does not tell one.
        hdop: horizontal dilution of precision.
        vdop: vertical dilution of precision.
    """

    point: GeoPoint
    alt_m: float
    speed_mps: float
    course_deg: float | None
    hdop: float
    vdop: float


def sentence(body: str) -> bytes:
    """A sentence from what stands between "$" and "*", with checksum and line end."""
    checksum = reduce(xor, body.encode("ascii"), 0)
    return f"${body}*{checksum:02X}\r\n".encode("ascii")


def epoch_sentences(
    unix_ms: int, solution: Solution | None, satellites: Sequence[Satellite], *, with_view: bool
) -> Iterator[bytes]:
    """All sentences of one epoch: RMC, GGA, two GSA, and the satellites in view when asked for.

    Args:
        unix_ms: the epoch's UTC; the receiver's own clock knows it also without a fix.
        solution: None without a fix.
        satellites: those in view.
        with_view: add GSV.
    """
    time = datetime.fromtimestamp(unix_ms / 1000, UTC)
    clock, date = f"{time:%H%M%S}.{time.microsecond // 10_000:02d}", f"{time:%d%m%y}"
    used = [satellite for satellite in satellites if satellite.used] if solution else []
    if solution is None:
        yield sentence(f"GNRMC,{clock},V,,,,,,,{date},,,N,V")
        yield sentence(f"GNGGA,{clock},,,,,0,00,99.99,,,,,,")
    else:
        where = _where(solution.point)
        knots = f"{solution.speed_mps * KNOTS_PER_MPS:.3f}"
        course = "" if solution.course_deg is None else f"{round(solution.course_deg, 2) % 360:.2f}"
        yield sentence(f"GNRMC,{clock},A,{where},{knots},{course},{date},,,A,V")
        yield sentence(
            f"GNGGA,{clock},{where},1,{len(used):02d},{solution.hdop:.2f},"
            f"{solution.alt_m:.1f},M,{GEOID_SEPARATION_M:.1f},M,,"
        )
    yield from _used(solution, used)
    if with_view:
        yield from _in_view("GP", 1, [one for one in satellites if one.number < GLONASS_FROM])
        yield from _in_view("GL", 2, [one for one in satellites if one.number >= GLONASS_FROM])


def _where(point: GeoPoint) -> str:
    lat, lon = point
    north, east = "S" if lat < 0 else "N", "W" if lon < 0 else "E"
    return f"{_minutes(lat, 2)},{north},{_minutes(lon, 3)},{east}"


def _minutes(degrees: float, digits: int) -> str:
    """Degrees and decimal minutes; counted in 1e-5 minutes so that 59.999999 never becomes 60.00000."""
    whole, minutes_e5 = divmod(round(abs(degrees) * 60e5), 60 * 100_000)
    return f"{whole:0{digits}d}{minutes_e5 // 100_000:02d}.{minutes_e5 % 100_000:05d}"


def _used(solution: Solution | None, used: Sequence[Satellite]) -> Iterator[bytes]:
    if solution is None:
        mode, dops = 1, "99.99,99.99,99.99"
    else:
        mode = 3 if len(used) >= 4 else 2
        pdop = (solution.hdop**2 + solution.vdop**2) ** 0.5
        dops = f"{pdop:.2f},{solution.hdop:.2f},{solution.vdop:.2f}"
    for system, lowest, highest in ((1, 1, GLONASS_FROM - 1), (2, GLONASS_FROM, 99)):
        numbers = [f"{one.number:02d}" for one in used if lowest <= one.number <= highest][:12]
        numbers += [""] * (12 - len(numbers))
        yield sentence(f"GNGSA,A,{mode},{','.join(numbers)},{dops},{system}")


def _in_view(talker: str, signal: int, satellites: Sequence[Satellite]) -> Iterator[bytes]:
    pages = max((len(satellites) + 3) // 4, 1)
    for page in range(pages):
        fields = "".join(
            f",{one.number:02d},{one.elevation_deg:02d},{one.azimuth_deg:03d},"
            + ("" if one.signal_dbhz is None else f"{one.signal_dbhz:02d}")
            for one in satellites[4 * page : 4 * page + 4]
        )
        yield sentence(f"{talker}GSV,{pages},{page + 1},{len(satellites):02d}{fields},{signal}")
