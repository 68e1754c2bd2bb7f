"""The service's figures for Prometheus."""

from __future__ import annotations

from collections import Counter

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from agent.dispatch.service import Service

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition(service: Service) -> bytes:
    """All figures as they are now, in the text format."""
    registry = CollectorRegistry()
    now_ms, one = service.now_ms(), service.wellbeing

    def gauge(name: str, text: str, value: float) -> None:
        Gauge(f"mdt_dispatch_{name}", text, registry=registry).set(value)

    gauge("up", "1 while both the broker and the store are there", one.well)
    gauge("records_stored", "Records stored since the start", one.stored_records)
    gauge("messages_refused", "Messages that could not be read since the start", one.refused)
    gauge("records_missing", "Sequence numbers that are asked for", one.missing)
    gauge("commit_seconds", "Duration of the last transaction", one.commit_ms / 1000)
    gauge("pages", "Pages that look", service.hub.pages)
    gauge("outputs_failing", "Feeds to others that fail", len(one.outputs))
    fresh = Counter(unit.freshness(now_ms, service.settings.picture) for unit in service.fleet)
    units = Gauge(
        "mdt_dispatch_units", "Units by what their position is worth", ["freshness"], registry=registry
    )
    for word in ("live", "late", "doubtful", "no_fix", "stale", "offline", "none"):
        units.labels(word).set(fresh[word])
    alarms = Gauge("mdt_dispatch_alarms_open", "Open alarms", ["priority"], registry=registry)
    open_alarms = Counter(alarm["priority"] for alarm in service.alarms)
    for priority in ("high", "medium", "low"):
        alarms.labels(priority).set(open_alarms[priority])
    return generate_latest(registry)
