"""What chrony is told is a sample of its own form; chronyd itself takes it where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.hal.errors import DeviceLostError
from firmware_shims.chrony_socket import ChronySocket
from firmware_shims.system_clock import SystemClock

CLOCK = SystemClock()
CHRONYD = shutil.which("chronyd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def test_a_sample_says_how_far_the_system_clock_is_off(tmp_path: Path) -> None:
    path = tmp_path / "chrony.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as chrony:
        chrony.bind(str(path))
        chrony.settimeout(20)
        told = ChronySocket(path, CLOCK)
        told.tell(-1.25)
        seconds, micros, offset_s, pulse, leap, _, magic = struct.unpack("@lldiiii", chrony.recv(64))
    assert abs(seconds + micros / 1e6 - CLOCK.system_utc().unix_ms / 1000) < 60
    assert (offset_s, pulse, leap, magic) == (-1.25, 0, 0, 0x534F434B)


def test_a_service_that_is_away_is_told_and_one_that_comes_back_is_served(tmp_path: Path) -> None:
    path = tmp_path / "chrony.sock"
    told = ChronySocket(path, CLOCK)
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="No such file"):
            told.tell(0.5)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as chrony:
            chrony.bind(str(path))
            told.tell(0.5)
            assert len(chrony.recv(64)) == struct.calcsize("@lldiiii")
        with pytest.raises(DeviceLostError, match="refused"):
            told.tell(0.5)
        path.unlink()


def test_a_service_that_does_not_read_holds_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "chrony.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as chrony:
        chrony.bind(str(path))
        told = ChronySocket(path, CLOCK)
        with pytest.raises(DeviceLostError, match="unavailable"):
            _flood(told)


def _flood(told: ChronySocket) -> None:
    for _ in range(100_000):
        told.tell(0.0)


@pytest.fixture
def chronyd(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A chronyd that looks and does not touch the clock: its socket for samples and that for questions."""
    if CHRONYD is None or os.geteuid() != 0:
        pytest.skip("chronyd is not installed, or this is not root, whom it wants to be started by")
    # Its own check of who owns the folder of its socket.
    folder = tmp_path / "run"
    folder.mkdir(mode=0o750)
    samples, questions, config = folder / "mdt.sock", folder / "chronyd.sock", tmp_path / "chrony.conf"
    config.write_text(
        f"refclock SOCK {samples} refid GNSS poll 0 filter 2 delay 0.2 precision 1e-1\n"
        f"bindcmdaddress {questions}\ncmdport 0\nport 0\npidfile {folder / 'pid'}\n"
    )
    process = subprocess.Popen(
        [CHRONYD, "-x", "-d", "-f", str(config), "-u", "root"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline_s = time.monotonic() + 30
        while not samples.exists() and time.monotonic() < deadline_s:
            if process.poll() is not None:
                assert process.stderr is not None
                pytest.skip(f"chronyd does not start here: {process.stderr.read().decode()[-300:]}")
            os.sched_yield()
        yield samples, questions
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.mark.timeout(90)
def test_chronyd_itself_takes_the_samples(chronyd: tuple[Path, Path]) -> None:
    samples, questions = chronyd
    told, seen = ChronySocket(samples, CLOCK), ""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        told.tell(0.0625)
        asked = subprocess.run(
            ["chronyc", "-h", str(questions), "-c", "sources"], capture_output=True, text=True, timeout=20,
            check=False,
        )  # fmt: skip
        seen = asked.stdout
        fields = seen.strip().split(",")
        if len(fields) > 5 and fields[5] not in ("0", ""):
            break
    assert fields[0] == "#"
    assert fields[2] == "GNSS"
    assert int(fields[5], 8) > 0, seen
