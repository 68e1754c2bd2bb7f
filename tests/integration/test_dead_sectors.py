"""Sectors that have died, as the kernel tells of them: EIO for some bytes of a file, and for no others."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.domain.fix import FixMode
from agent.domain.health import HealthBoard
from agent.domain.record import Draft, Position, StatusChange
from agent.domain.stamp import Stamp
from agent.outbox import database
from agent.outbox.outbox import Outbox
from firmware_shims.system_clock import SystemClock
from hil.dead_sectors import DeadSectors, can_be_had
from hil.sim.inline_worker import InlineWorker

pytestmark = pytest.mark.skipif(not can_be_had(), reason="there is no C compiler for the dead sectors")

PRESSES, POSITIONS = 20, 3000
PAGE = database.PAGE_BYTES


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A store with a backlog, closed in order; and its journal."""
    folder = tmp_path_factory.mktemp("sound")

    async def main() -> int:
        outbox = Outbox(config.Store(directory=folder), SystemClock(), InlineWorker(), HealthBoard())
        await outbox.open()
        for number in range(POSITIONS):
            place = Position(42.36 + 1e-5 * number, -71.06, 12.0, 14.0, 90.0, FixMode.FIX_3D, 9, 0.9)
            outbox.stage(Draft(Stamp(1_000_000_000 * number), place))
            if number % (POSITIONS // PRESSES) == 0:
                await outbox.put(Draft(Stamp(number), StatusChange("en_route", None, "en_route", number)))
        await outbox.flush()
        await outbox.close()
        return outbox.journal

    return folder, asyncio.run(main())


@pytest.fixture
def store(sound: tuple[Path, int], tmp_path: Path) -> Path:
    return shutil.copytree(sound[0], tmp_path / "store")


def pages_of(store: Path, table: str) -> list[int]:
    """Numbers of the leaf pages on which a table lies, from 0."""
    connection = sqlite3.connect(store / database.FILE_NAME)
    try:
        size = connection.execute("PRAGMA page_count").fetchone()[0]
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    finally:
        connection.close()
    raw = (store / database.FILE_NAME).read_bytes()
    assert len(raw) == size * PAGE
    interior = raw[(root - 1) * PAGE : root * PAGE]
    assert interior[0] == 5, "the table has one level of pages below its root"
    cells = int.from_bytes(interior[3:5], "big")
    at = [int.from_bytes(interior[12 + 2 * cell : 14 + 2 * cell], "big") for cell in range(cells)]
    return [int.from_bytes(interior[offset : offset + 4], "big") - 1 for offset in at]


def spans(pages: list[int]) -> list[tuple[int, int]]:
    return [(page * PAGE, page * PAGE + 512) for page in pages]


def start(sectors: DeadSectors, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hil.dead_sectors_child", *map(str, arguments)],
        env=dict(sectors.environment),
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


def told(child: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = child.communicate(timeout=55)
    assert child.returncode == 0
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def lost(stream: dict[str, Any], before_seq: int) -> int:
    return sum(last - first + 1 for first, last in stream["gaps"] if last <= before_seq)


@pytest.mark.parametrize("where", ["the first page", "the tables' roots", "pages of records"])
def test_dead_sectors_at_the_start_cost_what_lies_on_them_and_nothing_else(
    store: Path, sound: tuple[Path, int], tmp_path: Path, where: str
) -> None:
    leaves = pages_of(store, "trail")
    pages = {"the first page": [0], "the tables' roots": [1, 2, 3], "pages of records": leaves[5:12:3]}[where]
    sectors = DeadSectors(tmp_path)
    sectors.kill(store / database.FILE_NAME, spans(pages))
    answer = told(start(sectors, store, "start"))
    assert answer["seen"] == ["store_io_error"]
    assert answer["set_asides"] == 1
    # Who has lost the page with its identity begins another.
    assert (answer["journal"] == sound[1]) == (where != "the tables' roots")
    assert answer["events"]["records"] == PRESSES + 2, "all presses, the new one and the alert"
    gone = lost(answer["trail"], POSITIONS)
    assert answer["trail"]["records"] == POSITIONS - gone, "each is there, or told as gone"
    assert (gone > 0) == (where == "pages of records")
    assert gone <= 3 * POSITIONS // len(leaves) * 2


@pytest.mark.parametrize("where", ["pages of records", "the log"])
def test_sectors_that_die_under_a_running_agent_stop_neither_presses_nor_the_trail(
    store: Path, sound: tuple[Path, int], tmp_path: Path, where: str
) -> None:
    pages = pages_of(store, "trail")[5:12:3]
    dying = [
        argument for first, end in spans(pages) for argument in (database.FILE_NAME, str(first), str(end))
    ]
    if where == "the log":
        dying = [database.FILE_NAME + "-wal", "0", str(1 << 30)]
    answer = told(start(DeadSectors(tmp_path), store, "running", *dying))
    assert answer["seen"] == ["store_io_error"]
    assert answer["set_asides"] == 1
    assert answer["journal"] == sound[1]
    gone = lost(answer["trail"], POSITIONS)
    assert answer["trail"]["records"] == POSITIONS - gone
    # The events were read before the trail met it; of a dead log the first press is lost, and an alert tells.
    assert answer["events"]["records"] == PRESSES + 2
    if where != "the log":
        assert answer["trail"]["refusals"] >= 3, "it was tried before it was given up"


def test_a_bad_moment_of_the_card_costs_nothing(store: Path, sound: tuple[Path, int], tmp_path: Path) -> None:
    sectors = DeadSectors(tmp_path)
    sectors.kill(store / database.FILE_NAME, [(0, 1 << 30)])
    child = start(sectors, store, "start")
    try:
        threading.Event().wait(0.4)  # a card that is reset; it may not even have been asked yet
        sectors.revive()
        answer = told(child)
    finally:
        child.kill()
        child.wait()
    assert answer["set_asides"] == 0
    assert answer["journal"] == sound[1]
    assert answer["trail"] == {"records": POSITIONS, "gaps": [], "refusals": 0}
    assert answer["events"]["records"] == PRESSES + 1
