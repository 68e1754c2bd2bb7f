"""python -m hil.page_pictures: the pictures of the crew's page in docs, taken by a real browser."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from hil.played_daemon import PlayedDaemon

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
WITHIN_S = 60.0
CALL: dict[str, Any] = {
    "incident": "26-000117",
    "priority": "1",
    "response_mode": "lights_and_siren",
    "nature": "Chest pain",
    "address": "700 Boylston St",
    "notes": "Third floor, the lift is out of order",
    "destination": "bmc",
    "eta_min": 6,
    "alternates": ["P2"],
    "acknowledged": False,
}
LAMPS = {"acknowledged": "received", "en_route": "delivered"}
DAY = {
    "incident": CALL["incident"],
    "call": CALL,
    "status": {"token": "available", "age_s": 750.0, "undo_s": 0, "refused": None},
}
NIGHT = {
    "night": True,
    "motion": {"driving": True},
    "call": {**CALL, "acknowledged": True},
    "status": {"token": "en_route", "age_s": 125.0, "undo_s": 0, "refused": None},
}


def main() -> int:
    """Write the pictures. Returns the exit code: 1 where there is no Chromium with its driver."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        print("chromium and its driver are not installed", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=800,480"):
        options.add_argument(flag)
    with tempfile.TemporaryDirectory(prefix="mdt-") as folder:
        daemon = PlayedDaemon(Path(folder))
        daemon.start()
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": 800, "height": 480, "deviceScaleFactor": 1, "mobile": False},
            )
            browser.get(daemon.address)
            wait = WebDriverWait(browser, WITHIN_S)
            wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".tile:not([disabled])"))
            daemon.set(**DAY)
            wait.until(lambda _: CALL["address"] in browser.find_element(By.TAG_NAME, "body").text)
            browser.save_screenshot(str(FOLDER / "panel-day.png"))
            for key, lamp in LAMPS.items():
                daemon.light(key, lamp)
            daemon.set(**NIGHT)
            lit = '.tile[data-key="en_route"][data-lamp="delivered"]'
            wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, lit))
            wait.until(lambda _: "night" in str(browser.page_source))
            browser.save_screenshot(str(FOLDER / "panel-night.png"))
        finally:
            browser.quit()
            daemon.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
