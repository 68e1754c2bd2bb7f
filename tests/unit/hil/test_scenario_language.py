"""The scenario language: what it takes, what it refuses, and that its manual is complete."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast, get_args

import pytest

from agent.config import ConfigError
from hil.process.press_log import LoggedPress
from hil.rig import Rig, RigState, Strategy, StrategyError
from hil.scenario.expected_presses import expected_events
from hil.scenario.fault_device import GnssFrozen, GnssJumping, GnssRollover
from hil.scenario.scenario_file import AnyExpectation, AnyFault, read_scenario
from hil.sim.hurt_disk import HurtWorker

RMC = b"$GNRMC,110000.00,A,4220.04960,N,07104.44240,W,0.000,,140326,,,A,V*3F\r\n"
SMALLEST = """
title = "A title"
why = "A reason."
drive = "emergency_call"
[[expect]]
kind = "nothing_lost"
"""


def kinds(union: Any) -> set[str]:
    return {one.model_fields["kind"].annotation.__args__[0] for one in get_args(get_args(union)[0])}


def test_the_manual_names_every_fault_and_every_expectation(checkout: Path) -> None:
    manual = (checkout / "docs" / "scenarios.md").read_text(encoding="utf-8")
    missing = sorted(kind for kind in kinds(AnyFault) | kinds(AnyExpectation) if f"| `{kind}`" not in manual)
    assert not missing


def test_the_manuals_example_is_a_scenario(checkout: Path, tmp_path: Path) -> None:
    manual = (checkout / "docs" / "scenarios.md").read_text(encoding="utf-8")
    path = tmp_path / "example.toml"
    path.write_text(manual.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    assert read_scenario(path).faults


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        SMALLEST + '[[faults]]\nkind = "network_cut"\nat_s = -1\n'
        '[[faults]]\nkind = "meteorite"\nat_s = 1\n[[presses]]\nat_s = 1\n',
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        read_scenario(path)
    assert len(caught.value.problems) == 3
    assert all(str(path) in problem for problem in caught.value.problems)


NO_POWER = '[[faults]]\nkind = "power_cut"\nat_s = 1\n'
TIMED = '[[expect]]\nkind = "time_right_within"\nmilliseconds = 9\n'


@pytest.mark.parametrize(
    ("keys", "tables", "complaint"),
    [
        ('recording = "a.mcap"\n', "", "exactly one of"),
        ('rigs = ["process"]\n', NO_POWER, "can not be had on the process rig"),
        ('rigs = ["process"]\nspeed = 4\n', TIMED, "speed = 1"),
    ],
)
def test_what_can_not_be_is_refused(tmp_path: Path, keys: str, tables: str, complaint: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(keys + SMALLEST + tables, encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        read_scenario(path)


def press(key: str, at_s: float, held_s: float = 0.15) -> LoggedPress:
    return LoggedPress(key, 1, 1, at_s, released_s=at_s + held_s)


def test_what_presses_must_become() -> None:
    presses = [
        press("available", 1),
        press("available", 3),
        press("emergency", 10),
        press("emergency", 11),
        press("emergency", 30, held_s=6),
        press("talk_request", 40),
        press("available", 50),
        press("en_route", 60),
    ]
    tokens = [one.token for one in expected_events(presses, [])]
    assert tokens == [
        "available", "emergency", "emergency", "emergency cancelled", "talk_request", "en_route",
    ]  # fmt: skip


def test_a_daemon_that_was_just_started_cancels_nothing() -> None:
    presses = [press("emergency", 10), press("emergency", 30, held_s=6)]
    assert [one.token for one in expected_events(presses, [20.0])] == ["emergency", "emergency"]


def test_receiver_faults_keep_checksums_right() -> None:
    jump = GnssJumping(kind="gnss_jumping", at_s=0, metres=1852, every=1).becomes(cast("Any", None))
    assert jump(RMC).startswith(b"$GNRMC,110000.00,A,4221.04960,N,")
    roll = GnssRollover(kind="gnss_rollover", at_s=0).becomes(cast("Any", None))
    assert b",290706," in roll(RMC)
    for changed in (jump(RMC), roll(RMC)):
        body, _, checksum = changed.strip()[1:].partition(b"*")
        value = 0
        for byte in body:
            value ^= byte
        assert int(checksum, 16) == value
    frozen = GnssFrozen(kind="gnss_frozen", at_s=0).becomes(cast("Any", None))
    assert frozen(RMC) == frozen(RMC.replace(b"110000", b"110001")) == RMC


@pytest.mark.parametrize(
    ("trouble", "error"), [("full", OSError), ("read_only", PermissionError), ("io_error", OSError)]
)
def test_a_hurt_disk_refuses_and_recovers(tmp_path: Path, trouble: Any, error: type[OSError]) -> None:
    worker = HurtWorker(tmp_path)

    def write() -> int:
        return (tmp_path / "file").write_text("words", encoding="utf-8")

    worker.trouble = trouble
    with pytest.raises(error):
        asyncio.run(worker.run(write))
    worker.trouble = None
    assert asyncio.run(worker.run(write)) == 5


class RigOfNothing:
    """Only what the strategy asks of a rig."""

    async def boot(self) -> None:
        """Nothing."""

    async def shut_down(self) -> None:
        """Nothing."""


def test_the_strategy_goes_through_every_state() -> None:
    async def go() -> list[RigState]:
        strategy = Strategy(cast("Rig", RigOfNothing()))
        with pytest.raises(StrategyError):
            strategy.fault_applied()
        await strategy.to(RigState.DRIVING)
        strategy.fault_applied()
        strategy.fault_applied()
        strategy.fault_lifted()
        with pytest.raises(StrategyError):
            await strategy.to(RigState.RUNNING)
        strategy.fault_lifted()
        await strategy.to(RigState.OFF)
        return [state for _, state in strategy.history]

    gone_through = ["booting", "running", "driving", "faulted", "driving", "off"]
    assert asyncio.run(go()) == [RigState(state) for state in gone_through]


def test_a_restart_of_the_daemon_does_not_make_two_records_of_one_alarm_but_another_boot_may() -> None:
    presses = [
        LoggedPress("emergency", 1, 1, pressed_s=10.0, released_s=10.2),
        LoggedPress("emergency", 1, 2, pressed_s=11.0, released_s=11.2),
    ]
    ends_s = [10.5]
    assert [one.press.seq for one in expected_events(presses, ends_s, [0.0])] == [1]
    assert [one.press.seq for one in expected_events(presses, ends_s, [0.0, 10.7])] == [1, 2]
