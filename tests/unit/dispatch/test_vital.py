"""The figures of a simulated day whose truth is known."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from agent.dispatch import vital
from agent.dispatch.access import Who
from agent.dispatch.intake import Intake, Message
from agent.dispatch.ledger import Ledger
from agent.dispatch.store.engine import engine_of
from agent.dispatch.store.store import Store
from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import EvidenceRecord, StatusChange, Stream, Telemetry, Withdrawal
from agent.wire.topics import Topics

DAY_MS = 1_789_948_800_000
"""A midnight of UTC."""
HOUR_MS = 3_600_000
ANNA = Who("anna", "dispatch")
ORDER = ("assigned", "en_route", "on_scene", "transporting", "at_destination", "available")


class Day:
    """Speaks as units and dispatcher through a day, and writes down the truth beside."""

    def __init__(self, url: str) -> None:
        self.store = Store(engine_of(url))
        self.intake = Intake(self.store.open())
        self.ledger = Ledger(self.store)
        self.seqs: dict[tuple[str, Stream], int] = {}
        self.truth: list[dict[str, Any]] = []

    def next(self, voice: UnitVoice, stream: Stream, count: int = 1) -> int:
        key = voice.topics.unit, stream
        self.seqs[key] = self.seqs.get(key, 0) + count
        return self.seqs[key] - count + 1

    def hear(self, spoken: tuple[str, bytes], received_ms: int) -> None:
        self.store.write(self.intake.hear([Message(*spoken, received_ms)]))

    def press(self, voice: UnitVoice, status: str, at_ms: int, delay_ms: int = 400) -> None:
        self.hear(voice.status(self.next(voice, Stream.EVENTS), status, at_ms), at_ms + delay_ms)

    def run(
        self, voice: UnitVoice, start_ms: int, seconds: list[int], priority: str, siren: tuple[bool, bool]
    ) -> int:
        number = f"26-{len(self.truth):04}"
        fields = {"incident": number, "priority": priority, "lat_deg": 0.5 + int(priority), "lon_deg": 0.5}
        self.ledger.command(ANNA, "assign", voice.topics, fields, command_id=number, now_ms=start_ms)
        times, at_ms = {"assigned": start_ms}, start_ms
        for status, took_s in zip(ORDER[1:], seconds, strict=True):
            at_ms += took_s * 1000
            times[status] = at_ms
            self.press(voice, status, at_ms)
            on = {"en_route": siren[0], "transporting": siren[1]}.get(status, False)
            body = Telemetry((("Ambulance.Siren.IsOn", on),))
            self.hear(voice.batch(Stream.TRAIL, self.next(voice, Stream.TRAIL), [(at_ms, body)]), at_ms + 500)
        self.truth.append({"times": times, "priority": priority, "siren": siren})
        return at_ms


@pytest.fixture
def day(store_url: str) -> Any:
    one = Day(store_url)
    yield one
    one.store.close()


def value_of(found: list[vital.Figure], name: str) -> float | None:
    return next(one.value for one in found if one.name == name)


def nearest_rank(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    rank = max(1, (len(ordered) * percent + 99) // 100)
    return ordered[rank - 1]


def test_the_figures_of_a_simulated_day_are_its_truth(day: Day, tmp_path: Path) -> None:
    chance = random.Random(5)
    busy_ms = duty_ms = 0
    for number in range(6):
        voice = UnitVoice(Topics("boston-ems", f"A{number}"), number + 1)
        at_ms = DAY_MS + number * 60_000
        day.press(voice, "available", at_ms)
        duty_ms += DAY_MS + 24 * HOUR_MS - at_ms
        for _ in range(5):
            at_ms += chance.randint(5, 90) * 60_000
            start_ms = at_ms
            seconds = [
                chance.randint(20, 120),
                chance.randint(120, 900),
                *(chance.randint(300, 1500) for _ in range(3)),
            ]
            siren = (chance.random() < 0.6, chance.random() < 0.1)
            at_ms = day.run(voice, start_ms, seconds, str(chance.randint(1, 3)), siren)
            busy_ms += at_ms - start_ms
    square = [[0, 1], [1, 1], [1, 2], [0, 2], [0, 1]]
    feature = {"properties": {"Name": "South"}, "geometry": {"type": "Polygon", "coordinates": [square]}}
    districts_file = tmp_path / "districts.geojson"
    districts_file.write_text(json.dumps({"features": [feature]}))
    found = vital.figures(
        day.store.connection, DAY_MS, DAY_MS + 24 * HOUR_MS, vital.read_districts(districts_file)
    )

    def truth(first: str, last: str, priority: str | None = None) -> list[float]:
        chosen = [one for one in day.truth if priority in (None, one["priority"])]
        return [(one["times"][last] - one["times"][first]) / 1000 for one in chosen]

    for part, (first, last, _) in vital.PARTS.items():
        assert value_of(found, f"{part}.median[all]") == nearest_rank(truth(first, last), 50)
        assert value_of(found, f"{part}.p90[all]") == nearest_rank(truth(first, last), 90)
    for priority in ("1", "2", "3"):
        expected = nearest_rank(truth("assigned", "on_scene", priority), 90)
        assert value_of(found, f"response.p90[priority {priority}]") == expected
    assert value_of(found, "response.median[district South]") == nearest_rank(
        truth("assigned", "on_scene", "1"), 50
    )
    assert value_of(found, "unit_hour_utilisation") == pytest.approx(busy_ms / duty_ms, abs=1e-9)
    assert value_of(found, "in_service") == pytest.approx(duty_ms / HOUR_MS)
    responses = [one["siren"][0] for one in day.truth]
    assert value_of(found, "siren.responses") == pytest.approx(sum(responses) / len(responses))
    assert value_of(found, "siren.transports") == pytest.approx(
        sum(one["siren"][1] for one in day.truth) / 30
    )
    assert value_of(found, "press_to_receipt.median") == pytest.approx(0.4)
    hours = {one.name: one.value for one in found if one.name.startswith("unit_hour_utilisation[")}
    for hour in range(24):
        start_ms = DAY_MS + hour * HOUR_MS
        there = sum(HOUR_MS - (number * 60_000 if hour == 0 else 0) for number in range(6))
        busy = sum(
            max(
                0,
                min(one["times"]["available"], start_ms + HOUR_MS) - max(one["times"]["assigned"], start_ms),
            )
            for one in day.truth
        )
        assert hours[f"unit_hour_utilisation[hour {hour:02}]"] == pytest.approx(busy / there)
        of_hour = [one for one in day.truth if start_ms <= one["times"]["assigned"] < start_ms + HOUR_MS]
        if of_hour:
            took = [(one["times"]["on_scene"] - one["times"]["assigned"]) / 1000 for one in of_hour]
            assert value_of(found, f"response.median[hour {hour:02}]") == nearest_rank(took, 50)
    assert all(one.definition for one in found)
    assert vital.as_csv(found).count("\r\n") == len(found) + 1


def test_the_share_of_a_live_picture_is_what_was_live(day: Day) -> None:
    voice = UnitVoice(Topics("boston-ems", "A1"))
    day.press(voice, "available", DAY_MS)
    # 10 minutes of reports in time, 10 minutes that came an hour late, then silence.
    for minute in range(20):
        at_ms = DAY_MS + minute * 60_000
        late_ms = 1_000 if minute < 10 else HOUR_MS
        day.hear(voice.positions(day.next(voice, Stream.TRAIL, 2), 2, at_ms), at_ms + 1_000 + late_ms)
    found = vital.figures(day.store.connection, DAY_MS, DAY_MS + 40 * 60_000)
    live_s = 9 * 60 + 1 + 75
    assert value_of(found, "live_picture") == pytest.approx(live_s / 2400)


def test_what_was_not_pressed_is_not_guessed(day: Day) -> None:
    voice = UnitVoice(Topics("boston-ems", "A1"))
    for minute, status in enumerate(("available", "en_route", "transporting", "available", "on_scene")):
        day.press(voice, status, DAY_MS + minute * 60_000)
    found = vital.figures(day.store.connection, DAY_MS, DAY_MS + HOUR_MS)
    names = {one.name for one in found}
    assert not {"response.median[all]", "travel.median[all]", "scene.median[all]"} & names
    assert value_of(found, "siren.responses") is None


def test_an_empty_store_has_no_figure_but_zeros_that_are_true(day: Day) -> None:
    found = {one.name: one.value for one in vital.figures(day.store.connection, DAY_MS, DAY_MS + HOUR_MS)}
    assert found["unit_hour_utilisation"] is None
    assert found["live_picture"] is None
    assert found["withdrawals"] == 0


def test_a_diversion_ends_one_clock_and_begins_another(day: Day) -> None:
    voice = UnitVoice(Topics("boston-ems", "A1"))
    for number, minute in (("26-1", 0), ("26-2", 4)):
        fields = {"incident": number, "priority": "1"}
        day.ledger.command(
            ANNA, "assign", voice.topics, fields, command_id=number, now_ms=DAY_MS + minute * 60_000
        )
        day.press(voice, "en_route", DAY_MS + (minute + 1) * 60_000)
    day.press(voice, "on_scene", DAY_MS + 9 * 60_000)
    found = vital.figures(day.store.connection, DAY_MS, DAY_MS + HOUR_MS)
    assert value_of(found, "response.median[all]") == 5 * 60
    assert next(one.cases for one in found if one.name == "turnout.median[all]") == 2


def test_a_unit_that_was_in_service_before_midnight_is_in_service_and_the_future_is_nobodys(day: Day) -> None:
    night, gone, off = (
        UnitVoice(Topics("boston-ems", name), 1 + at) for at, name in enumerate(("N1", "G1", "O1"))
    )
    day.press(night, "available", DAY_MS - 3 * HOUR_MS)
    day.press(gone, "available", DAY_MS - 30 * HOUR_MS)  # nobody heard of it for a day
    day.press(off, "available", DAY_MS - 4 * HOUR_MS)
    day.press(off, "out_of_service", DAY_MS - 3 * HOUR_MS)
    found = vital.figures(day.store.connection, DAY_MS, DAY_MS + 24 * HOUR_MS, now_ms=DAY_MS + 6 * HOUR_MS)
    assert value_of(found, "in_service") == 6
    day.press(night, "out_of_service", DAY_MS + 2 * HOUR_MS)
    found = vital.figures(day.store.connection, DAY_MS, DAY_MS + 24 * HOUR_MS, now_ms=DAY_MS + 6 * HOUR_MS)
    assert value_of(found, "in_service") == 2


def test_presses_are_held_against_the_vehicles_own_evidence_and_what_was_taken_back_is_none(day: Day) -> None:
    voice = UnitVoice(Topics("boston-ems", "A1"))

    def press(status: str, at_ms: int, motion: str, for_s: int, *contradictions: str) -> int:
        evidence = EvidenceRecord(
            motion=motion, motion_for_ms=1000 * for_s, contradictions=contradictions or None
        )
        seq = day.next(voice, Stream.EVENTS)
        body = StatusChange(status, None, "k", seq, 1, evidence=evidence)
        day.hear(voice.batch(Stream.EVENTS, seq, [(at_ms, body)]), at_ms + 400)
        return seq

    press("en_route", DAY_MS, "rolling", 20)
    for minute, late_s in enumerate((10, 40, 70)):
        press("on_scene", DAY_MS + (minute + 1) * 60_000, "standing", late_s)
    wrong = press("on_scene", DAY_MS + 5 * 60_000, "rolling", 300, "rolling")
    found = vital.figures(day.store.connection, DAY_MS, DAY_MS + HOUR_MS)
    assert value_of(found, "pressed_after.median[on_scene]") == 40
    assert value_of(found, "pressed_after.p90[on_scene]") == 70
    assert value_of(found, "pressed_after.median[en_route]") == 20
    assert value_of(found, "pressed_after.median[transporting]") is None
    assert value_of(found, "presses_contradicted") == pytest.approx(1 / 5)
    taken_back = Withdrawal(wrong, "on_scene", None)
    day.hear(
        voice.batch(Stream.EVENTS, day.next(voice, Stream.EVENTS), [(DAY_MS + 6 * 60_000, taken_back)]),
        DAY_MS + 361_000,
    )
    found = vital.figures(day.store.connection, DAY_MS, DAY_MS + HOUR_MS)
    assert value_of(found, "presses_contradicted") == 0
    assert value_of(found, "withdrawals") == 1


def test_a_day_with_more_rows_than_one_answer_holds_is_counted_whole(
    day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.dispatch.queries.MOST_ROWS", 7)
    voice = UnitVoice(Topics("boston-ems", "A1"))
    for number in range(40):
        day.press(voice, ("available", "out_of_service")[number % 2], DAY_MS + number // 3 * 60_000)
    found = vital.figures(day.store.connection, DAY_MS, DAY_MS + HOUR_MS)
    assert next(one.cases for one in found if one.name == "press_to_receipt.median") == 40
