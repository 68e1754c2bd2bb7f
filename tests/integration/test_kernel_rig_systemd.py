from __future__ import annotations

from pathlib import Path

import pytest

from hil.kernel.linux import RigUnavailable, find_linux
from hil.kernel.machine import Machine
from hil.kernel.system import make_system

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.timeout(600)]


def test_real_systemd_runs_the_shipped_unit_and_its_watchdog_restarts_it(tmp_path: Path) -> None:
    try:
        linux = find_linux(purpose_built=True)
        hardware = make_system(tmp_path / "system.img")
    except RigUnavailable as reason:
        pytest.skip(str(reason))
    found: dict[str, tuple[str, ...]] = {}
    sandbox: dict[str, str] = {}
    devices: dict[str, str] = {}
    power: list[tuple[str, ...]] = []
    with Machine(linux, hardware=hardware) as machine:
        for message in machine.messages(240):
            if message.word == "SANDBOX":
                sandbox[message.rest[0]] = message.rest[1]
            elif message.word == "DEVICE":
                devices[message.rest[0]] = message.rest[1]
            elif message.word == "POWER":
                power.append(message.rest)
            else:
                found[message.word] = message.rest
            if message.word == "END":
                break
        else:
            pytest.fail("the system did not finish:\n" + "\n".join(machine.said))
        # Now it goes off by itself: systemd saw the agent's file.
        assert [(message.word, *message.rest) for message in machine.messages(120)] == []
        assert machine.goes_off(60), "the power stays on:\n" + "\n".join(machine.said)
    assert power == [("not_enabled", "on"), ("withdrawn", "on")]
    assert "FAULT" not in found, found
    assert sandbox == {
        "user": "mdt",
        "no_new_privileges": "1",
        "seccomp": "2",
        "capabilities": "0000000000000000",
        "writes_etc": "no",
        "writes_usr": "no",
        "writes_state": "yes",
        "sees_home": "no",
    }
    # No driver of these is loaded: a cable that is plugged in later must be let through without a restart.
    assert devices == {"ttyUSB": "allowed", "ttyACM": "allowed", "other": "refused"}
    assert int(found["STORE"][0]) > 0, "the store is in the state directory"
    assert found["ASKED"] == ("0",)
    assert int(found["RESULT"][0]) > 0, "the restart was the watchdog's"
    assert found["RESTARTED"] == ("1", "anew")
