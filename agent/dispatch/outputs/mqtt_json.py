"""Plain JSON on topics of its own, for whoever wants `mosquitto_sub` and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agent.dispatch.outputs.output import OutputError, OutputSettings, Publish, UnitPicture

EXPIRES_S = 150
"""The broker forgets what nobody renewed: a service that died leaves no unit on the map (MQTT 5)."""
_RENEW_MS = 60_000


class MqttJsonOutput:
    """`{prefix}/{agency}/{unit}`, kept by the broker: sent on a change, and renewed once a minute."""

    def __init__(self, settings: OutputSettings, publish: Publish) -> None:
        self._prefix = settings.prefix
        self._publish = publish
        self._said: dict[str, tuple[str, int]] = {}

    async def give(self, units: Sequence[UnitPicture], now_ms: int) -> None:
        """See `Output.give`."""
        for unit in units:
            topic, text = f"{self._prefix}/{unit['agency']}/{unit['unit']}", json.dumps(told(unit))
            before, at_ms = self._said.get(topic, ("", 0))
            if text == before and now_ms - at_ms < _RENEW_MS:
                continue
            if not self._publish(topic, text.encode(), True, EXPIRES_S):
                raise OutputError("mqtt_json: no broker")
            self._said[topic] = text, now_ms

    async def close(self) -> None:
        """See `Output.close`."""


def told(unit: UnitPicture) -> dict[str, object]:
    """What others need, with what the position is worth; without live position there is `last_position`."""
    fresh = unit["freshness"] in ("live", "late")
    call = unit["call"]
    return {
        "agency": unit["agency"],
        "unit": unit["unit"],
        "online": unit["online"],
        "status": unit["status"],
        "status_ms": unit["status_ms"],
        "emergency": unit["emergency"],
        "incident": unit.get("incident") or (None if call is None else call["incident"]),
        "freshness": unit["freshness"],
        "position": unit["position"] if fresh else None,
        "last_position": None if fresh else unit["position"],
        "position_ms": unit["position_ms"],
    }
