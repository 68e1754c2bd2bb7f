"""What the installers have pip do, told by a Python and a pip that only write it down: nothing is fetched."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

PIP = """#!/bin/sh
printf '%s\\n' "$*" >> "$WRITTEN_DOWN"
case $1 in
wheel)
    for last in "$@"; do [ "$before" = --wheel-dir ] && folder=$last; before=$last; done
    mkdir -p "$folder"; : > "$folder/agent-1-py3-none-any.whl"
    (cd "$last" && find . -type f) > "$WRITTEN_DOWN.built"
    cp "$last/pyproject.toml" "$WRITTEN_DOWN.pyproject"
    ;;
esac
"""
PYTHON = """#!/bin/sh
case "$1 $2" in
"-m venv")
    for folder in "$@"; do :; done
    mkdir -p "$folder/bin" "$folder/lib"
    cp "$STUBS/pip" "$folder/bin/pip"; cp "$0" "$folder/bin/python"
    printf '#!%s/bin/python\\n' "$folder" > "$folder/bin/mdt"
    : > "$folder/pyvenv.cfg"
    ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installer did."""

    pip: list[str]
    built: set[str]
    pyproject: str
    root: Path


def installed(folder: Path, script: str, **environment: str) -> Installed:
    stubs = folder / "stubs"
    stubs.mkdir()
    for name, text in (("pip", PIP), ("python", PYTHON)):
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    written, root = folder / "written", folder / "image"
    done = subprocess.run(
        ["/bin/sh", str(CHECKOUT / "systemd" / script), "install"],
        env={
            **os.environ,
            "DESTDIR": str(root),
            "PYTHON": str(stubs / "python"),
            "STUBS": str(stubs),
            "WRITTEN_DOWN": str(written),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    built = set(Path(f"{written}.built").read_text().split())
    return Installed(written.read_text().splitlines(), built, Path(f"{written}.pyproject").read_text(), root)


INSTALLERS = pytest.mark.parametrize(
    ("script", "lock", "place"),
    [
        ("install.sh", "requirements.lock", "opt/mdt"),
        ("install-dispatch.sh", "requirements-dispatch.lock", "opt/mdt-dispatch"),
    ],
)


@INSTALLERS
def test_nothing_is_fetched_but_what_a_lock_names_by_its_hash(
    tmp_path: Path, script: str, lock: str, place: str
) -> None:
    done = installed(tmp_path, script)
    fetching = [line for line in done.pip if "--no-index" not in line]
    assert [line.rpartition(" ")[2] for line in fetching] == [
        str(CHECKOUT / lock),
        str(CHECKOUT / "requirements-build.lock"),
    ]
    assert all("--require-hashes -r" in line for line in fetching)
    (building,) = (line for line in done.pip if line.startswith("wheel "))
    assert "--no-build-isolation" in building
    assert "--no-deps" in building
    # Made beside the one in use, and its scripts know the place where it ends up.
    assert (done.root / place / "bin" / "mdt").read_text() == f"#!/{place}/bin/python\n"
    assert not list(done.root.glob(f"{place}.*"))


@INSTALLERS
def test_wheels_from_a_stick_need_no_index(tmp_path: Path, script: str, lock: str, place: str) -> None:
    done = installed(tmp_path, script, WHEELS="/media/stick")
    assert all("--no-index" in line for line in done.pip)
    assert sum("--find-links /media/stick" in line for line in done.pip) == 2
    assert sum(line.endswith(f"/{lock}") for line in done.pip) == 1
    assert (done.root / place).is_dir()


def test_a_vehicle_gets_nothing_of_dispatch(tmp_path: Path) -> None:
    done = installed(tmp_path, "install.sh")
    assert "./agent/app/daemon.py" in done.built
    assert not [name for name in done.built if "dispatch/" in name]
    assert "mdt-dispatch" not in done.pyproject.partition("[project.scripts]")[2].partition("[")[0]
    assert "mdt-pki" not in done.pyproject


@INSTALLERS
def test_the_files_go_away_again(tmp_path: Path, script: str, lock: str, place: str) -> None:
    del lock
    root = installed(tmp_path, script).root
    command = ["/bin/sh", str(CHECKOUT / "systemd" / script), "uninstall"]
    subprocess.run(command, env={**os.environ, "DESTDIR": str(root)}, check=True, capture_output=True)
    assert not (root / place / "bin").exists()
    assert {path.parts[len(root.parts)] for path in root.rglob("*") if path.is_file()} == {"etc"}
