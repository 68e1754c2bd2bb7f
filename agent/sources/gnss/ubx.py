"""u-blox's binary protocol: frames out of a stream of bytes, and the few messages that make a fix.

Layouts are those of the interface descriptions of u-blox 5 to 10; everything is little-endian. A receiver
that sends NAV-PVT says all in one message. Older ones say it in several of one epoch, which share their iTOW.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent.domain.fix import Fix, FixMode

SYNC = b"\xb5\x62"
HEADER_BYTES = 6
CHECKSUM_BYTES = 2
MAX_PAYLOAD_BYTES = 2048
"""Raw measurements of all constellations fit; what claims to be longer is noise."""
GPS_EPOCH_MS = 315_964_800_000
WEEK_MS = 604_800_000

_PVT = struct.Struct("<IHBBBBBBIiBBBBiiiiIIiiiii")
_POSLLH = struct.Struct("<Iiiii")
_STATUS = struct.Struct("<IBB")
_SOL = struct.Struct("<IihBBiiiIiiiIHBB")
_VELNED = struct.Struct("<IiiiIIi")
_TIMEUTC = struct.Struct("<IIiHBBBBBB")
_TIMEGPS = struct.Struct("<IihbB")
_DOP = struct.Struct("<IHHHHH")
_RF_HEAD = struct.Struct("<BB")
_RF_BLOCK = struct.Struct("<BBBB")

_MODES = {2: FixMode.FIX_2D, 3: FixMode.FIX_3D, 4: FixMode.FIX_3D}
"""Fix types with a measured position; 1 is dead reckoning alone, 5 time alone."""
_FIX_OK = 0x01
_DATE_AND_TIME = 0x03
_UTC_VALID = 0x04
_WEEK_VALID = 0x03
_LEAP_VALID = 0x04
_RF_BLOCK_BYTES = 24


@dataclass(frozen=True, slots=True)
class UbxFrame:
    """A message whose checksum is right.

    Attributes:
        message: class and number, e.g. (0x01, 0x07) for NAV-PVT.
        payload: what stands between length and checksum.
        received_boottime_ns: when the read that gave its first byte returned.
    """

    message: tuple[int, int]
    payload: bytes
    received_boottime_ns: int


class UbxSplitter:
    """Takes UBX frames out of a stream; the rest, text of the same receiver, is handed on. Bounded."""

    def __init__(self) -> None:
        self._tail = b""
        self._tail_boottime_ns = 0

    @property
    def is_inside(self) -> bool:
        """True while the end of a frame is awaited."""
        return bool(self._tail)

    def feed(self, data: bytes, received_boottime_ns: int) -> list[UbxFrame | bytes]:
        """Take the next bytes; return frames and other bytes in their order."""
        if not self._tail and SYNC[:1] not in data:
            return [data]
        begun_ns = self._tail_boottime_ns if self._tail else received_boottime_ns
        buffer, at = self._tail + data, 0
        parts: list[UbxFrame | bytes] = []
        while (start := _sync(buffer, at)) >= 0:
            frame_end = _frame_end(buffer, start)
            if frame_end is None:
                break
            if frame_end < 0:
                parts.append(buffer[at : start + 1])
                at = start + 1
                continue
            if start > at:
                parts.append(buffer[at:start])
            parts.append(_frame(buffer[start:frame_end], begun_ns))
            at, begun_ns = frame_end, received_boottime_ns
        else:
            start = len(buffer)
        if start > at:
            parts.append(buffer[at:start])
        self._tail, self._tail_boottime_ns = buffer[start:], begun_ns
        return [part for part in parts if part]

    def finish(self) -> bytes:
        """The stream ended: what was begun is no frame."""
        rest, self._tail = self._tail, b""
        return rest


def _sync(buffer: bytes, at: int) -> int:
    start = buffer.find(SYNC, at)
    if start < 0 and buffer.endswith(SYNC[:1]):
        return max(at, len(buffer) - 1)
    return start


def _frame_end(buffer: bytes, start: int) -> int | None:
    """Where the frame ends; None when that is still to come, -1 when it is none."""
    if len(buffer) < start + HEADER_BYTES:
        return None
    length = int.from_bytes(buffer[start + 4 : start + HEADER_BYTES], "little")
    if length > MAX_PAYLOAD_BYTES:
        return -1
    end = start + HEADER_BYTES + length + CHECKSUM_BYTES
    if len(buffer) < end:
        return None
    body, given = buffer[start + 2 : end - CHECKSUM_BYTES], buffer[end - CHECKSUM_BYTES : end]
    return end if checksum(body) == given else -1


def _frame(data: bytes, begun_ns: int) -> UbxFrame:
    return UbxFrame((data[2], data[3]), data[HEADER_BYTES:-CHECKSUM_BYTES], begun_ns)


def checksum(body: bytes) -> bytes:
    """Fletcher's 8-bit checksum over class, number, length and payload, as UBX defines it."""
    first = second = 0
    for byte in body:
        first += byte
        second += first
    return bytes((first & 0xFF, second & 0xFF))


