"""TAIP over UDP: `>RPV...;ID=A001;*7F<`, what CAD systems list for AVL.

Position and velocity solution (PV) of the Trimble ASCII Interface Protocol: seconds of the UTC day, latitude
and longitude in 1e-5 degree, speed in mph, heading in degrees, source and age. The form has no empty field:
where speed or heading is not known they are 0, and the source says "not known".
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence

from agent.dispatch.outputs.output import OutputError, OutputSettings, Publish, UnitPicture, live, name_of

MPS_TO_MPH = 3600 / 1609.344
_ID = re.compile(r"[A-Za-z0-9]{4}")
_SOURCE_3D, _UNKNOWN_SOURCE = 1, 9
_FRESH, _OLD = 2, 1
_FRESH_MS = 10_000
"""The protocol calls data fresh below ten seconds."""


class TaipOutput:
    """One datagram a live unit. Units whose name is not of four characters need a row in `ids`."""

    def __init__(self, settings: OutputSettings, _publish: Publish) -> None:
        if not settings.port:
            raise ValueError("output taip: port is missing")
        for unit, name in settings.ids.items():
            if not _ID.fullmatch(name):
                raise ValueError(f"output taip: {unit} = {name!r}: an identifier has four letters or digits")
        self._ids = settings.ids
        self._address = settings.host, settings.port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    async def give(self, units: Sequence[UnitPicture], now_ms: int) -> None:
        """See `Output.give`."""
        nameless = []
        for unit in live(units):
            name = name_of(unit, self._ids)
            if not _ID.fullmatch(name):
                nameless.append(name)
                continue
            try:
                self._socket.sendto(message(name, unit, now_ms), self._address)
            except OSError as error:
                raise OutputError(f"taip to {self._address[0]}:{self._address[1]}: {error}") from error
        if nameless:
            raise OutputError(
                f"taip: no identifier of four characters for {', '.join(nameless[:5])}: give `ids`"
            )

    async def close(self) -> None:
        """See `Output.close`."""
        self._socket.close()


def message(name: str, unit: UnitPicture, now_ms: int) -> bytes:
    """One report."""
    position = unit["position"]
    speed, course = position["speed_mps"], position["course_deg"]
    seconds = unit["position_ms"] // 1000 % 86_400
    age = _FRESH if now_ms - unit["position_ms"] < _FRESH_MS else _OLD
    # A heading that is not known has no form of its own: the source says that it is not from a full fix.
    source = _SOURCE_3D if course is not None and speed is not None else _UNKNOWN_SOURCE
    text = (
        f">RPV{seconds:05d}{round(position['lat_deg'] * 1e5):+08d}{round(position['lon_deg'] * 1e5):+09d}"
        f"{min(999, round((speed or 0) * MPS_TO_MPH)):03d}{round(course or 0) % 360:03d}{source}{age}"
        f";ID={name};*"
    )
    return f"{text}{checksum(text)}<".encode("ascii")


def checksum(text: str) -> str:
    """Two hexadecimal digits: all characters up to and including the asterisk, one over the other (XOR)."""
    value = 0
    for character in text:
        value ^= ord(character)
    return f"{value:02X}"
