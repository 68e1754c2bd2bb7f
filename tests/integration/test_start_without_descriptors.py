"""The real daemon started while no descriptor is free: it waits for one, and is the same process then."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
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
[recorder]
directory = "recordings"
[[device]]
kind = "can_slcan"
device = "/dev/absent"
bitrate = 500000
vehicle = "{vehicle}"
[[uplink.brokers]]
host = "127.0.0.1"
port = 9
allow_plaintext = true
"""
WAIT_S = 45.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's is limited to 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        threading.Event().wait(0.02)


class Started:
    """`mdt run` as systemd starts it, with so many descriptors."""

    def __init__(self, folder: Path, checkout: Path, most: int) -> None:
        self.log = folder / "log"
        config = folder / "agent.toml"
        config.write_text(CONFIG.format(vehicle=checkout / "config" / "vehicles" / "demo_ambulance.toml"))
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._systemd.bind(str(folder / "notify"))
        self._systemd.setblocking(False)
        self._heard = b""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._hard = hard
        command = f'ulimit -S -n {most}; exec "$0" run --config "$1"'
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", command, str(Path(sys.executable).parent / "mdt"), str(config)],
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "300000"},
            )

    def lift(self) -> None:
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (self._hard, self._hard))

    def heard(self, word: bytes) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._heard += self._systemd.recv(100) + b"\n"
        return word in self._heard

    def close(self) -> None:
        self._systemd.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


# At 5 the loop can not be made, at 7 a part of the daemon can not be loaded, at 9 all of them run and systemd
# can not be told; which number is which depends on Python. At each the daemon must come up.
@pytest.mark.parametrize("most", [5, 6, 7, 9, 11])
def test_a_start_without_a_descriptor_waits_for_one(folder: Path, checkout: Path, most: int) -> None:
    started = Started(folder, checkout, most)
    try:
        until(lambda: "Too many open files" in started.log.read_text(encoding="utf-8"))
        started.lift()
        until(lambda: started.heard(b"READY=1"))
        until(lambda: started.heard(b"WATCHDOG=1"))
        until((folder / "mdt.sock").exists)
        assert started.process.poll() is None, "it is the process that was started"
        assert not started.heard(b"STOPPING=1")
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(WAIT_S) == ExitCode.OK
    finally:
        started.close()
