"""Frames of dispatch's page while 200 units report once a second, in a real browser."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agent.dispatch.unit_voice import UnitVoice
from agent.wire.topics import Topics
from firmware_shims.system_clock import SystemClock
from hil.bench.figure import Figure, Target
from hil.bench.setting import NotHereError, Setting
from hil.broker_process import BrokerOptions, BrokerUnavailableError, Mosquitto
from hil.dispatch_browser import browser_there, open_browser
from hil.dispatch_process import DispatchProcess

UNITS = 200
SIZES = ((1280, 800), (3840, 2160))
FRAMES_S = 15
STREETS = Path(__file__).resolve().parents[3] / "shared" / "feeds" / "boston" / "boston_streets.geojson"
_FRAMES = """
const done = arguments[arguments.length - 1], times = [], end = performance.now() + arguments[0] * 1000;
const step = (at) => { times.push(at); if (at < end) requestAnimationFrame(step); else done(times); };
requestAnimationFrame(step);
"""
P50_TARGET, P95_TARGET = Target(20, at_most=True), Target(50, at_most=True)


def measure(setting: Setting) -> list[Figure]:
    """Milliseconds from one frame to the next; the peer is the same page while nothing reports."""
    if not browser_there():
        raise NotHereError("chromium and chromium-driver are not installed")
    folder = setting.fresh_folder("dispatch_page")
    options = ["--streets", str(STREETS)] if STREETS.is_file() else []
    try:
        with Mosquitto(folder / "broker", BrokerOptions()) as broker:
            service = DispatchProcess(folder / "d", f"mqtt://127.0.0.1:{broker.port}", options=options)
            with service:
                return [figure for size in SIZES for figure in _of_size(setting, broker.port, service, size)]
    except BrokerUnavailableError as error:
        raise NotHereError(str(error)) from error


def _of_size(setting: Setting, port: int, service: DispatchProcess, size: tuple[int, int]) -> list[Figure]:
    with open_browser(*size) as browser:
        browser.set_script_timeout(120)
        browser.get(service.page)
        reporting = threading.Event()
        ended = threading.Event()
        thread = threading.Thread(target=_report, args=(port, reporting, ended), name="reports")
        thread.start()
        try:
            _wait_for_units(browser)
            seconds = max(2, round(FRAMES_S * min(1.0, setting.scale)))
            setting.say(f"dispatch_page: {size[0]}x{size[1]}, {UNITS} units, {seconds} s")
            moving = _intervals(browser.execute_async_script(_FRAMES, seconds))
            reporting.set()
            still = _intervals(browser.execute_async_script(_FRAMES, seconds))
        finally:
            ended.set()
            thread.join()
    name = f"dispatch_page.{size[0]}"
    peer = "nothing reports"
    return [
        Figure(f"{name}.p50", _at(moving, 0.5), "ms a frame", peer, _at(still, 0.5), P50_TARGET),
        Figure(f"{name}.p95", _at(moving, 0.95), "ms a frame", peer, _at(still, 0.95), P95_TARGET),
    ]


def _report(port: int, pause: threading.Event, ended: threading.Event) -> None:
    """Every unit says where it is, once a second, until told to pause."""
    clock = SystemClock()
    client = paho.Client(CallbackAPIVersion.VERSION2, "fleet")
    client.connect("127.0.0.1", port)
    client.loop_start()
    voices = [UnitVoice(Topics("boston-ems", f"A{number}"), number) for number in range(1, UNITS + 1)]
    for number, voice in enumerate(voices):
        client.publish(*voice.link(1, online=True), qos=1, retain=True)
        client.publish(*voice.status(1, "en_route", clock.system_utc().unix_ms - number * 1000), qos=1)
    turn = 0
    while not ended.wait(1.0):
        if pause.is_set():
            continue
        turn += 1
        for number, voice in enumerate(voices):
            lat = 42.30 + 0.0006 * number + 0.0001 * turn
            lon = -71.12 + 0.0006 * ((number * 37) % UNITS)
            now_ms = clock.system_utc().unix_ms
            client.publish(*voice.location(now_ms, lat, lon, course_deg=(number + 5 * turn) % 360), qos=1)
    client.disconnect()
    client.loop_stop()


def _wait_for_units(browser: Any) -> None:
    for _ in range(600):
        if browser.execute_script("return document.querySelectorAll('.mark').length") >= UNITS:
            return
        threading.Event().wait(0.1)
    raise NotHereError("the units did not appear on the page within a minute")


def _intervals(times: list[float]) -> list[float]:
    return sorted(after - before for before, after in pairwise(times))


def _at(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
