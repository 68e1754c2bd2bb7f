"""Every shipped scenario, on every rig it names; those that take long with the slow tests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.__main__ import main
from hil.broker_process import find_mosquitto
from hil.rig import RigKind
from hil.scenario.runner import Outcome, run_scenario
from hil.scenario.scenario_file import read_scenario, scenario_names, scenario_path

QUICK_ON_PROCESS = {
    "quiet_call",
    "network_cut",
    "broker_killed",
    "broker_refuses",
    "disk_full",
    "gnss_unplugged",
    "buttons_unplugged_process",
    "process_kill_offline",
    "process_freeze",
}
"""One of each sort; what else runs on real processes runs with the slow tests."""
TWELVE_HOURS_WITHIN_S = 60.0


def _cases() -> Iterator[object]:
    for name in scenario_names():
        scenario = read_scenario(name)
        for rig in scenario.rigs:
            slow = scenario.slow or (rig == "process" and name not in QUICK_ON_PROCESS)
            marks = [pytest.mark.slow, pytest.mark.timeout(300)] if slow else []
            yield pytest.param(name, rig, id=f"{name}-{rig}", marks=marks)


def _run(name: str, rig: RigKind) -> Outcome:
    # In the runner's own folder, which is in memory: how long this machine's disk takes is no matter here.
    path = scenario_path(name)
    return run_scenario(read_scenario(path), name, path.parent, rig=rig)


@pytest.mark.parametrize(("name", "rig"), list(_cases()))
def test_every_expectation_holds(name: str, rig: RigKind) -> None:
    if rig == "process" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    outcome = _run(name, rig)
    broken = [f"{one.name}: {verdict.measured}" for one, verdict in outcome.verdicts if not verdict.held]
    assert not broken, "\n".join([*broken, outcome.seen.agent_log[-3000:]])


def test_there_are_scenarios_enough() -> None:
    scenarios = [read_scenario(name) for name in scenario_names()]
    assert len(scenarios) >= 25
    assert sum("process" in one.rigs for one in scenarios) >= 8


def test_two_runs_of_a_hurt_shift_give_the_same_journal() -> None:
    digests = [_run("everything_at_once", "sim").seen.digest for _ in range(2)]
    print(f"journal digest {digests[0]}")
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_twelve_hours_are_quick_and_deterministic() -> None:
    path = scenario_path("twelve_hours")
    scenario = read_scenario(path)
    digests, best_s = [], float("inf")
    for _ in range(2):
        began_s = time.monotonic()
        digests.append(run_scenario(scenario, path.stem, path.parent).seen.digest)
        best_s = min(best_s, time.monotonic() - began_s)
    print(f"journal digest {digests[0]}, {best_s:.1f} s")
    assert digests[0] == digests[1]
    assert best_s < TWELVE_HOURS_WITHIN_S


def test_the_command_tells_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hopeless = tmp_path / "hopeless.toml"
    hopeless.write_text(
        'title = "Hopeless"\nwhy = "To see that it is noticed."\ndrive = "emergency_call"\nuntil_s = 20\n'
        '[[expect]]\nkind = "daemon_starts"\ntimes = 7\n',
        encoding="utf-8",
    )
    found = tmp_path / "found.json"
    argv = ["hil", "run", str(hopeless), "--seed", "3", "--json", str(found)]
    monkeypatch.setattr("sys.argv", argv)
    assert main() == 1
    outcome = json.loads(found.read_text())[0]
    assert outcome["seed"] == 3
    assert outcome["expectations"] == [
        {"expectation": "daemon_starts times=7", "held": False, "measured": "started once"}
    ]
    monkeypatch.setattr("sys.argv", ["hil", "run", str(tmp_path / "missing.toml")])
    assert main() == 2
    assert "no such scenario" in capsys.readouterr().err


def test_the_list_names_every_scenario(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["hil", "list"])
    assert main() == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in scenario_names())
