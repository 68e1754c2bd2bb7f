from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hil.kernel.linux import Linux, RigUnavailable, find_linux
from hil.kernel.power_cuts import Plan, cut_power

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(240)]


@pytest.fixture
def linux() -> Linux:
    try:
        return find_linux()
    except RigUnavailable as reason:
        pytest.skip(str(reason))


def test_no_stored_press_is_lost_in_a_few_cuts(linux: Linux) -> None:
    report = cut_power(linux, Plan(workload="outbox", cuts=6, seed=11))
    assert report["faults"] == []
    assert report["cuts_done"] == 6
    assert isinstance(acknowledged := report["presses_acknowledged"], int)
    assert acknowledged > 50
    assert isinstance(reached := report["presses_reached"], int)
    # A press may be on the disk although the power went before its lamp could say so.
    assert reached >= acknowledged


def test_the_whole_daemon_keeps_its_word_through_cuts(linux: Linux) -> None:
    report = cut_power(linux, Plan(workload="daemon", cuts=2, seed=7))
    assert report["faults"] == []
    assert isinstance(acknowledged := report["presses_acknowledged"], int)
    assert acknowledged > 5


def test_the_command_catches_a_store_that_does_not_flush(
    linux: Linux, checkout: Path, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    options = [
        "--workload",
        "outbox",
        "--count",
        "4",
        "--seed",
        "3",
        "--synchronous",
        "OFF",
        "--json",
        str(file),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "hil", "power-cuts", *options],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert report["presses_lost"] > 0
    assert report["lossy_cuts"] > 0
    assert f"{report['presses_lost']} lost" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workload", ["daemon", "outbox"])
def test_fifty_cuts_lose_nothing_in_under_ten_minutes(linux: Linux, workload: str) -> None:
    report = cut_power(linux, Plan(workload=workload, cuts=50, seed=2))
    assert report["faults"] == []
    assert isinstance(wall_s := report["wall_s"], float)
    assert wall_s < 600


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workload", ["daemon", "outbox"])
def test_the_mode_that_only_flushes_at_checkpoints_is_caught(linux: Linux, workload: str) -> None:
    report = cut_power(linux, Plan(workload=workload, cuts=10, seed=4, synchronous="NORMAL"))
    assert isinstance(lost := report["presses_lost"], int)
    assert lost > 0
