"""mdt diag: the whole picture, and a bundle of it for whoever helps from afar, without any secret."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from agent.app.bundle import write_bundle
from agent.cli.daemon_reports import nested_lines, socket_of
from agent.cli.exit_code import ExitCode
from agent.supervision.daemon_answer import DaemonAwayError, ask


def diag(socket_path: Path | None, config_path: Path, *, bundle: Path | None, as_json: bool) -> int:
    """Print everything the agent tells, or write a bundle. Returns the exit code."""
    at = socket_path or socket_of(config_path)
    answers: dict[str, Any] = {}
    away: str | None = "no usable configuration names its socket" if at is None else None
    if at is not None:
        for name in ("status", "outbox", "trips"):
            try:
                answers[name] = ask(at, name)
            except DaemonAwayError as error:  # an agent of another version has others
                away = str(error)
        away = None if answers else away
    if bundle is not None:
        return _write(bundle, config_path, answers or {"away": away})
    if away is not None:
        print(f"the agent does not answer: {away}", file=sys.stderr)
        print("does it run? systemctl status mdt; what is wrong? mdt doctor", file=sys.stderr)
        return ExitCode.UNAVAILABLE
    if as_json:
        print(json.dumps(answers, indent=2))
    else:
        for line in nested_lines(answers):
            print(line)
    return ExitCode.OK


def _write(bundle: Path, config_path: Path, answers: dict[str, Any]) -> int:
    if bundle.exists():
        print(f"{bundle}: exists already", file=sys.stderr)
        return ExitCode.FAILED
    try:
        write_bundle(bundle, config_path, answers)
    except OSError as error:
        print(f"{bundle}: not written: {error.strerror}", file=sys.stderr)
        return ExitCode.FAILED
    print(f"{bundle}: written; passwords and keys are left out")
    return ExitCode.OK
