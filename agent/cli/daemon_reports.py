"""mdt status and mdt outbox: the running daemon's own words, for a person or as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from agent.app.devices import load
from agent.cli.exit_code import ExitCode
from agent.config import ConfigError
from agent.supervision.status_socket import DaemonAwayError, ask


def status(socket_path: Path | None, config_path: Path, *, as_json: bool) -> int:
    """Print the daemon's status. Returns the exit code."""
    return _report("status", socket_path, config_path, as_json=as_json)


def outbox(socket_path: Path | None, config_path: Path, *, as_json: bool) -> int:
    """Print what is stored and not yet delivered. Returns the exit code."""
    return _report("outbox", socket_path, config_path, as_json=as_json)


def _report(name: str, socket_path: Path | None, config_path: Path, *, as_json: bool) -> int:
    try:
        answer = ask(socket_path or load(config_path).status_socket, name)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return ExitCode.BAD_CONFIG
    except DaemonAwayError as error:
        print(f"the agent does not answer: {error}", file=sys.stderr)
        return ExitCode.UNAVAILABLE
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        for line in _lines(answer, ""):
            print(line)
    return ExitCode.OK


def _lines(value: Any, indent: str) -> list[str]:
    """A nested answer as aligned `name  value` lines."""
    lines: list[str] = []
    width = max((len(key) for key in value), default=0)
    for key, item in value.items():
        name = key.replace("_", " ")
        if isinstance(item, dict) and item:
            lines += [f"{indent}{name}", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{name:<{width}}  {_text(item)}")
    return lines


def _text(item: Any) -> str:
    match item:
        case None:
            return "-"
        case bool():
            return "yes" if item else "no"
        case list() | tuple():
            return ", ".join(_text(part) for part in item) or "none"
        case dict():
            return "none"
        case float():
            return f"{item:.6g}"
        case _:
            return str(item)
