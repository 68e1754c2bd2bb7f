"""What a feed is, and the table of those that there are.

A feed is told the picture of all units at an interval. Each says what protects it against loss, and none
passes a position that is not live for one that is: what the form can not tell, is left out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from pydantic import Field

from agent.config.section import Section

UnitPicture = dict[str, Any]
"""A unit as `fleet.Unit.told` gives it."""
Publish = Callable[[str, bytes, bool, int | None], bool]
"""Topic, payload, kept, seconds until it is forgotten; False while there is no broker."""


class OutputError(Exception):
    """A feed could not be given; it is tried again at the next interval, with what is then true."""


class OutputSettings(Section):
    """One table `[[output]]`."""

    kind: Literal["taip", "nmea", "geojson", "cot", "osmand", "mqtt_json", "webhook", "eido"]
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    url: str | None = Field(None, pattern=r"^(https?|tcp|udp|tls)://")
    file: str | None = None
    interval_s: float = Field(5.0, ge=0.2, le=3600)
    ids: dict[str, str] = Field(default_factory=dict)
    """Unit to the name that the receiver knows it by; others go by their own, where it fits."""
    prefix: str = Field("units/v1", pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")
    token_file: str | None = None
    registry: dict[str, str] = Field(default_factory=dict)
    """Words of NENA's registries, for `eido`."""


class Output(Protocol):
    """A feed. Used from the event loop, one call at a time."""

    async def give(self, units: Sequence[UnitPicture], now_ms: int) -> None:
        """The picture of all units. Raises OutputError."""
        ...

    async def close(self) -> None:
        """Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One row of the table.

    Attributes:
        module: where the class is; it is loaded only for those who use it.
        maker: name of the class; made from its settings and the way to publish.
        protection: what protects it against loss.
    """

    module: str
    maker: str
    protection: str


OUTPUTS: dict[str, OutputRow] = {
    "taip": OutputRow("taip", "TaipOutput", "none: UDP; the next report is a whole one"),
    "nmea": OutputRow("nmea", "NmeaOutput", "none: UDP; the next report is a whole one"),
    "geojson": OutputRow(
        "geojson_file", "GeoJsonOutput", "the file is replaced as a whole, never half written"
    ),
    "cot": OutputRow("cot", "CotOutput", "TCP or TLS, none with UDP; each event says when it is stale"),
    "osmand": OutputRow(
        "osmand", "OsmandOutput", "HTTP answers; a position that was not taken is not repeated"
    ),
    "mqtt_json": OutputRow(
        "mqtt_json", "MqttJsonOutput", "QoS 1, kept by the broker until it would be stale"
    ),
    "webhook": OutputRow(
        "webhook", "WebhookOutput", "HTTP answers; repeated until taken, the newest picture only"
    ),
    "eido": OutputRow(
        "eido", "EidoOutput", "HTTP answers, repeated until taken; or a file replaced as a whole"
    ),
}


def make(settings: OutputSettings, publish: Publish) -> Output:
    """The feed that a table means. Raises ValueError for settings that its kind can not use."""
    row = OUTPUTS[settings.kind]
    module = importlib.import_module(f"agent.dispatch.outputs.{row.module}")
    return cast("Output", getattr(module, row.maker)(settings, publish))


def live(units: Iterable[UnitPicture]) -> list[UnitPicture]:
    """Those that are where their position says, now."""
    return [unit for unit in units if unit["freshness"] == "live" and unit["position_ms"] is not None]


def name_of(unit: UnitPicture, ids: dict[str, str]) -> str:
    """What the receiver calls it."""
    return ids.get(unit["unit"], str(unit["unit"]))
