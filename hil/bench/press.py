"""How long a press takes: to the lamp that says stored, to the broker, to dispatch's subscriber, to the page.

The whole way, with nothing left out: a button box on a PTY, the daemon as a process, mosquitto, and
dispatch's reader. Both ends of each figure are seen by this program, on one clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from selenium.webdriver.common.by import By

from firmware_shims.simulated.button_box import PtyButtonBox
from firmware_shims.system_clock import SystemClock
from hil.bench.figure import Figure, Target
from hil.bench.footprint import AS_SHIPPED
from hil.bench.peer_process import SCRIPTS, Contender
from hil.bench.rig_broker import mosquitto
from hil.bench.setting import NotHereError, Setting
from hil.demo.crew_page import CrewPage
from hil.dispatch_browser import browser_there, open_browser
from hil.drive.items import CanItem
from hil.drive.nmea_writer import Satellite, Solution, epoch_sentences
from hil.drive.shift import load_shift
from hil.process.press_log import LoggedPress, percentile_ms
from hil.process.process_rig import ProcessRig

PRESSES, TOUCHES = 200, 100
EVERY_S = 0.25
"""Presses are as far apart as a fleet of fingers could make them; no key comes again within two seconds."""
KEYS = (
    "acknowledged",
    "en_route",
    "staged",
    "on_scene",
    "at_patient",
    "transporting",
    "at_destination",
    "transfer_of_care",
    "available",
    "in_quarters",
)
TILES = tuple(key for key in KEYS if key not in ("staged", "transfer_of_care", "in_quarters"))
FRAMES_PER_S, FIXES_PER_S, SLICE_S = 4000, 10, 0.01
SETTLE_S = 3.0
PEER = "plain paho script, no disk"
"""Node-RED and thingsboard-gateway are not beside it: neither reads such a box without code of one's own."""


def measure(setting: Setting) -> list[Figure]:
    """Milliseconds, idle and loaded, and on the page."""
    count = setting.count(PRESSES, least=5)
    setting.say(f"press: {count} presses, idle")
    idle = asyncio.run(_ours(setting.fresh_folder("press"), count, loaded=False))
    setting.say(f"press: {count} presses of the plain script")
    plain = asyncio.run(_plain(setting.fresh_folder("press/peer"), count))
    setting.say(f"press: {count} presses beside {FRAMES_PER_S} frames/s and {FIXES_PER_S} fixes/s")
    loaded = asyncio.run(_ours(setting.fresh_folder("press"), count, loaded=True))
    rows = [
        _row("press.idle.dispatch.p50", _to_dispatch(idle), 50, 5, plain),
        _row("press.idle.dispatch.p99", _to_dispatch(idle), 99, 15, plain),
        Figure(
            "press.idle.stored.p50",
            percentile_ms(_to_stored(idle), 50),
            "ms",
            "write and fsync of 4 kB on that disk",
            percentile_ms(_syncs(setting.fresh_folder("press/disk"), count), 50),
        ),
        _row("press.idle.stored.p99", _to_stored(idle), 99, None, None),
        _row("press.loaded.stored.p50", _to_stored(loaded), 50, None, None),
        _row("press.loaded.stored.p99", _to_stored(loaded), 99, 50, None),
        _row("press.loaded.broker.p99", _to_broker(loaded), 99, 150, None),
        _row("press.loaded.dispatch.p99", _to_dispatch(loaded), 99, None, None),
    ]
    return [*rows, _page(setting)]


