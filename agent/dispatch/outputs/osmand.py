"""Traccar's OsmAnd protocol: one HTTP request a new live position."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

from agent.dispatch.outputs.output import OutputError, OutputSettings, Publish, UnitPicture, live, name_of

MPS_TO_KNOTS = 3600 / 1852
_TIMEOUT_S = 10


class OsmandOutput:
    """Only what is newer than what was taken last; the device must exist at the server."""

    def __init__(self, settings: OutputSettings, _publish: Publish) -> None:
        if settings.url is None or not settings.url.startswith(("http://", "https://")):
            raise ValueError("output osmand: url is http://host:5055 or https://...")
        self._url = settings.url.rstrip("/") + "/"
        self._ids = settings.ids
        self._taken: dict[tuple[str, str], int] = {}

    async def give(self, units: Sequence[UnitPicture], now_ms: int) -> None:
        """See `Output.give`."""
        del now_ms
        for unit in live(units):
            key = unit["agency"], unit["unit"]
            if unit["position_ms"] <= self._taken.get(key, -1):
                continue
            try:
                await asyncio.to_thread(_get, f"{self._url}?{query(unit, name_of(unit, self._ids))}")
            except OSError as error:
                raise OutputError(f"osmand to {self._url}: {error}") from error
            self._taken[key] = unit["position_ms"]

    async def close(self) -> None:
        """See `Output.close`."""


def query(unit: UnitPicture, name: str) -> str:
    """The parameters; what is not known is left out."""
    position = unit["position"]
    given = {
        "id": name,
        "timestamp": unit["position_ms"] // 1000,
        "lat": f"{position['lat_deg']:.7f}",
        "lon": f"{position['lon_deg']:.7f}",
        "altitude": position.get("alt_m"),
        "speed": None if position["speed_mps"] is None else f"{position['speed_mps'] * MPS_TO_KNOTS:.2f}",
        "bearing": position["course_deg"],
        "accuracy": position.get("uncertainty_m"),
        "status": unit["status"],
        "alarm": "sos" if unit["emergency"] else None,
    }
    return urllib.parse.urlencode({key: value for key, value in given.items() if value is not None})


def _get(url: str) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # http or https by the settings
            answer.read(1024)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise
