from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from hil.kernel.disk import make_disk
from hil.kernel.guest_disk import SIZE_BYTES
from hil.kernel.linux import Linux, RigUnavailable, find_linux
from hil.kernel.machine import GuestFaultError, Hardware, Machine

pytestmark = pytest.mark.kernel


@pytest.fixture
def linux() -> Linux:
    try:
        return find_linux()
    except RigUnavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    image = tmp_path / "disk.img"
    make_disk(image, size_mib=32)
    return image


def processes_of(image: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:  # it ended while we looked
            continue
        if str(image).encode() in command:
            found.append(entry.parent.name)
    return found


def test_a_power_cut_takes_what_was_not_flushed_and_nothing_else(linux: Linux, disk: Path) -> None:
    with Machine(linux, ["hil.kernel.guest_disk"], Hardware(disk=disk)) as machine:
        assert machine.wait_for("FOUND", 30).rest == ("nothing", "nothing")
        machine.wait_for("WRITTEN", 30)
        machine.power_cut()
    with Machine(linux, ["hil.kernel.guest_disk"], Hardware(disk=disk)) as machine:
        # 0 or 1: nothing to repair, or repaired by the journal.
        assert machine.wait_for("FSCK", 30).rest in (("0",), ("1",))
        flushed, unflushed = machine.wait_for("FOUND", 30).rest
        assert flushed == str(SIZE_BYTES)
        assert unflushed in ("nothing", "0")


def test_nothing_of_a_machine_is_left(
    linux: Linux, disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    with Machine(linux, ["hil.kernel.guest_disk"], Hardware(disk=disk)) as machine:
        machine.wait_for("WRITTEN", 30)
        assert processes_of(disk)
    assert processes_of(disk) == []
    assert {entry.name for entry in tmp_path.iterdir()} == {"disk.img", "home"}
    assert list(home.iterdir()) == []


def test_a_machine_goes_off_by_itself_and_reports_the_exit(linux: Linux) -> None:
    with Machine(linux, ["hil.kernel.no_such_program"]) as machine:
        assert machine.wait_for("EXIT", 30).rest == ("1",)
        machine.wait_for("OFF", 30)
        assert list(machine.messages(30)) == []
        assert any("no_such_program" in line for line in machine.said)


def test_waiting_for_what_never_comes_shows_the_console(linux: Linux) -> None:
    with Machine(linux, ["platform"]) as machine, pytest.raises(GuestFaultError, match="Linux-"):
        machine.wait_for("NEVER", 30)


def test_the_guest_can_not_write_the_hosts_files(linux: Linux, tmp_path: Path) -> None:
    with Machine(linux, ["zipfile", "-c", str(tmp_path / "x.zip"), __file__]) as machine:
        assert machine.wait_for("EXIT", 30).rest == ("1",)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_kernel_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MDT_RIG_KERNEL", str(tmp_path / "none"))
    with pytest.raises(RigUnavailable, match="MDT_RIG_KERNEL"):
        find_linux()
    monkeypatch.delenv("MDT_RIG_KERNEL")
    monkeypatch.setenv("MDT_RIG_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(RigUnavailable, match="make rig"):
        find_linux()
    with pytest.raises(RigUnavailable, match="make rig"):
        find_linux(purpose_built=True)


def test_debians_own_kernel_is_told_apart(tmp_path: Path) -> None:
    debian = Linux(Path("/usr/bin/linux.uml"), modules=tmp_path)
    with pytest.raises(RigUnavailable, match="purpose-built"):
        Machine(debian, ["platform"], Hardware(gpio_lines=8)).start()
