"""mdt run: what can never work ends at once with 78 and a sentence, so that systemd does not try for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.exit_code import ExitCode

CONFIG = """
status_socket = "mdt.sock"
[unit]
agency = "test"
unit = "T1"
[store]
directory = "store"
[[device]]
kind = "can_socketcan"
channel = "can77"
vehicle = "vehicle.toml"
[[uplink.brokers]]
host = "127.0.0.1"
port = 9
allow_plaintext = true
"""
VEHICLE = "dbc = 'bus.dbc'\n[[signals]]\nmessage = 'M'\nsignal = 'Speed'\nname = 'Speed'\n"
DBC = 'VERSION ""\nBO_ 256 M: 8 X\n SG_ Speed : 0|16@1+ (0.01,0) [0|0] "km/h" X\n'


def run(config: Path) -> tuple[int, str]:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "mdt"), "run", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "NOTIFY_SOCKET": ""},
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("vehicle", "dbc", "words"),
    [
        (VEHICLE + "scale = 1e400\n", DBC, "signals[0].scale"),
        ("a = " + "[" * 5000, DBC, "without end"),
        (VEHICLE.replace("'M'", "'MM'"), DBC, "no such message"),
        (VEHICLE, DBC.replace("0|16", "-4|16"), "does not fit"),
        (VEHICLE, None, "bus.dbc"),
        (None, None, "vehicle.toml: can not be read"),
    ],
)
def test_a_bad_vehicle_file_ends_with_78_and_a_sentence(
    tmp_path: Path, vehicle: str | None, dbc: str | None, words: str
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG)
    if vehicle is not None:
        (tmp_path / "vehicle.toml").write_text(vehicle)
    if dbc is not None:
        (tmp_path / "bus.dbc").write_text(dbc)
    code, said = run(config)
    assert code == ExitCode.BAD_CONFIG, said
    assert words in said
    assert "Traceback" not in said


def test_the_identity_of_the_shipped_example_does_not_start(checkout: Path) -> None:
    code, said = run(checkout / "config" / "agent.toml")
    assert code == ExitCode.BAD_CONFIG
    assert "unit.unit = 'CHANGE-ME'" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("module", ["agent.cli.main", "hil.__main__", "agent.panel.command"])
def test_an_old_python_gets_one_sentence(checkout: Path, module: str) -> None:
    old = f"import sys; sys.version_info = (3, 9, 18); import {module}"
    done = subprocess.run(
        [sys.executable, "-c", old], capture_output=True, text=True, check=False, cwd=checkout, timeout=50
    )
    assert done.returncode == ExitCode.FAILED
    assert done.stderr == "Python 3.11 or newer is needed; this is 3.9.\n"