@dataclass(frozen=True, slots=True)
class RadioState:
    """What a receiver says of its antenna and of interference.

    Attributes:
        jamming: 0 unknown, 1 none, 2 a fix in spite of it, 3 so strong that there is no fix.
        spoofing: 0 unknown, 1 none, 2 indicated, 3 by several signs; None where not told.
        antenna: "unknown", "ok", "short", "open" or "initialising".
    """

    jamming: int | None = None
    spoofing: int | None = None
    antenna: str | None = None


_ANTENNA = {0: "initialising", 1: "unknown", 2: "ok", 3: "short", 4: "open"}


@dataclass(slots=True)
class _Epoch:
    """The messages of one iTOW."""

    itow_ms: int
    received_boottime_ns: int
    valid: bool | None = None
    mode: FixMode = FixMode.NONE
    utc_ms: int | None = None
    week: int | None = None
    position: tuple[float, float, float | None] | None = None
    error_m: float | None = None
    speed_mps: float | None = None
    course_deg: float | None = None
    satellites: int | None = None
    hdop: float | None = None


@dataclass(slots=True)
class UbxDecoder:
    """Makes fixes of frames.

    Attributes:
        radio: newest word of the receiver on its radio.
        messages: number of messages that were understood.
        malformed: number of messages whose checksum is right and whose fields make no sense.
    """

    radio: RadioState = field(default_factory=RadioState)
    messages: int = 0
    malformed: int = 0
    _open: _Epoch | None = None
    _leap_s: int | None = None
    _has_pvt: bool = False

    @property
    def is_open(self) -> bool:
        """True while an epoch waits for its end."""
        return self._open is not None

    def accept(self, frame: UbxFrame) -> list[Fix]:
        """Take a frame; return the fixes of the epochs that are over by it."""
        try:
            fixes = self._take(frame)
        except (struct.error, ValueError, OverflowError):
            self.malformed += 1
            return []
        return fixes

    def idle(self) -> list[Fix]:
        """The receiver paused: the open epoch is over."""
        epoch, self._open = self._open, None
        if epoch is None or epoch.valid is None:
            return []
        return [self._fix(epoch)]

    def _take(self, frame: UbxFrame) -> list[Fix]:
        message, payload = frame.message, frame.payload
        if message == (0x01, 0x07):
            self.messages += 1
            self._has_pvt, self._open = True, None
            return [_pvt(payload, frame.received_boottime_ns)]
        if message == (0x0A, 0x38):
            self.messages += 1
            self._radio_of(payload)
            return []
        if message == (0x01, 0x03) and len(payload) >= 8:  # noqa: PLR2004 - flags2, from u-blox 6 on
            self.radio = RadioState(self.radio.jamming, payload[7] >> 3 & 3, self.radio.antenna)
        if message == (0x01, 0x61):
            return self.idle()  # NAV-EOE, "end of epoch"
        if message[0] != 0x01 or self._has_pvt or message[1] not in _PARTS:
            return []
        self.messages += 1
        itow_ms = int.from_bytes(payload[:4], "little")
        fixes: list[Fix] = []
        if self._open is None or self._open.itow_ms != itow_ms:
            fixes = self.idle()
            self._open = _Epoch(itow_ms, frame.received_boottime_ns)
        _PARTS[message[1]](self, self._open, payload)
        return fixes

    def _posllh(self, epoch: _Epoch, payload: bytes) -> None:
        _, lon, lat, _, height = _POSLLH.unpack_from(payload)
        epoch.position = (*_place(lat * 1e-7, lon * 1e-7), height / 1000)
        epoch.error_m = int.from_bytes(payload[20:24], "little") / 1000 or None

    def _status(self, epoch: _Epoch, payload: bytes) -> None:
        _, kind, flags = _STATUS.unpack_from(payload)
        self._judge(epoch, kind, ok=bool(flags & _FIX_OK))

    def _sol(self, epoch: _Epoch, payload: bytes) -> None:
        _, _, week, kind, flags, x, y, z, accuracy, *_rest, satellites = _SOL.unpack_from(payload)
        self._judge(epoch, kind, ok=bool(flags & _FIX_OK))
        epoch.satellites = satellites
        if flags & 0x0C == 0x0C:  # noqa: PLR2004 - week and time of week are valid
            epoch.week = week
        if epoch.position is None and epoch.valid:
            lat_deg, lon_deg, _ = geodetic(x / 100, y / 100, z / 100)
            epoch.position = (*_place(lat_deg, lon_deg), None)
            epoch.error_m = accuracy / 100 or None

    def _velned(self, epoch: _Epoch, payload: bytes) -> None:
        _, _, _, _, _, ground, heading = _VELNED.unpack_from(payload)
        epoch.speed_mps, epoch.course_deg = ground / 100, heading * 1e-5 % 360

    def _timeutc(self, epoch: _Epoch, payload: bytes) -> None:
        _, _, nano, year, month, day, hour, minute, second, valid = _TIMEUTC.unpack_from(payload)
        if valid & _UTC_VALID:
            epoch.utc_ms = _utc_ms((year, month, day, hour, minute, second), nano)

    def _timegps(self, epoch: _Epoch, payload: bytes) -> None:
        _, _, week, leap_s, valid = _TIMEGPS.unpack_from(payload)
        if valid & _LEAP_VALID:
            self._leap_s = leap_s
        if valid & _WEEK_VALID == _WEEK_VALID:
            epoch.week = week

    def _dop(self, epoch: _Epoch, payload: bytes) -> None:
        hdop = _DOP.unpack_from(payload)[5] / 100
        epoch.hdop = hdop if 0 < hdop < 50 else None  # noqa: PLR2004 - as in NMEA

    def _judge(self, epoch: _Epoch, kind: int, *, ok: bool) -> None:
        epoch.valid = ok and kind in _MODES and epoch.valid is not False
        epoch.mode = _MODES[kind] if epoch.valid else FixMode.NONE

    def _radio_of(self, payload: bytes) -> None:
        _, blocks = _RF_HEAD.unpack_from(payload)
        worst, antenna = 0, self.radio.antenna
        for number in range(blocks):
            _, flags, status, _ = _RF_BLOCK.unpack_from(payload, 4 + number * _RF_BLOCK_BYTES)
            worst = max(worst, flags & 3)
            antenna = _ANTENNA.get(status, "unknown")
        self.radio = RadioState(worst, self.radio.spoofing, antenna)

    def _fix(self, epoch: _Epoch) -> Fix:
        utc_ms = epoch.utc_ms
        if utc_ms is None and epoch.week is not None and self._leap_s is not None:
            utc_ms = GPS_EPOCH_MS + epoch.week * WEEK_MS + epoch.itow_ms - self._leap_s * 1000
        if not epoch.valid or epoch.position is None:
            return Fix.without_position(utc_ms, epoch.satellites, epoch.received_boottime_ns)
        lat_deg, lon_deg, alt_m = epoch.position
        return Fix(
            utc_ms=utc_ms,
            lat_deg=lat_deg,
            lon_deg=lon_deg,
            alt_m=alt_m,
            speed_mps=epoch.speed_mps,
            course_deg=epoch.course_deg,
            mode=epoch.mode,
            satellites=epoch.satellites,
            hdop=epoch.hdop,
            received_boottime_ns=epoch.received_boottime_ns,
            error_m=epoch.error_m,
        )


