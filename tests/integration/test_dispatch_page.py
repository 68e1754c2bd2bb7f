"""The page in a real browser: what a dispatcher sees, presses and can not overlook."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import Alert, EvidenceRecord, StatusChange, Stream
from agent.wire.reader_request import Reply, encode_map
from agent.wire.topics import Topics
from firmware_shims.system_clock import SystemClock
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.dispatch_browser import browser_there, open_browser
from hil.dispatch_process import DispatchProcess

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(not browser_there(), reason="chromium is not installed"),
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WITHIN_S = 60.0
WORST_CONTRAST = """
  const part = (x) => x / 255 <= .04045 ? x / 255 / 12.92 : ((x / 255 + .055) / 1.055) ** 2.4;
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(part);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$/.test(colour) && colour !== 'transparent') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const seen = [...document.querySelectorAll('header *, #units td, th, button')];
  return seen.filter((one) => one.offsetParent && one.textContent.trim()).map((one) => {
    const [dark, bright] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => x - y);
    return [(bright + .05) / (dark + .05), one.textContent.slice(0, 20)];
  }).sort((x, y) => x[0] - y[0])[0];
"""
"""The least ratio of luminances between a text and its ground (WCAG 2, 1.4.3), and that text."""
BEYOND_THE_WINDOW = (
    "return document.documentElement.scrollWidth > innerWidth || document.body.scrollHeight > innerHeight + 1"
)
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    woken = threading.Event()
    for _ in range(round(WITHIN_S / 0.1)):
        if condition():
            return
        woken.wait(0.1)
    raise AssertionError(f"not within {WITHIN_S} s: {what}")


class Radio:
    """Publishes what units say, and hears what they are told."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "radio")
        self._client.on_message = lambda _c, _d, message: self.heard.append(
            (message.topic, bytes(message.payload))
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe("ems/v1/+/+/command/+", 1)

    def say(self, *spoken: tuple[str, bytes], retain: bool = False) -> None:
        for topic, payload in spoken:
            self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(WITHIN_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def now_ms() -> int:
    return SystemClock().system_utc().unix_ms


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as driver:
        yield driver


class Room:
    """A dispatch room: broker, service, radio and one open page."""

    def __init__(self, broker: Mosquitto, service: DispatchProcess, radio: Radio, browser: Any) -> None:
        self.broker, self.service, self.radio, self.browser = broker, service, radio, browser

    def find(self, css: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", css))

    def text(self, css: str) -> str:
        return str(
            self.browser.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", css)
        )

    def row(self, unit: str) -> str:
        return self.text(f"tr[data-unit='boston-ems/{unit}']")

    def press(self, css: str, word: str = "") -> None:
        def done() -> bool:
            for one in self.find(css):
                if word in one.text and one.is_displayed():
                    one.click()
                    return True
            return False

        wait_until(done, f"{css} {word}")

    def errors(self) -> list[str]:
        return [
            e["message"]
            for e in self.browser.get_log("browser")
            if e["level"] == "SEVERE" and "streets" not in e["message"]
        ]


@pytest.fixture
def room(tmp_path: Path, browser: Any) -> Iterator[Room]:
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        service = DispatchProcess(tmp_path / "dispatch", f"mqtt://127.0.0.1:{broker.port}")
        with service:
            radio = Radio(broker.port)
            browser.get("about:blank")
            browser.delete_all_cookies()
            browser.get_log("browser")
            browser.get(service.page)
            room = Room(broker, service, radio, browser)
            wait_until(lambda: "connected" in room.text("#connection"), "the stream")
            yield room
            browser.get("about:blank")
            radio.close()


def unit(name: str, journal: int = 7) -> UnitVoice:
    return UnitVoice(Topics("boston-ems", name), journal)


def test_a_unit_appears_moves_and_grows_old(room: Room) -> None:
    a1 = unit("A1")
    assert "token" not in room.browser.current_url
    room.radio.say(a1.link(1, online=True), a1.location(now_ms(), 42.35, -71.06), retain=True)
    room.radio.say(a1.status(1, "en_route", now_ms()))
    wait_until(lambda: "en route" in room.row("A1") and "now" in room.row("A1"), "a live row")
    mark = room.find(".mark")[0]
    before = mark.location
    room.radio.say(a1.location(now_ms(), 42.36, -71.05))
    wait_until(lambda: mark.location != before, "the mark to move")
    room.radio.say(a1.location(now_ms() - 400_000, 42.36, -71.05))
    wait_until(lambda: "old" in room.row("A1"), "the row to say so")
    assert "old" in room.find(".mark")[0].get_attribute("class")
    assert "min ago" in room.text(".mark .name")
    room.radio.say(a1.link(1, online=False))
    wait_until(lambda: "no link" in room.row("A1"), "the row to say so")
    assert room.errors() == []


def test_an_emergency_can_not_be_overlooked_and_its_acknowledgement_reaches_the_crew(room: Room) -> None:
    a1 = unit("A1")
    room.radio.say(a1.link(1, online=True), a1.location(now_ms(), 42.35, -71.06), retain=True)
    room.radio.say(a1.emergency(1, now_ms()), a1.status_state("available", now_ms(), None, emergency=True))
    wait_until(lambda: room.find(".alarm.high:not(.seen)"), "the alarm")
    room.find("#search")[0].send_keys("no such unit")
    wait_until(lambda: "EMERGENCY" in room.row("A1") and room.find("#units tr")[0].is_displayed(), "its row")
    assert not [one for one in room.find(".alarm.high button") if "Shelve" in one.text]
    room.press(".alarm.high button", "Acknowledge")
    wait_until(lambda: room.find(".alarm.high.seen"), "the acknowledged alarm, still there")
    wait_until(
        lambda: any(b"acknowledged" in payload for _, payload in room.radio.heard), "the crew to be told"
    )
    room.press(".alarm.high button", "Close")
    wait_until(lambda: "still active" in room.text("#toast"), "the refusal")
    room.radio.say(a1.emergency(2, now_ms(), active=False))
    wait_until(lambda: "ended" in room.text(".alarm.high"), "the end")
    room.press(".alarm.high button", "Close")
    wait_until(lambda: not room.find(".alarm"), "the alarm to go")


def test_what_a_unit_says_is_text_on_every_part_of_the_page(room: Room) -> None:
    a1 = unit("A1")
    room.radio.say(a1.link(1, online=True), a1.location(now_ms(), 42.35, -71.06), retain=True)
    room.radio.say(a1.status(1, HOSTILE, now_ms()), a1.status_state(HOSTILE, now_ms(), 1))
    room.radio.say(a1.batch(Stream.EVENTS, 2, [(now_ms(), Alert(HOSTILE, HOSTILE))]))
    wait_until(lambda: "<b>bold</b>" in room.row("A1"), "the row")
    room.press("#units tr")
    wait_until(lambda: room.text("#detail .line").count("<b>bold</b>") == 2, "the time line")
    assert room.find("b, img[src='x']") == []
    assert room.browser.title == "Dispatch"


def test_a_call_is_assigned_without_a_cad_by_the_keyboard_alone(room: Room) -> None:
    from selenium.webdriver.common.keys import Keys

    a1 = unit("A1")
    room.radio.say(a1.status(1, "available", now_ms()))
    wait_until(lambda: "available" in room.row("A1"), "the unit")
    body = room.find("body")[0]
    body.send_keys("/")
    assert room.browser.switch_to.active_element.get_attribute("id") == "search"
    room.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    room.find("#units tr")[0].send_keys(Keys.ENTER)
    wait_until(lambda: room.find("[data-form=assign]"), "the unit's buttons")
    room.find("[data-form=assign]")[0].send_keys(Keys.ENTER)
    wait_until(lambda: room.find("dialog[open] [name=incident]"), "the form")
    room.find("[name=incident]")[0].send_keys("26-000123")
    room.find("[name=address]")[0].send_keys("1 City Hall Sq", Keys.ENTER)
    wait_until(lambda: "26-000123" in room.row("A1"), "the incident in the list")
    wait_until(
        lambda: any(
            b"26-000123" in payload for topic, payload in room.radio.heard if topic.endswith("/assign")
        )
    )
    room.radio.say(a1.status(2, "en_route", now_ms()))
    wait_until(
        lambda: "acknowledged" in room.text("#detail .facts") and "not ack" not in room.text("#detail .facts")
    )


def test_an_emergency_is_acknowledged_while_a_form_is_open_and_nothing_typed_is_lost(room: Room) -> None:
    a1, a2 = unit("A1"), unit("A2", 2)
    room.radio.say(a1.status(1, "available", now_ms()), a2.status(1, "available", now_ms()))
    wait_until(lambda: "available" in room.row("A2"), "the units")
    room.press("tr[data-unit='boston-ems/A1']")
    room.press("[data-form=assign]")
    wait_until(lambda: room.find("dialog[open] [name=incident]"), "the form")
    room.find("[name=incident]")[0].send_keys("26-77")
    room.radio.say(a2.emergency(2, now_ms()))
    wait_until(lambda: room.find(".alarm.high:not(.seen)"), "the alarm")
    room.press(".alarm.high button", "Acknowledge")
    wait_until(lambda: room.find(".alarm.high.seen"), "the acknowledged alarm")
    assert room.find("dialog[open] [name=incident]")[0].get_attribute("value") == "26-77"
    room.find("[name=incident]")[0].send_keys("\ue00c")
    wait_until(lambda: not room.find("dialog[open]"), "the form to close by the escape key")


def test_a_vehicle_is_asked_and_its_answer_is_shown(room: Room) -> None:
    a1 = unit("A1")
    room.radio.say(a1.status(1, "available", now_ms()), a1.link(1, online=True))
    wait_until(lambda: "available" in room.row("A1"), "the unit")
    room.press("#units tr")
    room.press("[data-ask=ping]")

    def asked() -> list[Any]:
        return [json.loads(payload) for topic, payload in room.radio.heard if topic.endswith("/ping")]

    wait_until(asked, "the question")
    reply = Reply("ping", "refused", asked()[0]["id"], "busy", "<b>Too many.</b>")
    room.radio.say((a1.topics.reply("ping"), encode_map(reply).payload))
    wait_until(lambda: "refused, busy: <b>Too many.</b>" in room.text("#toast"), "the answer")
    assert room.find("#toast b") == []


def test_what_the_vehicle_says_against_a_press_stands_on_the_time_line(room: Room) -> None:
    a1 = unit("A1")
    evidence = EvidenceRecord(motion="rolling", motion_for_ms=60_000, contradictions=("rolling",))
    press = StatusChange("on_scene", "en_route", "k", 1, 1, evidence=evidence)
    room.radio.say(a1.batch(Stream.EVENTS, 1, [(now_ms(), press)]))
    wait_until(lambda: "on scene" in room.row("A1"), "the unit")
    room.press("#units tr")
    wait_until(lambda: "vehicle says: rolling" in room.text("#detail .line"), "the evidence")


def test_a_page_without_its_service_says_that_nothing_is_live(room: Room) -> None:
    a1 = unit("A1")
    room.radio.say(a1.link(1, online=True), a1.location(now_ms(), 42.35, -71.06), retain=True)
    wait_until(lambda: "now" in room.row("A1"), "a live row")
    room.service.kill()
    wait_until(lambda: "NO CONNECTION TO THE SERVICE" in room.text("#connection"), "the page to say so")
    wait_until(lambda: "old" in room.row("A1"), "the row to be no longer live")


def test_a_broker_that_is_away_is_told_on_the_page(room: Room) -> None:
    room.broker.kill()
    wait_until(lambda: "NO BROKER" in room.text("#connection"), "the page to say so")
    room.broker.start()
    wait_until(lambda: room.text("#connection") == "connected", "it to be back")


def test_a_past_hour_plays_and_is_never_mistaken_for_now(room: Room) -> None:
    a1 = unit("A1")
    room.radio.say(a1.positions(1, 100, now_ms() - 600_000), a1.status(1, "transporting", now_ms() - 590_000))
    wait_until(lambda: "transporting" in room.row("A1"), "the unit")
    room.press("#replay-open")
    assert "past" in room.text("#not-live")
    room.press("#replay button", "Load")
    wait_until(lambda: room.find("#map-side.replay .mark"), "the unit of the past")
    before = room.text("#replay time")
    wait_until(lambda: room.text("#replay time") != before, "time to pass")
    room.press("#replay button", "Back to now")
    wait_until(lambda: not room.find("#map-side.replay"), "the present")


def test_text_stands_out_in_both_palettes_and_nothing_is_cut_off(room: Room) -> None:
    names = [unit(f"A{number}", number) for number in range(1, 41)]
    for one in names:
        room.radio.say(
            one.link(1, online=True), one.location(now_ms(), 42.3 + 0.002 * one.journal, -71.06), retain=True
        )
        room.radio.say(one.status(1, "available", now_ms()))
    wait_until(lambda: len(room.find("#units tr")) == 40, "all units")
    for width, height in ((1280, 900), (3840, 2160)):
        room.browser.set_window_size(width, height)
        for _ in range(2):
            worst, where = room.browser.execute_script(WORST_CONTRAST)
            assert worst >= 7, f"{where!r} has a contrast of {worst:.1f}"
            assert not room.browser.execute_script(BEYOND_THE_WINDOW)
            room.press("#palette")
    room.browser.set_window_size(1280, 900)


def test_statistics_stand_on_the_page_with_what_they_mean(room: Room) -> None:
    a1 = unit("A1")
    for seq, status in enumerate(("available", "en_route", "on_scene"), 1):
        room.radio.say(a1.status(seq, status, now_ms() - 60_000 * (4 - seq)))
    wait_until(lambda: "on scene" in room.row("A1"), "the presses")
    room.press("#statistics")
    wait_until(lambda: "travel.median[all]" in room.text(".figures"), "the figures")
    assert "from en route to on scene" in room.text(".figures")
    assert room.errors() == []


def test_a_moving_unit_is_carried_on_as_the_vehicle_reckons_and_no_further(room: Room) -> None:
    from agent.domain.fix import FixMode
    from agent.domain.picture import extrapolated
    from agent.domain.record import Position

    script = """
      const done = arguments[arguments.length - 1];
      import("/page/map.js").then((map) => done(arguments[1].map((s) => map.carriedOn(arguments[0], s))));
    """
    for speed, course in ((13.0, 200.0), (0.3, 90.0), (None, None)):
        position = Position(42.35, -71.06, None, speed, course, FixMode.FIX_3D, None, None)
        fields = {"lat_deg": 42.35, "lon_deg": -71.06, "speed_mps": speed, "course_deg": course}
        passed = [0, 3, 14, 60]
        shown = room.browser.execute_async_script(script, fields, passed)
        for seconds, (lat, lon) in zip(passed, shown, strict=True):
            assert (lat, lon) == pytest.approx(extrapolated(position, seconds), abs=1e-9)
