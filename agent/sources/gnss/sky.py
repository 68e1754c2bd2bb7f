"""Which satellites a receiver hears, and how well: kept as it came, read when a person looks.

A receiver repeats this several times a second, and hardly ever does anybody look.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

FRESH_NS = 6 * 1_000_000_000
"""Receivers tell their satellites every second to every five; what is older is not the sky any more."""
MOST_SENTENCES = 64
MOST_SATELLITES = 128
_SYSTEMS = {
    "GP": "GPS", "GL": "GLONASS", "GA": "Galileo", "GB": "BeiDou", "BD": "BeiDou", "GQ": "QZSS",
    "QZ": "QZSS", "GI": "NavIC", "GN": "all",
}  # fmt: skip
_GNSS_IDS = {0: "GPS", 1: "SBAS", 2: "Galileo", 3: "BeiDou", 5: "QZSS", 6: "GLONASS", 7: "NavIC"}
"""Of UBX and gpsd."""
NAV_SAT = (0x01, 0x35)
"""Class and number of UBX-NAV-SAT."""
_NAV_SAT = struct.Struct("<BBBbhhI")
_USED = 1 << 3


@dataclass(frozen=True, slots=True)
class Satellite:
    """One that the receiver knows of. What it does not tell is None.

    Attributes:
        system: e.g. "GPS".
        number: as the receiver counts them.
        elevation_deg: above the horizon.
        azimuth_deg: from true north.
        signal_dbhz: carrier to noise density of its best signal; None when it is not heard.
        used: whether the position comes of it as well.
    """

    system: str
    number: int
    elevation_deg: int | None = None
    azimuth_deg: int | None = None
    signal_dbhz: int | None = None
    used: bool | None = None


class Sky:
    """The newest that a receiver said of satellites, bounded whatever it says."""

    def __init__(self) -> None:
        self._sentences: deque[tuple[int, str]] = deque(maxlen=MOST_SENTENCES)
        self._nav_sat: tuple[int, bytes] | None = None
        self._gpsd: tuple[int, list[Any]] | None = None

    def take_gsv(self, body: str, received_boottime_ns: int) -> None:
        """A GSV sentence, what stands between `$` and `*`."""
        self._sentences.append((received_boottime_ns, body))

    def take_nav_sat(self, payload: bytes, received_boottime_ns: int) -> None:
        """The payload of UBX-NAV-SAT."""
        self._nav_sat = received_boottime_ns, payload[: 8 + MOST_SATELLITES * _NAV_SAT.size]

    def take_gpsd(self, satellites: Any, received_boottime_ns: int) -> None:
        """The list of gpsd's SKY report."""
        if isinstance(satellites, list):
            self._gpsd = received_boottime_ns, satellites[:MOST_SATELLITES]

    def satellites(self, now_ns: int) -> list[Satellite] | None:
        """Those told lately, the best heard first; None when the receiver tells nothing of them."""
        found: dict[tuple[str, int], Satellite] = {}
        told = False
        for at_ns, body in self._sentences:
            if now_ns - at_ns <= FRESH_NS:
                told = True
                _merge(found, _of_gsv(body))
        if self._nav_sat is not None and now_ns - self._nav_sat[0] <= FRESH_NS:
            told = True
            _merge(found, _of_nav_sat(self._nav_sat[1]))
        if self._gpsd is not None and now_ns - self._gpsd[0] <= FRESH_NS:
            told = True
            _merge(found, _of_gpsd(self._gpsd[1]))
        if not told:
            return None
        best_first = sorted(found.values(), key=lambda one: (-(one.signal_dbhz or 0), one.system, one.number))
        return best_first[:MOST_SATELLITES]


def _merge(found: dict[tuple[str, int], Satellite], new: Iterator[Satellite]) -> None:
    """A satellite has several signals, each in a message of its own: the best counts."""
    for one in new:
        known = found.get((one.system, one.number))
        if known is not None:
            signals = [s for s in (known.signal_dbhz, one.signal_dbhz) if s is not None]
            one = replace(  # noqa: PLW2901  # the same satellite, with what both say
                one,
                signal_dbhz=max(signals, default=None),
                used=known.used if one.used is None else one.used,
            )
        found[one.system, one.number] = one


def _of_gsv(body: str) -> Iterator[Satellite]:
    """NMEA 0183: number of sentences, which, in view; four fields a satellite; since 4.1 a signal's id."""
    fields = body.split(",")
    system, rest = _SYSTEMS.get(body[:2], body[:2]), fields[4:]
    for at in range(0, len(rest) - 3, 4):
        number = _within(rest[at], 1, 999)
        if number is not None:
            yield Satellite(
                system,
                number,
                _within(rest[at + 1], -90, 90),
                _within(rest[at + 2], 0, 360),
                _within(rest[at + 3], 1, 99),
            )


def _of_nav_sat(payload: bytes) -> Iterator[Satellite]:
    for at in range(8, len(payload) - _NAV_SAT.size + 1, _NAV_SAT.size):
        gnss, number, signal, elevation, azimuth, _, flags = _NAV_SAT.unpack_from(payload, at)
        known = abs(elevation) <= 90  # noqa: PLR2004  # an elevation out of range is u-blox' "unknown"
        yield Satellite(
            _GNSS_IDS.get(gnss, f"system {gnss}"),
            number,
            elevation if known else None,
            azimuth if known else None,
            signal or None,
            bool(flags & _USED),
        )


def _of_gpsd(satellites: list[Any]) -> Iterator[Satellite]:
    for one in satellites:
        number = _within(one.get("svid", one.get("PRN")), 1, 999) if isinstance(one, dict) else None
        if number is None:
            continue
        used = one.get("used")
        yield Satellite(
            _GNSS_IDS.get(_within(one.get("gnssid"), 0, 7) or 0, "?") if "gnssid" in one else "?",
            number,
            _within(one.get("el"), -90, 90),
            _within(one.get("az"), 0, 360),
            _within(one.get("ss"), 1, 99),
            used if isinstance(used, bool) else None,
        )


def _within(given: Any, least: int, most: int) -> int | None:
    """A whole number; None for what is none or out of bounds: a quirk there costs nobody the rest."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return None
    try:
        value = round(float(given))
    except (ValueError, OverflowError):
        return None
    return value if least <= value <= most else None
