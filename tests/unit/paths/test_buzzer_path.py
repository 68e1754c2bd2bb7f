from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from agent.config import Buzzer
from agent.domain.call import Call, CallBook, Refusal
from agent.domain.time_base import TimeBase
from agent.hal.buttons import Lamp
from agent.hal.clock import SystemUtc
from agent.paths.buzzer_path import BuzzerPath, minute_of_day

NIGHT_MS = round(datetime(2026, 3, 14, 23, 30, tzinfo=UTC).timestamp() * 1000)
S = 1_000_000_000


class Clock:
    """Stands still until it is moved."""

    boot_id = "0" * 32

    def __init__(self) -> None:
        self.now_ns = 0

    def boottime_ns(self) -> int:
        self.now_ns += 3 * S
        return self.now_ns

    def suspended_ns(self) -> int:
        return 0

    def system_utc(self) -> SystemUtc:
        return SystemUtc(NIGHT_MS, synchronised=True, max_error_ms=1)


class Speaker:
    """Remembers what it sounded."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, ...]] = []

    def sound(self, pattern_ms: Sequence[int]) -> None:
        self.heard.append(tuple(pattern_ms))


def buzzer(time_base: TimeBase | None = None, **settings: Any) -> tuple[BuzzerPath, Speaker]:
    path = BuzzerPath(
        Buzzer(call=(1000,), refused=(900,), reminder=(800,), delivered=(60,), **settings),
        ["emergency"],
        Clock(),
        time_base or TimeBase(),
    )
    speaker = Speaker()
    path.attach(speaker)
    return path, speaker


def test_what_reached_its_end_and_what_was_refused_is_heard() -> None:
    path, speaker = buzzer()
    for lamp in (Lamp.OFF, Lamp.NOT_STORED, Lamp.STORED, Lamp.RECEIVED, Lamp.REFUSED):
        path.show("on_scene", lamp)
    assert speaker.heard == [(60,), (900,)]
    assert path.page() == {"number": 2, "pattern_ms": [900]}


def test_what_was_so_before_a_restart_is_no_news() -> None:
    path, speaker = buzzer()
    path.show("on_scene", Lamp.DELIVERED)
    path.show("on_scene", Lamp.DELIVERED)
    path.show("en_route", Lamp.REFUSED)
    assert speaker.heard == []


@pytest.mark.parametrize("last", [Lamp.DELIVERED, Lamp.RECEIVED, Lamp.REFUSED, Lamp.OFF])
def test_emergency_is_never_heard(last: Lamp) -> None:
    path, speaker = buzzer()
    for lamp in (Lamp.OFF, Lamp.NOT_STORED, Lamp.STORED, last):
        path.show("emergency", lamp)
    assert speaker.heard == []
    assert path.page() == {"number": 0, "pattern_ms": []}


def test_call_reminder_and_end_of_a_call() -> None:
    path, speaker = buzzer()
    calls = CallBook(remind_after_s=30)

    def tell(news: Any) -> None:
        assert not isinstance(news, Refusal)
        for one in news:
            path.call(one)

    tell(calls.assign("a", Call("1"), 0))
    assert speaker.heard == [(1000,)]
    tell(calls.due(31 * S))
    tell(calls.due(62 * S))
    assert speaker.heard == [(1000,), (800,), (800,)]
    tell(calls.acknowledge("1"))
    assert len(speaker.heard) == 3
    tell(calls.cancel("c", "1", 70 * S))
    assert speaker.heard[3:] == [(1000,)]


def test_quiet_hours_are_of_the_place_and_need_a_time_that_is_known() -> None:
    quiet: dict[str, Any] = {
        "quiet_from": "22:00",
        "quiet_to": "06:00",
        "quiet_heard": (),
        "time_zone": "UTC",
    }
    path, speaker = buzzer(None, **quiet)
    path.show("on_scene", Lamp.STORED)
    path.show("on_scene", Lamp.DELIVERED)
    assert speaker.heard == [(60,)], "nobody knows how late it is"
    known = TimeBase()
    known.learn_system(NIGHT_MS, synchronised=True, max_error_ms=1, boottime_ns=0)
    path, speaker = buzzer(known, **quiet)
    path.show("on_scene", Lamp.STORED)
    path.show("on_scene", Lamp.DELIVERED)
    assert speaker.heard == []
    assert minute_of_day(NIGHT_MS, ZoneInfo("America/New_York")) == 19 * 60 + 30


@pytest.mark.parametrize(
    "wrong",
    [
        {"quiet_from": "22:00"},
        {"quiet_from": "22:00", "quiet_to": "22:00"},
        {"quiet_from": "24:00", "quiet_to": "06:00"},
        {"time_zone": "Atlantis/Capital"},
        {"time_zone": "../../etc/passwd"},
        {"call": (5,)},
        {"call": (100,) * 9},
        {"emergency": (100,)},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Buzzer.model_validate(wrong)
