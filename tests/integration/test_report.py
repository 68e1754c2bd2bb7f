"""The report of a real run: what it tells, that it needs nothing else, that a browser has no complaint."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import select
import shutil
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from agent.config import validate
from hil.report.model import ExpectationRow, LinkView, RunReport, RunVerdict
from hil.report.observed import observed_run
from hil.report.page import page, write_report
from hil.report.page_data import page_data
from hil.report.summary import headline, sentences
from hil.scenario.runner import run_scenario
from hil.scenario.scenario_file import SCENARIOS, Scenario

SCENARIO = """
title = "Cut off & <silent>"
why = "Crews drive through dead zones while the antenna is covered."
drive = "emergency_call"
can_scale = 0.05
[[faults]]
kind = "network_cut"
at_s = 20
for_s = 30
[[faults]]
kind = "gnss_silent"
at_s = 60
for_s = 15
[[expect]]
kind = "every_press_once_in_order"
[[expect]]
kind = "press_to_dispatch_within"
seconds = 2
[[expect]]
kind = "no_position_without_fix"
"""
"""One of its expectations can not hold: a press during the cut comes later than two seconds after."""

DRAWN = """
new Promise(resolve => {
  const look = () => document.querySelector("#map svg") && document.querySelector("#lanes svg")
    ? resolve(true) : setTimeout(look, 20);
  look();
})
"""
USED = """
(() => {
  const lanes = document.getElementById("lanes"), told = [];
  const moment = () => Number(lanes.getAttribute("aria-valuenow"));
  for (const key of ["Home", "ArrowRight", "n", "+", "-", "p", "End", "0"]) {
    lanes.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    told.push(moment());
  }
  for (const button of document.querySelectorAll("button")) button.click();
  document.getElementById("whole").click();
  for (const place of ["#map", "#lanes svg"]) {
    const box = document.querySelector(place).getBoundingClientRect();
    for (const type of ["pointermove", "pointerdown"])
      document.querySelector(place).dispatchEvent(new PointerEvent(type, { bubbles: true,
        pointerType: "touch", buttons: 1,
        clientX: box.left + box.width * 0.7, clientY: box.top + box.height / 2 }));
  }
  return JSON.stringify({
    told,
    faults: document.querySelectorAll("#map svg title").length,
    strays: [...document.querySelectorAll("#map .stray")].map(one => one.textContent).join(),
    readout: document.getElementById("readout").textContent,
    tooWide: document.documentElement.scrollWidth > innerWidth,
    smallest: Math.min(...[...document.querySelectorAll("svg text, p, li, td, th, dt, dd, small, button")]
      .map(one => parseFloat(getComputedStyle(one).fontSize))),
    broken: [...document.querySelectorAll("svg *")].filter(one =>
      [...one.attributes].some(attribute => /NaN|undefined|Infinity/.test(attribute.value))).length,
  });
})()
"""


@pytest.fixture(scope="module")
def run() -> RunReport:
    scenario = validate(Scenario, tomllib.loads(SCENARIO), Path("scenario.toml"))
    outcome = run_scenario(scenario, "scenario", SCENARIOS)
    return observed_run(outcome.seen, why=scenario.why, results=outcome.verdicts)


def test_a_run_becomes_values_on_one_axis(run: RunReport) -> None:
    assert run.verdict is RunVerdict.FAILED
    assert [(fault.kind, round(fault.from_s), round(fault.to_s)) for fault in run.faults] == [
        ("network_cut", 20, 50),
        ("gnss_silent", 60, 75),
    ]
    away = [span for span in run.links if span.view is LinkView.VEHICLE and not span.online]
    assert any(19 <= span.from_s <= 23 and 50 <= span.to_s <= 60 for span in away)
    assert any(span.view is LinkView.DISPATCH and not span.online for span in run.links)
    assert max(point.records for point in run.backlog) > 5
    assert any(span.reason == "gnss_silent" and 60 < span.from_s < span.to_s < 80 for span in run.reasons)
    late = [position for position in run.positions if position.history]
    assert late
    assert all(position.dispatched_s - position.t_s > 0 for position in run.positions)
    assert all(position.error_m is not None and position.error_m < 40 for position in run.positions)
    assert all(press.dispatched_after_s is not None for press in run.presses)
    waited = [press for press in run.presses if 20 < press.t_s < 50]
    assert waited
    assert max(press.dispatched_after_s or 0 for press in waited) > 2


def test_the_summary_says_what_happened(run: RunReport) -> None:
    assert headline(run) == "1 of 3 expectations did not hold."
    told = " ".join(sentences(run))
    assert "network cut from 0:20 to 0:50 and GNSS silent from 1:00 to 1:15" in told
    assert "pressed during network cut" in told


def test_the_page_is_one_file_that_needs_nothing_else(run: RunReport, tmp_path: Path) -> None:
    path = write_report(run, tmp_path / "reports")
    text = path.read_text(encoding="utf-8")
    assert path.name == "cut-off-silent-sim-1.html"
    assert "Cut off &amp; &lt;silent&gt;" in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert text.index("Press to dispatch within") < text.index("Every press once in order")


def test_what_a_log_or_a_title_says_ends_no_script(run: RunReport) -> None:
    hostile = dataclasses.replace(run.faults[0], detail="</script><script>alert(1)</script>")
    text = page(dataclasses.replace(run, faults=(hostile,), log=("</pre><img src=x>",)))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert (
        json.loads(page_data(dataclasses.replace(run, faults=(hostile,))))["faults"][0][3] == hostile.detail
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here to open the page with")
    with Browser(program, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (420, "dark")])
def test_a_browser_has_no_complaint(
    run: RunReport, browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    used, complaints = browser.use(write_report(run, tmp_path), width, scheme)
    assert complaints == []
    assert used["told"][0] == 0
    assert used["told"][-2] == pytest.approx(run.duration_s, abs=0.1)
    assert used["told"][1] < used["told"][2]
    assert used["faults"] >= len(run.faults)
    assert "Records waiting" in used["readout"]
    assert used["broken"] == 0
    assert not used["tooWide"]
    assert used["smallest"] >= 12


def test_positions_beyond_the_map_are_told_on_it(run: RunReport, browser: Browser, tmp_path: Path) -> None:
    stray = dataclasses.replace(run.positions[0], lat_deg=run.positions[0].lat_deg + 0.05, error_m=5566.0)
    strayed = dataclasses.replace(run, positions=(stray, *run.positions[1:]))
    used, complaints = browser.use(write_report(strayed, tmp_path), 420, "light")
    assert complaints == []
    assert used["broken"] == 0
    assert used["strays"] == "1 position beyond this map, up to 5.6 km off"


def test_a_browser_can_show_a_run_with_nothing_in_it(browser: Browser, tmp_path: Path) -> None:
    empty = RunReport(
        title="Nothing",
        why="The rig did not come up.",
        rig="process",
        seed=1,
        started_utc="2026-03-14T11:00:00+00:00",
        duration_s=1,
        verdict=RunVerdict.BROKEN,
        expectations=(ExpectationRow("daemon starts", held=False, found="never"),),
    )
    used, complaints = browser.use(write_report(empty, tmp_path), 1400, "light")
    assert complaints == []
    assert used["broken"] == 0


class Browser:
    """Headless Chromium, spoken to over the pipe of its DevTools protocol."""

    def __init__(self, program: str, profile: Path) -> None:
        self._program = program
        self._profile = profile
        self._number = 0
        self._received = b""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        its_input, self._write = os.pipe()
        self._read, its_output = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        options += ["--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={self._profile}"]
        # Chromium reads commands from descriptor 3 and answers on 4; copied upward, neither is in the way.
        copies = [
            fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in (its_input, its_output)
        ]
        silent = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        wired = [(os.POSIX_SPAWN_DUP2, copy, number) for number, copy in enumerate(copies, 3)]
        self._pid = os.posix_spawn(
            self._program,
            [self._program, *options, "about:blank"],
            os.environ,
            file_actions=[*silent, *wired],
        )
        for descriptor in (its_input, its_output, *copies):
            os.close(descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        os.close(self._read)
        os.kill(self._pid, signal.SIGTERM)
        ended = os.pidfd_open(self._pid)
        if not select.select([ended], [], [], 10)[0]:
            os.kill(self._pid, signal.SIGKILL)
        os.close(ended)
        os.waitpid(self._pid, 0)

    def use(self, path: Path, width: int, scheme: str) -> tuple[dict[str, Any], list[str]]:
        """Open a page and use it. Returns what USED gave, and everything the browser complained of."""
        self._events.clear()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable", session)
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", session, **metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", session, features=[feature])
        self.call("Page.navigate", session, url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._events.append(self._receive())
        if path.read_text(encoding="utf-8").count('"track":[]') == 0:
            self.evaluate(session, DRAWN)
        used = json.loads(self.evaluate(session, USED))
        self.call("Target.closeTarget", targetId=target)
        return used, [complaint for event in self._events if (complaint := _complaint(event))]

    def evaluate(self, session: str, expression: str) -> Any:
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", session, expression=expression, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"]["value"]

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events are kept."""
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            command["sessionId"] = session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            if "method" in message:
                self._events.append(message)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            assert select.select([self._read], [], [], 20)[0], "Chromium does not answer"
            data = os.read(self._read, 1 << 16)
            assert data, "Chromium is gone"
            self._received += data
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


def _complaint(event: dict[str, Any]) -> str | None:
    match event["method"]:
        case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded":
            return json.dumps(event["params"])[:500]
        case _:
            return None
