"""The figures for Prometheus, read back by its own parser."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from agent.dispatch.metrics import exposition
from agent.dispatch.service import Service


class Unit:
    """A unit of which only the worth of its position is asked."""

    def __init__(self, word: str) -> None:
        self._word = word

    def freshness(self, now_ms: int, picture: object) -> str:
        del now_ms, picture
        return self._word


def figures(**changes: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    one = SimpleNamespace(well=True, stored_records=7, refused=1, missing=2, commit_ms=12.5, outputs=["cot"])
    service = SimpleNamespace(
        now_ms=lambda: 0,
        wellbeing=one,
        hub=SimpleNamespace(pages=3),
        settings=SimpleNamespace(picture=None),
        fleet=[Unit("live"), Unit("live"), Unit("stale")],
        alarms=[{"priority": "high"}],
    )
    for name, value in changes.items():
        setattr(one, name, value)
    text = exposition(cast("Service", service)).decode()
    return {
        (sample.name.removeprefix("mdt_dispatch_"), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_figure_is_there_and_counts_what_it_says() -> None:
    told = figures()
    assert told["up", ()] == 1
    assert told["records_stored", ()] == 7
    assert told["records_missing", ()] == 2
    assert told["commit_seconds", ()] == 0.0125
    assert told["pages", ()] == 3
    assert told["outputs_failing", ()] == 1
    assert (told["units", ("live",)], told["units", ("stale",)], told["units", ("offline",)]) == (2, 1, 0)
    assert (told["alarms_open", ("high",)], told["alarms_open", ("low",)]) == (1, 0)


def test_a_service_without_broker_or_store_is_down() -> None:
    assert figures(well=False)["up", ()] == 0
