"""What goes onto a computer at dispatch, and what does not go into a vehicle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from agent.config.reading import validate
from agent.dispatch.settings import DispatchFile

CHECKOUT = Path(__file__).parents[3]
SHIPPED = CHECKOUT / "config" / "dispatch.toml"
INSTALL = CHECKOUT / "systemd" / "install-dispatch.sh"
UNIT = CHECKOUT / "systemd" / "mdt-dispatch.service"


def run(*words: str, destination: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(INSTALL), *words],
        env=os.environ | {"DESTDIR": str(destination)},
        capture_output=True,
        text=True,
        check=False,
    )


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_the_shipped_configuration_is_good_and_shows_the_defaults() -> None:
    text = SHIPPED.read_text()
    shipped = validate(DispatchFile, tomllib.loads(text), SHIPPED)
    assert shipped.broker.tls is not None
    section, shown = "", 0
    for line in text.splitlines():
        if header := re.match(r"^\[(\w+)\]", line):
            section = header[1]
        found = re.match(r"^# (\w+) = (\S+)", line)
        if found and section in ("listen", "answers", "picture", "retention") and "file" not in found[1]:
            value = getattr(getattr(DispatchFile.model_validate(MINIMAL), section), found[1], None)
            if value is not None:
                assert str(value) == found[2].strip('"') or float(value) == float(found[2]), line
                shown += 1
    assert shown >= 11


MINIMAL = {"broker": {"host": "h", "allow_plaintext": True}}


def test_files_go_where_the_installer_says_and_go_again(tmp_path: Path) -> None:
    assert run("files", destination=tmp_path).returncode == 0
    assert {"etc/systemd/system/mdt-dispatch.service", "etc/mdt-dispatch/dispatch.toml"} <= below(tmp_path)
    edited = tmp_path / "etc/mdt-dispatch/dispatch.toml"
    edited.write_text("mine")
    assert run("files", destination=tmp_path).returncode == 0
    assert edited.read_text() == "mine"
    assert run("uninstall", destination=tmp_path).returncode == 0
    assert below(tmp_path) == {"etc/mdt-dispatch/dispatch.toml"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_the_unit_is_understood_and_hardened(tmp_path: Path) -> None:
    copy = tmp_path / "mdt-dispatch.service"
    copy.write_text(UNIT.read_text().replace("=/opt/mdt-dispatch/bin/mdt-dispatch ", "=/bin/true "))
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(copy)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0


def test_nothing_of_dispatch_goes_into_a_vehicle() -> None:
    vehicle = (CHECKOUT / "requirements.lock").read_text()
    for library in ("fastapi", "psycopg", "cryptography", "uvicorn", "js-lib-leaflet"):
        assert f"\n{library}" not in f"\n{vehicle}"
    at_dispatch = (CHECKOUT / "requirements-dispatch.lock").read_text()
    for library in ("fastapi", "psycopg", "cryptography", "uvicorn", "django-js-lib-leaflet"):
        assert f"\n{library}==" in f"\n{at_dispatch}"


def test_each_program_is_a_command() -> None:
    scripts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["scripts"]
    assert {"mdt", "mdt-dispatch", "mdt-pki"} <= scripts.keys()
