"""A bundle for whoever helps from afar: configuration, state, log and last trips, without any secret."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent import __version__
from agent.runtime.plain_text import masked

LOG_LINES = 2000
_WORDS = r"(?:password|passwd|pwd|passphrase|secret|token|credential|psk|cancel_code)"
_SECRET_KEY = re.compile(rf"^\s*[\"']?(?:[\w\"']+\.)*[\w\"']*(?:{_WORDS}|key)[\w\"']*\s*=", re.IGNORECASE)
_INLINE_SECRET = re.compile(
    rf"(\w*{_WORDS}\w*[\"']?\s*=\s*)(\{{[^}}]*\}}|\"[^\"]*\"|'[^']*'|[^,}}\s]+)", re.IGNORECASE
)
_LONG_SECRET = re.compile(
    rf"(\w*{_WORDS}\w*[\"']?\s*=\s*)(\"\"\".*?\"\"\"|'''.*?''')", re.IGNORECASE | re.DOTALL
)
_FILE_OR_VARIABLE = re.compile(r"^\{\s*(?:file|environment)\s*=\s*(?:\"[^\"]*\"|'[^']*')\s*\}$")


def write_bundle(bundle: Path, config_path: Path, answers: Mapping[str, Any]) -> None:
    """Make the file, readable by its owner and group. Raises FileExistsError, OSError.

    Args:
        bundle: the file; one that is there is never written over.
        config_path: the vehicle's configuration.
        answers: what the agent tells, by what it was asked; or why it does not.
    """
    with tarfile.open(bundle, "x:gz") as archive:
        for name, text in _contents(config_path, answers):
            data = text.encode("utf-8", errors="replace")
            member = tarfile.TarInfo(f"mdt-bundle/{name}")
            member.size, member.mode = len(data), 0o640
            archive.addfile(member, io.BytesIO(data))
    bundle.chmod(0o640)


def _contents(config_path: Path, answers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, text) of each file of a bundle."""
    yield "version.txt", f"agent {__version__}\nPython {sys.version}\n"
    yield "agent.json", masked(json.dumps(answers, indent=2))
    yield "configuration.toml", _text_of(config_path)
    for vehicle in _vehicle_files(config_path):
        yield f"vehicles/{vehicle.name}", _text_of(vehicle)
    yield "log.txt", _log()


def redacted(text: str) -> str:
    """A configuration without anything that may be a secret; where one lies (file, variable) stays."""
    text = _LONG_SECRET.sub(lambda found: f'{found[1]}"(left out)"', text)
    return "".join(f"{_redacted_line(line)}\n" for line in text.splitlines())


def _redacted_line(line: str) -> str:
    def without(found: re.Match[str]) -> str:
        return found[0] if _FILE_OR_VARIABLE.match(found[2]) else f'{found[1]}"(left out)"'

    if _SECRET_KEY.match(line) and "key_file" not in line and "keys" not in line.partition("=")[0]:
        name, _, value = line.partition("=")
        stays = _FILE_OR_VARIABLE.match(value.partition("#")[0].strip())
        return masked(line) if stays else f'{name}= "(left out)"'
    return masked(_INLINE_SECRET.sub(without, line))


def _text_of(path: Path) -> str:
    try:
        return redacted(path.read_text(encoding="utf-8-sig", errors="replace"))
    except OSError as error:
        return f"{path}: can not be read: {error.strerror}\n"


def _vehicle_files(config_path: Path) -> list[Path]:
    try:
        text = config_path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    named = re.findall(r"^\s*vehicle\s*=\s*[\"']([^\"']+)[\"']", text, re.MULTILINE)
    return [config_path.resolve().parent / name for name in named]


def _log() -> str:
    if shutil.which("journalctl") is None:
        return "this computer has no journalctl\n"
    said = subprocess.run(  # noqa: S603  # nothing of it comes from outside
        ["journalctl", "--unit=mdt", f"--lines={LOG_LINES}", "--no-pager", "--output=short-iso"],  # noqa: S607
        capture_output=True, encoding="utf-8", errors="replace", timeout=30, check=False,
    )  # fmt: skip
    return masked(said.stdout) if said.returncode == 0 else f"journalctl: {said.stderr}\n"
