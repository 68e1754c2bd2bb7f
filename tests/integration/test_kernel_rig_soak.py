from __future__ import annotations

from pathlib import Path

import pytest

from hil.kernel.linux import RigUnavailable, find_linux
from hil.kernel.machine import Hardware, Machine

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(240)]


def soak(folder: Path, hours: int, timeout_s: float) -> tuple[list[list[int]], tuple[str, ...]]:
    """Let the outbox work for `hours` of leaping time. Returns what it said each hour, and at the end."""
    try:
        linux = find_linux(purpose_built=True)
    except RigUnavailable as reason:
        pytest.skip(str(reason))
    # On the host's files: while the guest waits for a disk of its own, its time leaps.
    program = ["hil.kernel.guest_soak", "--directory=/run/host/store", f"--hours={hours}"]
    told = []
    with Machine(linux, program, Hardware(writable=folder, time_travel=True)) as machine:
        for message in machine.messages(timeout_s):
            if message.word == "HOUR":
                told.append([int(word) for word in message.rest])
            if message.word == "DAY":
                return told, message.rest
        pytest.fail("the guest did not finish:\n" + "\n".join(machine.said))


def test_an_hour_of_timers_passes_in_seconds(tmp_path: Path) -> None:
    hours, end = soak(tmp_path, 1, 50)
    assert len(hours) == 1
    assert end == ("3600", "12", "0")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_day_of_timers_leaps_by_and_nothing_grows(tmp_path: Path) -> None:
    hours, end = soak(tmp_path, 24, 380)
    assert end == (str(24 * 3600), str(24 * 12), "0")
    resident_kb = [hour[3] for hour in hours]
    assert resident_kb[-1] - resident_kb[2] < 2000, resident_kb
    # 86,400 positions at about 50 bytes, kept for readers that ask again.
    assert hours[-1][4] < 12 << 20
