"""What gpsd says of a receiver that it reads for us: one JSON object a line (gpsd_json(5))."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from agent.domain.fix import Fix, FixMode
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.nmea_framing import Rejection
from agent.sources.gnss.sky import Sky
from agent.sources.gnss.ubx import RadioState

MAX_LINE_BYTES = 32_768
"""A SKY of all constellations is a few kilobytes."""
_SIGMAS_95 = 1.73
"""gpsd's `eph` holds 95 of 100; of two equal normal errors that is so many root mean squares."""
_MODES = {2: FixMode.FIX_2D, 3: FixMode.FIX_3D}
_MOST_HDOP = 50


class GpsdDecoder:
    """Bytes of gpsd to fixes. Has the face of `ReceiverDecoder`.

    Attributes:
        sentences: number of objects that could be read.
        rejections: number of lines that could not, by reason.
    """

    def __init__(self) -> None:
        self._tail = b""
        self._satellites: int | None = None
        self._hdop: float | None = None
        self._told_ms: int | None = None
        self.sky = Sky()
        self.sentences = 0
        self.rejections: Counter[Rejection] = Counter()

    @property
    def idle_gap_s(self) -> float | None:
        """None: each report is whole."""
        return None

    @property
    def radio(self) -> RadioState:
        """gpsd does not tell."""
        return RadioState()

    def feed(self, chunk: NmeaBytes) -> list[Fix]:
        """Take what one read gave; return the fixes in it."""
        *lines, self._tail = (self._tail + chunk.data).split(b"\n")
        if len(self._tail) > MAX_LINE_BYTES:
            self._tail = b""
            self.rejections[Rejection.TOO_LONG] += 1
        fixes: list[Fix] = []
        for line in lines:
            fixes += self._line(line.strip(), chunk.received_boottime_ns)
        return fixes

    def idle(self) -> list[Fix]:
        """Nothing waits for its end."""
        return []

    def finish(self) -> list[Fix]:
        """Nothing waits for its end."""
        return []

    def _line(self, line: bytes, received_boottime_ns: int) -> list[Fix]:
        if not line:
            return []
        try:
            said = json.loads(line)
            fixes = self._object(said, received_boottime_ns) if isinstance(said, dict) else None
        except (ValueError, TypeError, OverflowError, RecursionError):
            fixes = None
        if fixes is None:
            self.rejections[Rejection.MALFORMED] += 1
            return []
        self.sentences += 1
        return fixes

    def _object(self, said: dict[str, Any], received_boottime_ns: int) -> list[Fix]:
        if said.get("class") == "SKY":
            self._sky(said)
            self.sky.take_gpsd(said.get("satellites"), received_boottime_ns)
        if said.get("class") != "TPV" or "mode" not in said:
            return []
        fix = self._tpv(said, received_boottime_ns)
        # gpsd reports some epochs twice, as its knowledge grows; the first report with a time counts.
        if fix.utc_ms is not None and fix.utc_ms == self._told_ms:
            return []
        self._told_ms = fix.utc_ms
        return [fix]

    def _sky(self, said: dict[str, Any]) -> None:
        self._satellites = None if "uSat" not in said else int(_number(said, "uSat", 0, 200) or 0)
        hdop = _number(said, "hdop", 0, 1000)
        self._hdop = hdop if hdop is not None and 0 < hdop < _MOST_HDOP else None

    def _tpv(self, said: dict[str, Any], received_boottime_ns: int) -> Fix:
        lat_deg, lon_deg = _number(said, "lat", -90, 90), _number(said, "lon", -180, 180)
        mode = _MODES.get(said["mode"], FixMode.NONE)
        if lat_deg is None or lon_deg is None or (lat_deg == 0 and lon_deg == 0):
            mode = FixMode.NONE
        placed = mode is not FixMode.NONE
        alt_m = _number(said, "altMSL", -1000, 20_000)
        error_m = _number(said, "eph", 0, 1e6)
        course_deg = _number(said, "track", 0, 360)
        return Fix(
            utc_ms=_utc_ms(said),
            lat_deg=lat_deg if placed else None,
            lon_deg=lon_deg if placed else None,
            alt_m=(_number(said, "alt", -1000, 20_000) if alt_m is None else alt_m) if placed else None,
            speed_mps=_number(said, "speed", 0, 1000) if placed else None,
            course_deg=None if course_deg is None or not placed else course_deg % 360,
            mode=mode,
            satellites=self._satellites,
            hdop=self._hdop if placed else None,
            received_boottime_ns=received_boottime_ns,
            error_m=error_m / _SIGMAS_95 if error_m and placed else None,
        )


def _number(said: dict[str, Any], key: str, least: float, most: float) -> float | None:
    """A number within its bounds; None when absent. Raises ValueError, TypeError."""
    value = said.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{key} is no number")
    if not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"{key} is out of range")
    return float(value)


def _utc_ms(said: dict[str, Any]) -> int | None:
    text = said.get("time")
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
