"""The crew's page in a real browser: presses, lamps, refusals, calls, the emergency, night and driving."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from hil.demo.crew_page import CrewPage
from hil.played_daemon import PlayedDaemon, a_snapshot
from hil.process.vehicle_config import to_toml

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
    "shown": False,
    "acknowledged": False,
}
NO_EMERGENCY = a_snapshot()["emergency"]


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
    # A daemon that does not know it, as after a restart, is told again; one that knows is not.
    until(browser, lambda: daemon.done.count({"do": "shown", "incident": "I-77"}) > 1)
    daemon.set(call=CALL | {"shown": True})
    until(browser, lambda: daemon.last_done_ago_s({"do": "shown", "incident": "I-77"}) > 2)
    browser.find_element(By.ID, "ack-call").click()
    until(browser, lambda: {"do": "acknowledge_call", "incident": "I-77"} in daemon.done)
    daemon.set(
        call=CALL
        | {
            "shown": True,
            "acknowledged": True,
            "address": "1 City Hall Sq",
            "destination": "bmc",
            "eta_min": 9,
        }
    )
    until(browser, lambda: "1 City Hall Sq" in call.text and "BMC 9 min (estimated)" in call.text)
    assert not browser.find_element(By.ID, "ack-call").is_displayed()
    daemon.set(call=None, incident=None)
    until(browser, lambda: not call.is_displayed())


def test_strings_from_outside_are_text(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    evil = "<img src=x onerror='document.title=1'><b>x</b>"
    daemon.set(
        call=CALL | {"address": evil, "nature": evil, "notes": evil},
        unit={"call_sign": evil, "vehicle": evil},
        messages=[a_message("1", text=evil)],
    )
    until(browser, lambda: evil in browser.find_element(By.ID, "address").text)
    assert evil in browser.find_element(By.ID, "message-text").text
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


def test_the_emergency_is_within_reach_whatever_is_open_or_has_to_be_said(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    daemon.set(
        call=CALL | {"shown": True, "acknowledged": True, "destination": "bmc", "eta_min": 9},
        messages=[a_message("m1", text="Use the rear gate. " * 30)],
        hint={"suggests": "on_scene"},
        health=[{"reason": "store_full", "text": "The disk is full."}],
        link={"connected": False},
        backlog={"presses": 1234},
        status=a_snapshot()["status"]
        | {"token": "out_of_service", "refused": {"reason": "x", "text": "No. " * 60}},
    )
    until(browser, lambda: browser.find_element(By.ID, "message").is_displayed())
    browser.find_element(By.ID, "more").click()
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "dialog[open]"))
    button = browser.find_element(By.ID, "emergency")
    assert button.rect["y"] + button.rect["height"] <= 480
    ActionChains(browser).click_and_hold(button).perform()
    until(browser, lambda: {"do": "emergency"} in daemon.done)
    ActionChains(browser).release().perform()


def test_a_raised_emergency_looks_normal_but_for_a_small_sign(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    daemon.set(emergency=NO_EMERGENCY | {"active": True, "sent": True, "received": True})
    button = browser.find_element(By.ID, "emergency")
    until(browser, lambda: button.text.endswith("··"))
    assert not browser.find_element(By.ID, "away").is_displayed()
    assert not browser.find_element(By.ID, "answer").is_displayed()


def chosen(browser: WebDriver, word: str) -> None:
    """Touch the button of the open sheet that says this."""
    entry = f"//dialog//button[normalize-space()='{word}']"
    until(browser, lambda: browser.find_elements(By.XPATH, entry))
    browser.find_element(By.XPATH, entry).click()


def opened_sheet(browser: WebDriver, *words: str) -> None:
    """Go from More to what stands under these words."""
    browser.find_element(By.ID, "more").click()
    for word in words:
        chosen(browser, word)


def test_a_test_of_the_key_holds_only_while_its_button_is_held(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    opened_sheet(browser, "Test the emergency")
    button = browser.find_element(By.ID, "test-key")
    ActionChains(browser).click_and_hold(button).perform()
    held, let_go = {"do": "emergency_test", "held": True}, {"do": "emergency_test", "held": False}
    until(browser, lambda: daemon.done.count(held) > 2)  # said again and again
    assert let_go not in daemon.done
    ActionChains(browser).release().perform()
    until(browser, lambda: daemon.done[-1] == let_go)
    # A sheet that is closed under the finger lets go as well.
    ActionChains(browser).click_and_hold(button).perform()
    until(browser, lambda: daemon.done[-1] == held)
    daemon.set(motion={"driving": True})
    until(browser, lambda: daemon.done[-1] == let_go)
    ActionChains(browser).release().perform()
    assert {"do": "emergency"} not in daemon.done


def test_a_test_of_the_page_is_told_as_one_and_shown_as_one(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    opened_sheet(browser, "Test the emergency")
    button = browser.find_element(By.ID, "test-page")
    button.click()
    assert daemon.done == []  # a touch is not enough
    ActionChains(browser).click_and_hold(button).perform()
    until(browser, lambda: daemon.done == [{"do": "emergency", "test": True}])
    ActionChains(browser).release().perform()
    daemon.set(emergency=NO_EMERGENCY | {"active": True, "is_test": True, "sent": True})
    until(browser, lambda: browser.find_element(By.ID, "emergency").text == "Emergency TEST ·")


def test_an_emergency_is_cancelled_by_the_code_and_by_one_who_is_aboard(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    daemon.set(emergency=NO_EMERGENCY | {"active": True}, crew=["p-12", "p-40"])
    until(browser, lambda: browser.find_element(By.ID, "emergency").text.endswith("…"))
    opened_sheet(browser, "Cancel emergency")
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#sheet-body input"))
    browser.find_element(By.CSS_SELECTOR, "#sheet-body input").send_keys("4711")
    browser.find_element(By.XPATH, "//dialog//button[normalize-space()='Send']").click()
    entry = "//dialog//button[normalize-space()='p-40']"
    until(browser, lambda: browser.find_elements(By.XPATH, entry))
    browser.find_element(By.XPATH, entry).click()
    until(browser, lambda: daemon.done == [{"do": "cancel_emergency", "code": "4711", "by": "p-40"}])


def a_message(number: str, *, text: str = "", order: str | None = None) -> dict[str, Any]:
    return {"id": number, "text": text, "order": order, "shown": False, "acknowledged": False}


def test_a_message_is_shown_told_as_shown_and_acknowledged(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    daemon.set(messages=[a_message("m2", order="use_radio"), a_message("m1", text="Back door")])
    shown = browser.find_element(By.ID, "message")
    until(browser, lambda: shown.is_displayed() and "Back door" in shown.text)
    until(browser, lambda: {"do": "message_shown", "message": "m1"} in daemon.done)
    assert {"do": "message_shown", "message": "m2"} not in daemon.done
    browser.find_element(By.ID, "ack-message").click()
    until(browser, lambda: {"do": "acknowledge_message", "message": "m1"} in daemon.done)
    daemon.set(messages=[a_message("m2", order="use_radio")])
    until(browser, lambda: "Use the radio" in shown.text)
    daemon.set(messages=[])
    until(browser, lambda: not shown.is_displayed())


def test_while_driving_a_coded_order_is_shown_and_the_words_of_a_person_are_not(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    daemon.set(motion={"driving": True}, messages=[a_message("m1", text="Back door")])
    until(browser, lambda: "message" in browser.find_element(By.ID, "signs").text)
    assert not browser.find_element(By.ID, "message").is_displayed()
    assert {"do": "message_shown", "message": "m1"} not in daemon.done
    daemon.set(messages=[a_message("m2", order="return_to_base"), a_message("m1", text="Back door")])
    until(browser, lambda: browser.find_element(By.ID, "message-text").text == "Return to base")


def test_a_reason_is_asked_for_that_the_key_could_not_give_and_one_of_a_delay_is_offered(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    why = browser.find_element(By.ID, "why")
    status = {"token": "out_of_service", "age_s": 1, "undo_s": 0, "refused": None, "reason": None}
    daemon.set(status=status)
    until(browser, why.is_displayed)
    why.click()
    choice = "//dialog//button[normalize-space()='Fuel']"
    until(browser, lambda: browser.find_elements(By.XPATH, choice))
    browser.find_element(By.XPATH, choice).click()
    until(browser, lambda: daemon.done == [{"do": "reason", "reason": "fuel"}])
    daemon.set(status=status | {"reason": "fuel"})
    until(browser, lambda: not why.is_displayed())
    opened_sheet(browser, "Delayed: why", "Traffic")
    until(browser, lambda: daemon.done[-1] == {"do": "reason", "reason": "traffic"})


def test_not_for_calls_is_given_with_its_reason_and_stays_in_sight(
    browser: WebDriver, daemon: PlayedDaemon
) -> None:
    opened(browser, daemon)
    opened_sheet(browser, "Not for calls", "Fuel")
    until(
        browser,
        lambda: daemon.done == [{"do": "available_for_calls", "value": False, "reason": "fuel"}],
    )
    daemon.set(available_for_calls=False)
    until(browser, lambda: "Not for calls" in browser.find_element(By.ID, "signs").text)
    opened_sheet(browser, "Available for calls")
    until(browser, lambda: daemon.done[-1] == {"do": "available_for_calls", "value": True})


def test_a_press_is_corrected_and_a_crew_signs_on(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    daemon.set(recent=[{"seq": 7, "token": "on_scene", "time": "12:00:05"}])
    typed = "#sheet-body input"
    for words, keys in ((("Correct a time", "On scene 12:00:05"), "3"), (("Sign on",), "p-12, p-40")):
        until(browser, lambda: not browser.find_elements(By.CSS_SELECTOR, "dialog[open]"))
        opened_sheet(browser, *words)
        until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, typed))
        browser.find_element(By.CSS_SELECTOR, typed).send_keys(keys)
        browser.find_element(By.XPATH, "//dialog//button[normalize-space()='Send']").click()
    until(browser, lambda: len(daemon.done) == 2)
    assert daemon.done == [
        {"do": "amend", "seq": 7, "earlier_s": 180},
        {"do": "sign_on", "crew": ["p-12", "p-40"]},
    ]


def test_no_connection_and_an_ill_system_are_said_apart(browser: WebDriver, daemon: PlayedDaemon) -> None:
    opened(browser, daemon)
    signs = browser.find_element(By.ID, "signs")
    daemon.set(link={"connected": False})
    until(browser, lambda: "no connection" in signs.text and "system ill" not in signs.text)
    daemon.set(link={"connected": True}, health=[{"reason": "store_full", "text": "The disk is full."}])
    until(browser, lambda: "system ill" in signs.text and "no connection" not in signs.text)
    daemon.set(health=[], receipts=False)
    until(browser, lambda: "no receipts from dispatch" in signs.text)


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
    daemon.set(
        night=night,
        call=CALL,
        messages=[a_message("m1", text="Use the rear gate, " * 9)],
        status=a_snapshot()["status"] | {"token": "out_of_service"},
        health=[{"reason": "x", "text": "x"}],
        link={"connected": False},
        available_for_calls=False,
        receipts=False,
    )
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


def test_an_open_page_goes_on_when_its_server_is_started_again(
    browser: WebDriver, daemon: PlayedDaemon, tmp_path: Path
) -> None:
    page = CrewPage(tmp_path / "agent.toml", tmp_path)
    table = {**page.settings["panel"], "socket": str(daemon.path)}
    (tmp_path / "agent.toml").write_text(to_toml({"panel": table}), encoding="utf-8")
    page.start()
    try:
        browser.get(page.address)
        until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, ".tile:not([disabled])"))
        page.stop()
        away = browser.find_element(By.ID, "away")
        until(browser, lambda: away.is_displayed() and "server" in away.text)
        assert not tile(browser, "on_scene").is_enabled()
        page.start()
        until(browser, lambda: tile(browser, "on_scene").is_enabled())
        tile(browser, "on_scene").click()
        until(browser, lambda: {"do": "press", "key": "on_scene"} in daemon.done)
    finally:
        page.stop()


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
