"""mdt diag: the whole picture, and a bundle of it for whoever helps from afar, without any secret."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent import __version__
from agent.cli.daemon_reports import nested_lines, socket_of
from agent.cli.exit_code import ExitCode
from agent.runtime.plain_text import masked
from agent.supervision.daemon_answer import DaemonAwayError, ask

LOG_LINES = 2000
_SECRET_KEY = re.compile(r"^\s*(?:\w+\.)*(password|secret|token|key|passphrase)\w*\s*=", re.IGNORECASE)
_INLINE_SECRET = re.compile(
    r"((?:password|secret|token|passphrase)\w*\s*=\s*)(\{[^}]*\}|\"[^\"]*\"|'[^']*'|[^,}\s]+)", re.IGNORECASE
)
_FILE_OR_VARIABLE = re.compile(r"^\{\s*(?:file|environment)\s*=\s*(?:\"[^\"]*\"|'[^']*')\s*\}$")


def diag(socket_path: Path | None, config_path: Path, *, bundle: Path | None, as_json: bool) -> int:
    """Print everything the agent tells, or write a bundle. Returns the exit code."""
    at = socket_path or socket_of(config_path)
    answers: dict[str, Any] = {}
    away: str | None = "no usable configuration names its socket" if at is None else None
    if at is not None:
        try:
            answers = {name: ask(at, name) for name in ("status", "outbox")}
        except DaemonAwayError as error:
            away = str(error)
    if bundle is not None:
        return _write(bundle, config_path, answers, away)
    if away is not None:
        print(f"the agent does not answer: {away}", file=sys.stderr)
        return ExitCode.UNAVAILABLE
    if as_json:
        print(json.dumps(answers, indent=2))
    else:
        for line in nested_lines(answers):
            print(line)
    return ExitCode.OK


def _write(bundle: Path, config_path: Path, answers: dict[str, Any], away: str | None) -> int:
    if bundle.exists():
        print(f"{bundle}: exists already", file=sys.stderr)
        return ExitCode.FAILED
    try:
        with tarfile.open(bundle, "x:gz") as archive:
            for name, text in _contents(config_path, answers, away):
                data = text.encode("utf-8", errors="replace")
                member = tarfile.TarInfo(f"mdt-bundle/{name}")
                member.size, member.mode = len(data), 0o640
                archive.addfile(member, io.BytesIO(data))
        bundle.chmod(0o640)
    except OSError as error:
        print(f"{bundle}: not written: {error.strerror}", file=sys.stderr)
        return ExitCode.FAILED
    print(f"{bundle}: written; passwords and keys are left out")
    return ExitCode.OK


def _contents(config_path: Path, answers: dict[str, Any], away: str | None) -> Iterator[tuple[str, str]]:
    """(name, text) of each file of a bundle."""
    yield "version.txt", f"agent {__version__}\nPython {sys.version}\n"
    yield "agent.json", masked(json.dumps(answers or {"away": away}, indent=2))
    yield "configuration.toml", _text_of(config_path)
    for vehicle in _vehicle_files(config_path):
        yield f"vehicles/{vehicle.name}", _text_of(vehicle)
    yield "log.txt", _log()


def redacted(text: str) -> str:
    """A configuration without anything that may be a secret; where one lies (file, variable) stays."""
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
