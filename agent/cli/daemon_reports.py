"""mdt status and mdt outbox: the running daemon's own words, for a person or as JSON."""

from __future__ import annotations

import getpass
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from agent.cli.exit_code import ExitCode
from agent.cli.status_page import status_page
from agent.runtime.plain_text import harmless
from agent.supervision.daemon_answer import DEFAULT_SOCKET, DaemonAwayError, ask


def status(socket_path: Path | None, config_path: Path, *, as_json: bool) -> int:
    """Print the daemon's status. Returns the exit code."""
    return _report("status", socket_path, config_path, as_json=as_json)


def outbox(socket_path: Path | None, config_path: Path, *, as_json: bool) -> int:
    """Print what is stored and not yet delivered. Returns the exit code."""
    return _report("outbox", socket_path, config_path, as_json=as_json)


def _report(name: str, socket_path: Path | None, config_path: Path, *, as_json: bool) -> int:
    answer = asked(name, socket_path, config_path)
    if isinstance(answer, ExitCode):
        return answer
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        table = answer if isinstance(answer, dict) else {name: answer}
        for line in status_page(table) if name == "status" else nested_lines(table):
            print(line)
    return ExitCode.OK


def asked(name: str, socket_path: Path | None, config_path: Path) -> Any:
    """The daemon's answer; the exit code when there is none, told on standard error."""
    if socket_path is None and (socket_path := socket_of(config_path)) is None:
        return ExitCode.BAD_CONFIG
    try:
        return ask(socket_path, name)
    except DaemonAwayError as error:
        print(f"the agent does not answer: {error}", file=sys.stderr)
        print(what_to_try(error), file=sys.stderr)
        return ExitCode.UNAVAILABLE


def what_to_try(error: BaseException) -> str:
    """What a person does about a daemon that does not answer, in one line."""
    match error.__cause__:
        case PermissionError():
            return f"only the group mdt may ask it: sudo adduser {getpass.getuser()} mdt, and log in anew"
        case FileNotFoundError() | ConnectionRefusedError():
            return "it does not run: sudo systemctl start mdt; why not? journalctl -u mdt -n 50, mdt doctor"
        case TimeoutError():
            return "it runs, and is busy or hangs: try again; journalctl -u mdt -n 50"
        case _:
            return "does it run? systemctl status mdt; what is wrong? mdt doctor"


def socket_of(config_path: Path) -> Path | None:
    """The socket that a configuration names; None, and the reasons on standard error, when it is no good.

    Read by itself, without the models: to load those takes seconds on a Pi that is busy.
    """
    try:
        named = tomllib.loads(config_path.read_text(encoding="utf-8")).get("status_socket", DEFAULT_SOCKET)
        return Path(config_path.resolve().parent, named)
    except (OSError, ValueError, TypeError, RecursionError):
        return _checked_socket_of(config_path)


def _checked_socket_of(config_path: Path) -> Path | None:
    from agent.app.devices import load
    from agent.config import ConfigError

    try:
        return load(config_path).status_socket
    except ConfigError as error:
        print(error, file=sys.stderr)
        return None


def nested_lines(value: dict[str, Any], indent: str = "") -> list[str]:
    """A nested answer as aligned `name  value` lines."""
    lines: list[str] = []
    width = max((len(key) for key in value), default=0)
    for key, item in value.items():
        name = harmless(key.replace("_", " "))
        if isinstance(item, dict) and item:
            lines += [f"{indent}{name}", *nested_lines(item, indent + "  ")]
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
            return harmless(str(item))