def _syncs(folder: Path, count: int) -> list[float]:
    """What the disk itself takes, beside whatever else this computer does."""
    found: list[float] = []
    pause = threading.Event()
    descriptor = os.open(folder / "bytes", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(count):
            pause.wait(0.05)
            begun_s = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fsync(descriptor)
            found.append(time.perf_counter() - begun_s)
    finally:
        os.close(descriptor)
    return found


def _row(
    name: str, durations_s: list[float], percent: float, most_ms: float | None, peer_s: list[float] | None
) -> Figure:
    return Figure(
        name,
        percentile_ms(durations_s, percent),
        "ms",
        PEER if peer_s is not None else "",
        None if peer_s is None else percentile_ms(peer_s, percent),
        None if most_ms is None else Target(most_ms, at_most=True),
    )


def _to_dispatch(presses: list[LoggedPress]) -> list[float]:
    return [one.dispatched_s - one.pressed_s for one in presses if one.dispatched_s is not None]


def _to_stored(presses: list[LoggedPress]) -> list[float]:
    return [one.stored_s - one.pressed_s for one in presses if one.stored_s is not None]


def _to_broker(presses: list[LoggedPress]) -> list[float]:
    """Until the lamp says that the broker has it: a PUBACK, and the way back to the box."""
    return [one.delivered_s - one.pressed_s for one in presses if one.delivered_s is not None]


async def _ours(folder: Path, count: int, *, loaded: bool) -> list[LoggedPress]:
    async with ProcessRig(folder, overrides=AS_SHIPPED) as rig:
        await rig.boot()
        load = asyncio.create_task(_load(rig)) if loaded else None
        try:
            await _until_connected(rig)
            for number in range(count):
                await asyncio.sleep(EVERY_S)
                rig.press(KEYS[number % len(KEYS)])
                await asyncio.sleep(0.02)
                rig.release(KEYS[number % len(KEYS)])
            await rig.wait_delivered(30)
        finally:
            if load is not None:
                load.cancel()
                await asyncio.gather(load, return_exceptions=True)
        await asyncio.sleep(0.5)
        rig.presses.see(rig.box.firmware, rig.dispatch)
        missing = sum(one.dispatched_s is None for one in rig.presses.presses)
        if missing:
            raise NotHereError(f"{missing} of {count} presses did not reach dispatch: {rig.agent_log[-300:]}")
        return rig.presses.presses


async def _until_connected(rig: ProcessRig) -> None:
    async with asyncio.timeout(60):
        while not (await rig.sample()).connected:
            await asyncio.sleep(0.05)
    await asyncio.sleep(SETTLE_S)


async def _load(rig: ProcessRig) -> None:
    """The bus of the demo's vehicle, and a receiver at ten fixes a second, for as long as it is let."""
    frames, begun, sent, fixes = _frames(), time.monotonic(), 0, 0
    begun_ms = SystemClock().system_utc().unix_ms
    while True:
        passed = time.monotonic() - begun
        while sent < passed * FRAMES_PER_S:
            frame = next(frames)
            rig.say_can(frame.bus, frame.can_id, extended=frame.extended, data=frame.data)
            sent += 1
        while fixes < passed * FIXES_PER_S:
            rig.say_nmea(_epoch(fixes, begun_ms))
            fixes += 1
        await asyncio.sleep(SLICE_S)


def _frames() -> Iterator[CanItem]:
    found: list[CanItem] = []
    for item in load_shift("boston_demo", 1).items():
        if isinstance(item, CanItem):
            found.append(item)
            if len(found) == FRAMES_PER_S:
                break
    while True:
        yield from found


def _epoch(number: int, begun_ms: int) -> bytes:
    """A tenth of a second of driving north at 10 m/s."""
    point = (42.33 + number / FIXES_PER_S * 10 / 111_195, -71.06)
    solution = Solution(point, 12.0, 10.0, 0.0, 0.9, 1.2)
    sky = [Satellite(number, 40, 30 * number, 44, used=True) for number in range(1, 10)]
    return b"".join(epoch_sentences(begun_ms + number * 1000 // FIXES_PER_S, solution, sky, with_view=False))


async def _plain(folder: Path, count: int) -> list[float]:
    """The same presses through a script of forty lines, to a subscriber in this process."""
    arrived: dict[int, float] = {}
    with mosquitto(folder / "broker") as broker:
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)

        def on_message(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
            arrived.setdefault(json.loads(message.payload)["seq"], time.monotonic())

        client.on_message = on_message
        client.connect("127.0.0.1", broker.port)
        client.subscribe("ems/bench/press", 1)
        client.loop_start()
        box = PtyButtonBox(folder / "buttons0", random.Random(1))
        await box.start()
        try:
            script = str(SCRIPTS / "plain_press.py")
            command = [sys.executable, script, str(box.link), str(broker.port)]
            child = Contender(command, folder=folder, name="plain")
            await asyncio.to_thread(child.__enter__)
            try:
                pressed = await _click_all(box, count)
            finally:
                await asyncio.to_thread(child.__exit__)
        finally:
            await box.stop()
            client.disconnect()
            client.loop_stop()
    return [arrived[seq] - at_s for seq, at_s in pressed.items() if seq in arrived]


async def _click_all(box: PtyButtonBox, count: int) -> dict[int, float]:
    await asyncio.sleep(1)
    pressed: dict[int, float] = {}
    for number in range(count):
        await asyncio.sleep(EVERY_S)
        at_s = box.press(KEYS[number % len(KEYS)])
        pressed[box.firmware.last_seq] = at_s
        await asyncio.sleep(0.02)
        box.release(KEYS[number % len(KEYS)])
    await asyncio.sleep(1)
    return pressed


# ---------------------------------------------------------------------- the page


def _page(setting: Setting) -> Figure:
    name, target = "press.page.stored.p95", Target(100, at_most=True)
    if not browser_there():
        return Figure(name, None, "ms", "", None, target, "chromium and chromium-driver are not installed")
    count = setting.count(TOUCHES, least=5)
    setting.say(f"press: {count} touches of the page's tiles in Chromium")
    durations = asyncio.run(_touches(setting.fresh_folder("page"), count))
    note = f"{len(durations)} of {count} touches seen"
    return Figure(name, percentile_ms(durations, 95), "ms", "", None, target, note)


async def _touches(folder: Path, count: int) -> list[float]:
    page = CrewPage(folder / "agent.toml", folder)
    async with ProcessRig(folder, overrides=AS_SHIPPED | page.settings) as rig:
        await rig.boot()
        await _until_connected(rig)
        return await asyncio.to_thread(_touch, page, count)


def _touch(page: CrewPage, count: int) -> list[float]:
    """Touch tile after tile; the page itself measures from the touch to the tile that says stored."""
    pause = threading.Event()
    page.start()
    try:
        with open_browser(800, 480) as browser:
            browser.get(page.address)
            _wait(lambda: browser.find_elements(By.CSS_SELECTOR, ".tile:not([disabled])"))
            for number in range(count):
                tile = browser.find_element(By.CSS_SELECTOR, f'[data-key="{TILES[number % len(TILES)]}"]')
                tile.click()
                with contextlib.suppress(NotHereError):
                    _wait(lambda number=number: _measured(browser) > number, within_s=5)
                pause.wait(EVERY_S)
            found: list[float] = browser.execute_script(
                "return performance.getEntriesByType('measure').map((one) => one.duration)"
            )
            return [one / 1000 for one in found]
    finally:
        page.stop()


def _measured(browser: Any) -> int:
    return int(browser.execute_script("return performance.getEntriesByType('measure').length"))


def _wait(holds: Any, within_s: float = 60) -> None:
    pause = threading.Event()
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise NotHereError("the page did not get there")
        pause.wait(0.02)
