"""A GeoJSON file of all units, for a GIS that watches a folder or a web server that serves it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.dispatch.outputs.output import OutputError, OutputSettings, Publish, UnitPicture

_KEPT = ("agency", "unit", "status", "status_ms", "freshness", "position_ms", "emergency", "online")


class GeoJsonOutput:
    """Every unit that ever had a position; `freshness` says what it is worth."""

    def __init__(self, settings: OutputSettings, _publish: Publish) -> None:
        if settings.file is None:
            raise ValueError("output geojson: file is missing")
        self._file = Path(settings.file)
        self._last: dict[str, Any] | None = None

    async def give(self, units: Sequence[UnitPicture], now_ms: int) -> None:
        """See `Output.give`."""
        self._last = collection(units) | {"made_ms": now_ms}
        text = json.dumps(self._last)
        try:
            await asyncio.to_thread(replace_file, self._file, text)
        except OSError as error:
            raise OutputError(f"geojson: {self._file}: {error.strerror}") from error

    async def close(self) -> None:
        """See `Output.close`: nothing in a file that nobody renews may look live."""
        last, self._last = self._last, None
        if last is not None:
            for feature in last["features"]:
                feature["properties"]["freshness"] = "not_renewed"
            with suppress(OSError):
                replace_file(self._file, json.dumps(last))


def collection(units: Sequence[UnitPicture]) -> dict[str, Any]:
    """The fleet as a FeatureCollection (RFC 7946)."""
    features = []
    for unit in units:
        position = unit["position"]
        if position is None:
            continue
        features.append(
            {
                "type": "Feature",
                "id": f"{unit['agency']}/{unit['unit']}",
                "geometry": {"type": "Point", "coordinates": [position["lon_deg"], position["lat_deg"]]},
                "properties": {name: unit[name] for name in _KEPT}
                | {"speed_mps": position["speed_mps"], "course_deg": position["course_deg"]},
            }
        )
    return {"type": "FeatureCollection", "features": features}


def replace_file(file: Path, text: str) -> None:
    """Write a file as a whole: nobody reads half of it. Raises OSError."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)
