"""A stop ends within its deadlines, whatever is broken, and says what was."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.process.vehicle_config import to_toml

PROGRAM = Path(__file__).with_name("stop_with_a_fault.py")
CHECKOUT = Path(__file__).parents[2]
ENDS_WITHIN_S = 40.0
"""Ten times what the stages of this configuration add up to: the machine may be busy, but not for ever."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


@contextlib.contextmanager
def daemon(fault: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / "agent.toml"
    config.write_text(
        to_toml(
            {
                "unit": {"agency": "boston-ems", "unit": "A1"},
                "status_socket": folder / "mdt.sock",
                "store": {"directory": folder / "store"},
                "uplink": {"brokers": [{"host": "127.0.0.1", "port": 9, "allow_plaintext": True}]},
                "supervision": {"stop_sources_s": 0.3, "stop_outbox_s": 0.3, "stop_uplink_s": 0.3},
            }
        )
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), fault, str(config)],
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(process: subprocess.Popen[bytes], folder: Path, words: str) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_S
    while words not in (text := (folder / "log").read_text()):
        assert process.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.02)  # noqa: TID251  # a process without anything to wait on


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("nothing", 0, "daemon stopped"),
        ("drain_raises", 0, "stop_stage_failed stage=uplink"),
        ("drain_hangs", 1, "stop_stage_late stage=uplink"),
        ("unit_is_deaf", 1, "unit_would_not_stop unit=unit-clock"),
        ("disk_hangs_while_stopping", 0, "stop_stage_late stage=outbox_close"),
        ("thread_is_left", 0, "threads_left names=left-over"),
    ],
)
def test_a_stop_ends_whatever_is_broken(fault: str, code: int, said: str, folder: Path) -> None:
    with daemon(fault, folder) as process:
        wait_for(process, folder, "daemon ready")
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_S) == code
    log = (folder / "log").read_text()
    assert said in log
    assert "daemon stopped" in log, "the stages after the broken one were gone through"


def test_a_start_that_hangs_can_be_stopped(folder: Path) -> None:
    with daemon("disk_hangs_while_starting", folder) as process:
        wait_for_socket(folder / "mdt.sock")
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_S) == 0
    assert "threads_left names=outbox" in (folder / "log").read_text()


def test_clients_of_the_status_socket_do_not_hold_up_the_end(folder: Path) -> None:
    with daemon("nothing", folder) as process, contextlib.ExitStack() as clients:
        wait_for(process, folder, "daemon ready")
        for _ in range(20):
            client = clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.connect(str(folder / "mdt.sock"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_S) == 0
    assert "stop_stage_late" not in (folder / "log").read_text()


def wait_for_socket(path: Path) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_S
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # noqa: TID251  # a process without anything to wait on
