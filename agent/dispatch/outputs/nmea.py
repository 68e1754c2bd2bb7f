"""NMEA 0183 over UDP: RMC with a TAG block that names the unit (`\\s:A1*hh\\$GPRMC,...`)."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime

from agent.dispatch.outputs.output import OutputError, OutputSettings, Publish, UnitPicture, live, name_of

MPS_TO_KNOTS = 3600 / 1852


class NmeaOutput:
    """One datagram a live unit."""

    def __init__(self, settings: OutputSettings, _publish: Publish) -> None:
        if not settings.port:
            raise ValueError("output nmea: port is missing")
        self._ids = settings.ids
        self._address = settings.host, settings.port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    async def give(self, units: Sequence[UnitPicture], now_ms: int) -> None:
        """See `Output.give`."""
        del now_ms
        for unit in live(units):
            tag = f"s:{name_of(unit, self._ids)}"
            line = f"\\{tag}*{checksum(tag)}\\{sentence(unit)}\r\n"
            try:
                self._socket.sendto(line.encode("ascii", "replace"), self._address)
            except OSError as error:
                raise OutputError(f"nmea to {self._address[0]}:{self._address[1]}: {error}") from error

    async def close(self) -> None:
        """See `Output.close`."""
        self._socket.close()


def sentence(unit: UnitPicture) -> str:
    """RMC; what is not known is empty."""
    position = unit["position"]
    at = datetime.fromtimestamp(unit["position_ms"] / 1000, UTC)
    speed, course = position["speed_mps"], position["course_deg"]
    text = ",".join(
        (
            "GPRMC",
            f"{at:%H%M%S}.{at.microsecond // 10_000:02d}",
            "A",
            _minutes(position["lat_deg"], 2, "NS"),
            _minutes(position["lon_deg"], 3, "EW"),
            "" if speed is None else f"{speed * MPS_TO_KNOTS:.2f}",
            "" if course is None else f"{course:.1f}",
            f"{at:%d%m%y}",
            "",
            "",
            "A",
        )
    )
    return f"${text}*{checksum(text)}"


def checksum(text: str) -> str:
    """Two hexadecimal digits: all characters between the marks, one over the other (XOR)."""
    value = 0
    for character in text:
        value ^= ord(character)
    return f"{value:02X}"


def _minutes(degrees: float, digits: int, sides: str) -> str:
    """Degrees and minutes to 1e-5 minute, with the side."""
    hundred_thousandths = round(abs(degrees) * 60 * 1e5)
    whole, rest = divmod(hundred_thousandths, 60 * 100_000)
    return f"{whole:0{digits}d}{rest / 1e5:08.5f},{sides[degrees < 0]}"
