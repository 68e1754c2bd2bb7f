"""The crew's page in a real browser: presses, lamps, refusals, calls, the emergency, night and driving."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from hil.played_daemon import PlayedDaemon, a_snapshot

pytestmark = pytest.mark.timeout(180)
WITHIN_S = 30.0
MM_PX = 5.2
CALL = {
    "incident": "I-77",
    "priority": "1",
    "address": "818 Harrison Ave",
    "nature": "Chest pain",
    "response_mode": "lights and siren",
    "notes": "Third floor",
    "destination": None,
    "eta_min": None,
    "alternates": ["P2"],
    "acknowledged": False,
}


def until(browser: WebDriver, condition: Callable[[], Any]) -> Any:
    return WebDriverWait(browser, WITHIN_S, poll_frequency=0.05).until(lambda _: condition())


def opened(browser: WebDriver, daemon: PlayedDaemon) -> WebDriver:
    browser.get(daemon.address)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".tile:not([disabled])"))
    return browser


def tile(browser: WebDriver, key: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, f'.tile[data-key="{key}"]')


def until_lamp(browser: WebDriver, key: str, state: str) -> None:
    until(browser, lambda: tile(browser, key).get_attribute("data-lamp") == state)


def lamp(browser: WebDriver, key: str) -> str:
    return tile(browser, key).find_element(By.CLASS_NAME, "lamp").text


def test_a_press_reaches_the_daemon_and_each_lamp_is_shown_by_shape_and_word(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    tile(browser, "on_scene").click()
    until(browser, lambda: daemon.done)
    assert daemon.done == [{"do": "press", "key": "on_scene"}]
    shown = []
    for state in ("not_stored", "stored", "delivered", "received", "refused"):
        daemon.light("on_scene", state)
        until_lamp(browser, "on_scene", state)
        shown.append(lamp(browser, "on_scene"))
    assert len({text.split()[0] for text in shown}) == 5
    assert all(len(text.split()) > 1 for text in shown)


def test_the_status_that_holds_is_marked_and_undo_is_offered_while_it_can_be(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    undo = browser.find_element(By.ID, "undo")
    assert not undo.is_enabled()
    daemon.set(status={"token": "on_scene", "age_s": 3, "undo_s": 7, "refused": None})
    until(browser, undo.is_enabled)
    assert tile(browser, "on_scene").get_attribute("aria-pressed") == "true"
    undo.click()
    until(browser, lambda: {"do": "undo"} in daemon.done)


def test_a_reason_is_asked_for_where_one_is_due(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    tile(browser, "out_of_service").click()
    choices = until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#sheet-body button"))
    next(choice for choice in choices if choice.text == "Fuel").click()
    until(browser, lambda: daemon.done)
    assert daemon.done == [{"do": "press", "key": "out_of_service", "reason": "fuel"}]


def test_a_refusal_of_dispatch_is_said_in_words(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    refused = {"reason": "incident_closed", "text": ""}
    daemon.set(status={"token": "on_scene", "age_s": 1, "undo_s": 0, "refused": refused})
    answer = browser.find_element(By.ID, "answer")
    until(browser, lambda: "incident is closed" in answer.text)


def test_without_the_daemon_a_press_is_impossible_and_nothing_is_kept(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    daemon.die()
    away = browser.find_element(By.ID, "away")
    until(browser, lambda: away.is_displayed() and "use the radio" in away.text)
    assert not tile(browser, "on_scene").is_enabled()
    refusal = browser.execute_async_script(
        "const done = arguments[0];"
        "fetch('/act', {method: 'POST', body: JSON.stringify({do: 'press', key: 'on_scene'})})"
        ".then(async (r) => done([r.status, (await r.json()).error]));"
    )
    assert refusal == [503, "agent_away"]
    daemon.live()
    until(browser, lambda: tile(browser, "on_scene").is_enabled())
    assert not away.is_displayed()
    assert daemon.done == []


def test_a_call_is_shown_acknowledged_updated_and_cancelled(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    daemon.set(call=CALL, incident="I-77")
    call = browser.find_element(By.ID, "call")
    until(browser, call.is_displayed)
    assert "818 Harrison Ave" in call.text
    until(browser, lambda: {"do": "shown", "incident": "I-77"} in daemon.done)
    browser.find_element(By.ID, "ack-call").click()
    until(browser, lambda: {"do": "acknowledge_call", "incident": "I-77"} in daemon.done)
    daemon.set(
        call=CALL | {"acknowledged": True, "address": "1 City Hall Sq", "destination": "BMC", "eta_min": 9}
    )
    until(browser, lambda: "1 City Hall Sq" in call.text and "9 min (estimated)" in call.text)
    assert not browser.find_element(By.ID, "ack-call").is_displayed()
    daemon.set(call=None, incident=None)
    until(browser, lambda: not call.is_displayed())
    assert daemon.done.count({"do": "shown", "incident": "I-77"}) == 1


def test_strings_from_outside_are_text(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    evil = "<img src=x onerror='document.title=1'><b>x</b>"
    daemon.set(
        call=CALL | {"address": evil, "nature": evil, "notes": evil},
        unit={"call_sign": evil, "vehicle": evil},
        messages=[{"id": "1", "text": evil, "acknowledged": False}],
    )
    until(browser, lambda: evil in browser.find_element(By.ID, "address").text)
    assert browser.find_elements(By.CSS_SELECTOR, "img, b") == []
    assert browser.title == "Crew panel"


def test_the_emergency_needs_a_hold_or_a_slide_and_a_touch_does_nothing(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    button = browser.find_element(By.ID, "emergency")
    button.click()
    ActionChains(browser).click_and_hold(button).release().perform()
    assert daemon.done == []
    ActionChains(browser).click_and_hold(button).perform()
    until(browser, lambda: daemon.done == [{"do": "emergency"}])
    ActionChains(browser).release().perform()
    width = button.size["width"]
    slide = ActionChains(browser, duration=30).move_to_element_with_offset(button, -width // 2 + 10, 0)
    slide.click_and_hold().move_by_offset(width - 20, 0).release().perform()
    until(browser, lambda: len(daemon.done) == 2)


def test_the_emergency_works_by_keyboard(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    browser.execute_script("document.getElementById('emergency').focus()")
    ActionChains(browser).key_down(Keys.SPACE).perform()
    until(browser, lambda: daemon.done == [{"do": "emergency"}])
    ActionChains(browser).key_up(Keys.SPACE).perform()


def test_a_raised_emergency_looks_normal_but_for_a_small_sign(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    daemon.set(emergency={"active": True, "sent": True, "received": True, "test": False})
    button = browser.find_element(By.ID, "emergency")
    until(browser, lambda: button.text.endswith("··"))
    assert not browser.find_element(By.ID, "away").is_displayed()
    assert not browser.find_element(By.ID, "answer").is_displayed()


def test_an_emergency_is_announced_as_a_test_and_the_guard_says_so(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    browser.find_element(By.ID, "more").click()
    words = "Test the emergency"
    entry = f"//button[normalize-space()='{words}']"
    until(browser, lambda: browser.find_elements(By.XPATH, entry))
    browser.find_element(By.XPATH, entry).click()
    until(browser, lambda: {"do": "emergency_test"} in daemon.done)
    daemon.set(emergency={"active": False, "sent": False, "received": False, "test": True})
    until(browser, lambda: "TEST" in browser.find_element(By.ID, "emergency").text)


def test_while_driving_nothing_is_left_to_read_or_type(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    daemon.set(call=CALL, motion={"driving": True})
    until(browser, lambda: browser.find_element(By.ID, "address").is_displayed())
    for hidden in ("nature", "show-notes", "more"):
        assert not browser.find_element(By.ID, hidden).is_displayed()
    assert tile(browser, "on_scene").is_displayed()
    tile(browser, "out_of_service").click()
    until(browser, lambda: {"do": "press", "key": "out_of_service"} in daemon.done)


@pytest.mark.parametrize("night", [False, True])
def test_text_has_seven_to_one_and_tiles_fifteen_millimetres(
    browser: WebDriver, daemon: PlayedDaemon, *, night: bool
) -> None:
    opened(browser, daemon)
    daemon.set(night=night, call=CALL, health=[{"reason": "x", "text": "x"}], link={"connected": False})
    daemon.light("on_scene", "stored")
    until(browser, lambda: browser.find_element(By.ID, "call").is_displayed())
    measured = browser.execute_script(MEASURE)
    assert measured["texts"] > 10
    assert measured["least_ratio"] >= 7, measured["worst"]
    for key in (one["key"] for one in a_snapshot()["keys"]):
        size = tile(browser, key).size
        assert min(size["width"], size["height"]) >= 15 * MM_PX - 1, (key, size)
    page = browser.execute_script("return [document.body.scrollHeight, innerHeight]")
    assert page[0] <= page[1], "the page does not fit on the screen"


MEASURE = """
const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const light = (rgb) => rgb.map((c) => linear(c / 255))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
const ground = (node) => { for (; node; node = node.parentElement) {
  const c = numbers(getComputedStyle(node).backgroundColor);
  if (c.length < 4 || c[3] > 0) return c.slice(0, 3); }
  return [255, 255, 255]; };