_PARTS = {
    0x02: UbxDecoder._posllh,  # noqa: SLF001 - the table of its own messages
    0x03: UbxDecoder._status,  # noqa: SLF001
    0x04: UbxDecoder._dop,  # noqa: SLF001
    0x06: UbxDecoder._sol,  # noqa: SLF001
    0x12: UbxDecoder._velned,  # noqa: SLF001
    0x20: UbxDecoder._timegps,  # noqa: SLF001
    0x21: UbxDecoder._timeutc,  # noqa: SLF001
}


def _pvt(payload: bytes, received_boottime_ns: int) -> Fix:
    (
        _, year, month, day, hour, minute, second, valid, _, nano, kind, flags, _, satellites,
        lon, lat, _, height_mm, accuracy_mm, _, _, _, _, ground_mmps, heading,
    ) = _PVT.unpack_from(payload)  # fmt: skip
    utc_ms = None
    if valid & _DATE_AND_TIME == _DATE_AND_TIME:
        utc_ms = _utc_ms((year, month, day, hour, minute, second), nano)
    if not flags & _FIX_OK or kind not in _MODES:
        return Fix.without_position(utc_ms, satellites, received_boottime_ns)
    lat_deg, lon_deg = _place(lat * 1e-7, lon * 1e-7)
    return Fix(
        utc_ms=utc_ms,
        lat_deg=lat_deg,
        lon_deg=lon_deg,
        alt_m=height_mm / 1000 if _MODES[kind] is FixMode.FIX_3D else None,
        speed_mps=max(0.0, ground_mmps / 1000),
        course_deg=heading * 1e-5 % 360,
        mode=_MODES[kind],
        satellites=satellites,
        hdop=None,
        received_boottime_ns=received_boottime_ns,
        error_m=accuracy_mm / 1000 or None,
    )


