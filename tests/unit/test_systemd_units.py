"""What goes onto the vehicle: the unit holds, the installer puts and takes what it says."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.config import Power
from agent.config.panel import Panel

CHECKOUT = Path(__file__).parents[2]
SYSTEMD = CHECKOUT / "systemd"
INSTALL = SYSTEMD / "install.sh"

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine"
)


def unit(name: str = "mdt.service") -> dict[str, list[str]]:
    """Every key of the unit with all its values."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def installer(*arguments: str, destination: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(INSTALL), *arguments],
        env=os.environ | {"DESTDIR": str(destination)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


UNITS = ("mdt.service", "mdt-panel.service")


@needs_systemd_analyze
@pytest.mark.parametrize("name", UNITS)
def test_unit_is_understood(tmp_path: Path, name: str) -> None:
    # The program is not installed on this machine; all else is as shipped. Unknown keys give exit 0 and a
    # warning.
    copy = tmp_path / name
    shipped = (SYSTEMD / name).read_text()
    copy.write_text(re.sub(r"=/opt/mdt/bin/mdt(-panel)? ", "=/bin/true ", shipped))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


@needs_systemd_analyze
@pytest.mark.parametrize("name", UNITS)
def test_unit_is_hardened(name: str) -> None:
    rated = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            "--threshold=20",
            "--no-pager",
            str(SYSTEMD / name),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout[-400:]


@needs_systemd_analyze
def test_units_that_turn_the_computer_off_are_understood() -> None:
    units = [str(SYSTEMD / f"mdt-poweroff.{kind}") for kind in ("path", "service")]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_installation_alone_never_lets_the_computer_be_turned_off() -> None:
    script = INSTALL.read_text()
    assert "enable mdt-poweroff" not in script
    assert "disable --now mdt-poweroff.path" in script
    path = configparser.ConfigParser()
    path.read(SYSTEMD / "mdt-poweroff.path")
    assert path["Path"]["PathExists"] == str(Power().request_file)


def test_service_that_turns_the_computer_off_may_look_into_the_agents_folder() -> None:
    # Without it root sees no file in a folder of mode 0750, and nothing happens, successfully.
    service = (SYSTEMD / "mdt-poweroff.service").read_text()
    (capabilities,) = re.findall(r"^CapabilityBoundingSet=(.*)$", service, re.MULTILINE)
    assert {"CAP_DAC_READ_SEARCH", "CAP_SYS_BOOT"} <= set(capabilities.split())
    assert str(Power().request_file) in service


def test_unit_keeps_its_promises() -> None:
    keys = unit()
    assert keys["Type"] == ["notify"]
    assert keys["Restart"] == ["always"]
    assert keys["RestartPreventExitStatus"] == ["78"], "a wrong configuration must not reboot the vehicle"
    assert keys["StartLimitAction"] == ["reboot-force"]
    assert "MDT_BOOT_ID=%b" in keys["Environment"][0], "ProcSubset=pid hides the boot id"
    assert "adjtimex clock_adjtime" in keys["SystemCallFilter"]
    assert "ProtectClock" not in keys
    starts, per_start_s = int(keys["StartLimitBurst"][0]), int(keys["RestartSec"][0])
    assert starts * per_start_s < 600, "else the limit is never reached"


def test_the_page_lives_without_the_agent_keeps_its_token_and_reaches_nothing_but_this_computer() -> None:
    keys = unit("mdt-panel.service")
    assert not {"Requires", "BindsTo", "PartOf", "Wants"} & keys.keys()
    assert keys["Restart"] == ["always"]
    assert keys["RestartPreventExitStatus"] == ["78"]
    assert keys["User"] != unit()["User"]
    assert keys["SupplementaryGroups"] == ["mdt"], "reads the configuration and the agent's socket"
    assert keys["RuntimeDirectoryPreserve"] == ["restart"]
    assert (keys["IPAddressDeny"], keys["IPAddressAllow"]) == (["any"], ["localhost"])
    assert Panel().token_file == Path("/run") / keys["RuntimeDirectory"][0] / "token"
    assert keys["StartLimitIntervalSec"] == ["0"], "a page that fails must never reboot a vehicle"


def test_the_page_is_installed_where_it_is_wanted_updated_where_it_is_and_taken_away(tmp_path: Path) -> None:
    place = tmp_path / "etc/systemd/system/mdt-panel.service"
    installer("files", destination=tmp_path)
    assert not place.exists()
    installer("files", destination=tmp_path, PANEL="1")
    assert place.read_bytes() == (SYSTEMD / "mdt-panel.service").read_bytes()
    assert (tmp_path / "opt/mdt/share/doc/panel.md").exists()
    place.write_text("old")
    installer("files", destination=tmp_path)
    assert place.read_bytes() == (SYSTEMD / "mdt-panel.service").read_bytes()
    installer("uninstall", destination=tmp_path)
    assert not place.exists()
    assert not (tmp_path / "opt/mdt").exists()


def test_usb_devices_are_let_through_whenever_they_are_plugged_in() -> None:
    # By name a kind of device is looked up when the service starts, and is not there before its driver.
    devices = {word.split()[0] for word in unit()["DeviceAllow"]}
    assert {"char-188", "char-166"} <= devices, "ttyUSB and ttyACM, by their numbers"
    assert not {"char-ttyUSB", "char-ttyACM"} & devices
    assert unit()["DevicePolicy"] == ["closed"]


def test_can_link_only_listens() -> None:
    link = configparser.ConfigParser()
    link.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case
    link.read(SYSTEMD / "80-mdt-can0.network")
    assert link["CAN"]["ListenOnly"] == "yes"
    assert link["Link"]["RequiredForOnline"] == "no"


def test_udev_rules_are_well_formed() -> None:
    assignment = re.compile(r'[A-Z]+(\{\w+\})?(==|!=|\+=|=)"[^"]*"$')
    rules = [line for line in (SYSTEMD / "60-mdt.rules").read_text().splitlines() if line and line[0] != "#"]
    assert {name for line in rules for name in re.findall(r'SYMLINK\+="(\w+)"', line)} == {
        "gnss0",
        "slcan0",
        "buttons0",
    }
    for line in rules:
        assert all(assignment.match(part) for part in line.split(", ")), line
        assert "SYMLINK" not in line or 'ENV{ID_MM_DEVICE_IGNORE}="1"' in line, (
            "a modem manager would write to it"
        )


def test_files_go_where_the_manual_says_and_go_away_again(tmp_path: Path) -> None:
    assert installer("files", destination=tmp_path).returncode == 0
    installed = files_below(tmp_path)
    for source, place in {
        "mdt.service": "etc/systemd/system/mdt.service",
        "mdt-poweroff.path": "etc/systemd/system/mdt-poweroff.path",
        "mdt-poweroff.service": "etc/systemd/system/mdt-poweroff.service",
        "60-mdt.rules": "etc/udev/rules.d/60-mdt.rules",
        "80-mdt-can0.network": "etc/systemd/network/80-mdt-can0.network",
        "mdt.sysusers": "etc/sysusers.d/mdt.conf",
        "mdt.tmpfiles": "etc/tmpfiles.d/mdt.conf",
        "journald-mdt.conf": "etc/systemd/journald.conf.d/50-mdt.conf",
        "watchdog-mdt.conf": "etc/systemd/system.conf.d/50-mdt-watchdog.conf",
    }.items():
        assert (tmp_path / place).read_bytes() == (SYSTEMD / source).read_bytes()
    configuration = {name for name in installed if name.startswith("etc/mdt/")}
    assert {"etc/mdt/agent.toml"} < configuration
    assert (tmp_path / "etc/mdt/agent.toml").stat().st_mode & 0o777 == 0o640

    removed = installer("uninstall", destination=tmp_path)
    assert removed.returncode == 0, removed.stderr
    assert files_below(tmp_path) == configuration


def test_edited_configuration_is_never_overwritten(tmp_path: Path) -> None:
    installer("files", destination=tmp_path)
    edited = tmp_path / "etc/mdt/agent.toml"
    edited.write_text("# mine\n")
    installer("files", destination=tmp_path)
    assert edited.read_text() == "# mine\n"
    fresh = tmp_path / "opt/mdt/share/config/agent.toml"
    assert fresh.read_bytes() == (CHECKOUT / "config/agent.toml").read_bytes()


def test_installer_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    refused = installer("instal", destination=tmp_path)
    assert refused.returncode == 1
    assert "install.sh: say" in refused.stderr
    assert not any(tmp_path.iterdir())
    old = installer("install", destination=tmp_path, PYTHON="/bin/false")
    assert old.returncode == 1
    assert not any(tmp_path.iterdir())


def test_mdt_is_on_the_path_and_only_our_own_link_is_taken_away(tmp_path: Path) -> None:
    """The two functions of the installer, since a whole installation builds an environment."""
    text = INSTALL.read_text(encoding="utf-8")
    begin, end = text.index("link=/usr/local/bin/mdt"), text.index("put_files()")
    functions = text[begin:end]

    def run(call: str, root: Path) -> str:
        script = f'say() {{ printf "%s\\n" "$*"; }}\nroot={root}\nprefix=/opt/mdt\n{functions}\n{call}'
        done = subprocess.run(["/bin/sh", "-eu", "-c", script], capture_output=True, text=True, check=True)
        return done.stdout

    link = tmp_path / "usr/local/bin/mdt"
    assert run("put_link; put_link", tmp_path) == ""
    assert str(link.readlink()) == "/opt/mdt/bin/mdt"
    run("drop_link; drop_link", tmp_path)
    assert not link.is_symlink()
    link.write_text("somebody else's", encoding="utf-8")
    assert "is there already" in run("put_link; drop_link", tmp_path)
    assert link.read_text(encoding="utf-8") == "somebody else's"
