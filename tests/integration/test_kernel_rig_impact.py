"""The seconds before an impact are on the disk when the power goes with it, page cache and all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hil.kernel.disk import make_disk
from hil.kernel.guest_impact import IMPACT_AT
from hil.kernel.linux import RigUnavailable, find_linux
from hil.kernel.machine import Hardware, Machine, Message

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(240)]
PROGRAM = ["hil.kernel.guest_impact", "--directory=/run/data/kept"]


def until(machine: Machine, word: str) -> Message:
    deadline = time.monotonic() + 90
    while (message := machine.next_message(max(0.1, deadline - time.monotonic()))) is not None:
        if message.word == word:
            return message
        assert message.word not in ("EXIT", "FAULT"), "\n".join(machine.said)
    raise AssertionError("\n".join(machine.said))


def test_what_was_before_the_impact_survives_the_power_that_goes_with_it(tmp_path: Path) -> None:
    try:
        linux = find_linux()
        disk = tmp_path / "disk.img"
        make_disk(disk, size_mib=64)
    except RigUnavailable as reason:
        pytest.skip(str(reason))
    with Machine(linux, PROGRAM, Hardware(disk=disk)) as machine:
        begun = until(machine, "BEGUN")
        list(machine.power_cut())
    print(f"on the disk {begun.rest[1]} ms after the impact")
    with Machine(linux, [*PROGRAM, "--look"], Hardware(disk=disk)) as machine:
        told = until(machine, "TOLD")
    recording, complete, frames = told.rest
    assert (recording, complete) == (begun.rest[0], "False")
    assert int(frames) >= IMPACT_AT