let least = 99, worst = "", texts = 0;
for (const node of document.querySelectorAll("body *")) {
  if (node.closest("[hidden]") || node.disabled || node.closest("dialog:not([open])")) continue;
  if (![...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())) continue;
  texts += 1;
  const a = light(numbers(getComputedStyle(node).color).slice(0, 3)), b = light(ground(node));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < least) { least = ratio; worst = node.outerHTML; }
}
return { least_ratio: least, worst, texts };
"""


def test_two_panels_show_the_same(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    second = opened(browser, daemon).current_window_handle
    for handle in (first, second):
        browser.switch_to.window(handle)
        daemon.light("en_route", "received" if handle == first else "stored")
        for other in (first, second):
            browser.switch_to.window(other)
            expected = "received" if handle == first else "stored"
            until_lamp(browser, "en_route", expected)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 403),
        ("/stream", {}, 403),
        ("/?token=wrong", {}, 403),
        ("/", {"Host": "evil.example"}, 421),
        ("/../../etc/passwd", {"Cookie": "mdt_panel=a-token-of-the-test"}, 404),
        ("/server.py", {"Cookie": "mdt_panel=a-token-of-the-test"}, 404),
    ],
)
def test_strangers_are_turned_away(
    daemon: PlayedDaemon, path: str, headers: dict[str, str], status: int
) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{daemon.port}{path}", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == status
    refused.value.close()


def test_another_sites_page_can_not_press(daemon: PlayedDaemon) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{daemon.port}/act",
        data=b'{"do": "press", "key": "on_scene"}',
        headers={"Cookie": "mdt_panel=a-token-of-the-test", "Origin": "http://evil.example"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 403
    refused.value.close()
    assert daemon.done == []
