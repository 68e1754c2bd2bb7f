"""A vehicle file that can not be used ends `mdt run` with 78 and a sentence, whatever is wrong with it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MAIN = "import sys; from agent.cli.main import main; sys.exit(main())"
CONFIG = """
status_socket = "mdt.sock"
unit = {{ agency = "demo", unit = "T1" }}
store = {{ directory = "store" }}
[[device]]
kind = "can_slcan"
device = "{folder}/slcan0"
vehicle = "vehicle.toml"
[[uplink.brokers]]
host = "127.0.0.1"
port = 9
allow_plaintext = true
"""
DBC = 'VERSION ""\nBU_: X\nBO_ 288 MOTION: 8 X\n SG_ Speed : {signal} [0|0] "km/h" X\n'
VEHICLE = 'dbc = "v.dbc"\n[[signals]]\nmessage = "MOTION"\nsignal = "Speed"\nname = "Speed"\n'


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's is limited to 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


@pytest.mark.parametrize(
    ("signal", "more", "said"),
    [
        ("0|16@1+ (1e400,0)", "", "give no value"),
        ("-5|16@1+ (1,0)", "", "does not fit"),
        ("0|16@1+ (1;0)", "", "line 4"),
        ("0|16@1+ (1,0)", "scale = 1e400", "scale"),
        ("0|16@1+ (1,0)", "x = " + "[" * 50_000, "vehicle.toml"),
    ],
)
def test_a_bad_vehicle_file_ends_with_78_and_a_sentence(
    folder: Path, signal: str, more: str, said: str
) -> None:
    (folder / "agent.toml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
    (folder / "vehicle.toml").write_text(VEHICLE + more, encoding="utf-8")
    (folder / "v.dbc").write_text(DBC.format(signal=signal), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", MAIN, "run", "--config", str(folder / "agent.toml")],
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert ended.returncode == 78, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
