"""Cursor-on-Target to a TAK server, by pytak: one event a live unit, with the time at which it is stale."""

from __future__ import annotations

import asyncio
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from configparser import ConfigParser
from datetime import UTC, datetime
from typing import Any

from agent.dispatch.outputs.output import OutputError, OutputSettings, Publish, UnitPicture, live, name_of

TYPE = "a-f-G-E-V-m"
"""A friendly ground vehicle, medical: an ambulance. Not `-V-M`: those are pack animals."""
STALE_AFTER_MS = 75_000
_UNKNOWN = "9999999.0"
"""What the format has for a height or an error that is not known."""
_TIMEOUT_S = 10


class CotOutput:
    """Connects when there is something to say, and again after a failure."""

    def __init__(self, settings: OutputSettings, _publish: Publish) -> None:
        if settings.url is None or not settings.url.startswith(("tcp://", "udp://", "tls://")):
            raise ValueError("output cot: url is tcp://, udp:// or tls://host:port")
        self._url = settings.url
        self._ids = settings.ids
        self._writer: Any = None

    async def give(self, units: Sequence[UnitPicture], now_ms: int) -> None:
        """See `Output.give`."""
        fresh = live(units)
        if not fresh:
            return
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if self._writer is None:
                    self._writer = await self._connect()
                for unit in fresh:
                    await self._send(event(unit, name_of(unit, self._ids), now_ms))
        except (OSError, TimeoutError) as error:
            await self.close()
            raise OutputError(f"cot to {self._url}: {type(error).__name__} {error}") from error

    async def close(self) -> None:
        """See `Output.close`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    async def _connect(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of libraries for other ways to a server, which are not used here
            import pytak

        parser = ConfigParser()
        # Its plain UDP also listens on the port; "wo" is for who only writes.
        parser["cot"] = {"COT_URL": self._url.replace("udp://", "udp+wo://", 1)}
        return (await pytak.protocol_factory(parser["cot"]))[1]

    async def _send(self, data: bytes) -> None:
        if hasattr(self._writer, "drain"):
            self._writer.write(data)
            await self._writer.drain()
        else:
            await self._writer.send(data)


def event(unit: UnitPicture, name: str, now_ms: int) -> bytes:
    """One event in XML; whatever a unit says is escaped by the library."""
    position = unit["position"]
    root = ET.Element(
        "event",
        version="2.0",
        uid=f"ems.{unit['agency']}.{unit['unit']}",
        type=TYPE,
        how="m-g",
        time=_time(now_ms),
        start=_time(unit["position_ms"]),
        stale=_time(unit["position_ms"] + STALE_AFTER_MS),
    )
    height = position.get("alt_m")
    error = position.get("uncertainty_m")
    ET.SubElement(
        root,
        "point",
        lat=f"{position['lat_deg']:.7f}",
        lon=f"{position['lon_deg']:.7f}",
        hae=_UNKNOWN if height is None else f"{height:.1f}",
        ce=_UNKNOWN if error is None else f"{error:.1f}",
        le=_UNKNOWN,
    )
    detail = ET.SubElement(root, "detail")
    ET.SubElement(detail, "contact", callsign=_text(name))
    if position["speed_mps"] is not None and position["course_deg"] is not None:
        ET.SubElement(
            detail, "track", speed=f"{position['speed_mps']:.2f}", course=f"{position['course_deg']:.1f}"
        )
    remarks = ET.SubElement(detail, "remarks")
    remarks.text = _text(("EMERGENCY " if unit["emergency"] else "") + str(unit["status"] or ""))
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _text(text: str) -> str:
    """Without what XML can not hold."""
    return "".join(character for character in text if character.isprintable())


def _time(unix_ms: int) -> str:
    return (
        datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{unix_ms % 1000:03d}Z"
    )