def _place(lat_deg: float, lon_deg: float) -> tuple[float, float]:
    """The place, when there can be one. Raises ValueError: out of range, or 0/0, where no road leads."""
    if abs(lat_deg) > 90 or abs(lon_deg) > 180 or (lat_deg == 0 and lon_deg == 0):  # noqa: PLR2004 - a globe
        raise ValueError(f"{lat_deg} {lon_deg}")
    return lat_deg, lon_deg


def _utc_ms(moment: tuple[int, int, int, int, int, int], nano: int) -> int:
    """Year to second, and nanoseconds, which may be negative as the second is rounded. Raises ValueError."""
    year, month, day, hour, minute, second = moment
    whole = datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()
    # A leap second is 60.
    if not 0 <= second <= 60 or abs(nano) >= 1_000_000_000:  # noqa: PLR2004 - a clock
        raise ValueError(f"{second} s {nano} ns")
    return round(whole) * 1000 + second * 1000 + round(nano / 1e6)


_A_M, _F = 6_378_137.0, 1 / 298.257223563
"""WGS 84: semi-major axis and flattening."""


def geodetic(x_m: float, y_m: float, z_m: float) -> tuple[float, float, float]:
    """Latitude and longitude in degrees and height in metres of an earth-centred point (Bowring, 1976).

    Raises ValueError for points far below the ground or out in space.
    """
    b_m = _A_M * (1 - _F)
    e2, ep2 = _F * (2 - _F), (_A_M**2 - b_m**2) / b_m**2
    axis_m = math.hypot(x_m, y_m)
    if not 6_300_000 < math.hypot(axis_m, z_m) < 6_500_000:  # noqa: PLR2004 - the ground and what flies
        raise ValueError(f"{x_m} {y_m} {z_m}")
    theta = math.atan2(z_m * _A_M, axis_m * b_m)
    lat = math.atan2(z_m + ep2 * b_m * math.sin(theta) ** 3, axis_m - e2 * _A_M * math.cos(theta) ** 3)
    n_m = _A_M / math.sqrt(1 - e2 * math.sin(lat) ** 2)
    height_m = axis_m * math.cos(lat) + z_m * math.sin(lat) - _A_M**2 / n_m
    return math.degrees(lat), math.degrees(math.atan2(y_m, x_m)), height_m
