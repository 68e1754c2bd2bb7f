"""A vehicle's whole system: Debian with real systemd and the agent as `systemd/install.sh` installs it.

The system is made once by debootstrap and kept in the rig's folder; the agent of this checkout is installed
into it anew whenever its sources changed. Both need root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hil.kernel.linux import CHECKOUT, RigUnavailable, need_tool, rig_folder
from hil.kernel.machine import Hardware

PACKAGES = "systemd-sysv,udev,dbus,python3,python3-venv,iproute2"
MIRROR = "http://deb.debian.org/debian"
SOURCES = (
    "agent",
    "firmware_shims",
    "config",
    "systemd",
    "docs",
    "pyproject.toml",
    "README.md",
    "requirements.lock",
    "requirements-build.lock",
)
IMAGE_MIB = 1200
CHECK = Path(__file__).with_name("system_check.sh")
CONFIGURATION = """\
[unit]
agency = "boston-ems"
unit = "A1"

[uplink]
[[uplink.brokers]]
host = "127.0.0.1"
port = 9
allow_plaintext = true
"""
"""A vehicle without devices and coverage: what is looked at is how systemd runs it."""
CHECK_UNIT = """\
[Unit]
Description=Look at the agent as systemd runs it
After=mdt.service
[Service]
Type=simple
ExecStart=/bin/sh /usr/local/lib/system_check.sh
[Install]
WantedBy=multi-user.target
"""


def make_system(image: Path) -> Hardware:
    """Make a disk image of a vehicle's system that checks itself at boot (`system_check.sh`).

    Raises:
        RigUnavailable: without root, debootstrap, or a network the first time.
    """
    if os.geteuid() != 0:
        raise RigUnavailable("making a whole Debian system needs root")
    root = _debian()
    _install_agent(root)
    _write(root / "etc/mdt/agent.toml", CONFIGURATION)
    _write(root / "etc/systemd/system/system-check.service", CHECK_UNIT)
    shutil.copyfile(CHECK, root / "usr/local/lib/system_check.sh")
    for unit in ("mdt.service", "system-check.service"):
        _step(["systemctl", f"--root={root}", "enable", unit], "systemctl")
    with image.open("wb") as file:
        file.truncate(IMAGE_MIB << 20)
    _step([need_tool("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-d", str(root), str(image)], "mkfs.ext4")
    return Hardware(system=image, memory_mib=384)


def _debian() -> Path:
    """The bare system, made once."""
    folder = rig_folder() / "debian"
    if folder.exists():
        return folder
    debootstrap = need_tool("debootstrap", "debootstrap")
    fresh = folder.with_name("debian.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    mirror = os.environ.get("MDT_RIG_MIRROR", MIRROR)
    command = [debootstrap, "--variant=minbase", f"--include={PACKAGES}", _suite(), str(fresh), mirror]
    _step(command, "debootstrap")
    fresh.rename(folder)
    return folder


def _suite() -> str:
    """This machine's release of Debian, whose mirror it can reach."""
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    release = dict(line.split("=", 1) for line in lines if "=" in line)
    if release.get("ID") != "debian":
        raise RigUnavailable("the whole system is made of Debian packages, on Debian")
    return release["VERSION_CODENAME"]


def _install_agent(root: Path) -> None:
    """Install as on a vehicle, in the system's own root, with its own Python."""
    stamp = root / "opt/mdt/installed.sha256"
    digest = _digest_of_sources()
    if stamp.exists() and stamp.read_text(encoding="ascii") == digest:
        return
    source = root / "usr/src/agent"
    shutil.rmtree(source, ignore_errors=True)
    for name in SOURCES:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            source.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, source / name)
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    # The package index of this machine, its certificates included, is the one to ask.
    bundle = os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt"
    if Path(bundle).exists():
        target = root / bundle.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle, target)
    _step(["chroot", str(root), "sh", "/usr/src/agent/systemd/install.sh", "install"], "install.sh")
    _write(stamp, digest)


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for name in SOURCES:
        path = CHECKOUT / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(CHECKOUT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _step(command: Sequence[str], what: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RigUnavailable(f"{what} failed: {(done.stdout + done.stderr).strip()[-1500:]}")
