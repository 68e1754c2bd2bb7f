"""Asking the running daemon from another process. Light: a person waits for it, on a slow computer."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

DEFAULT_SOCKET: Final = Path("/run/mdt/mdt.sock")
ANSWER_WITHIN_S: Final = 5.0
"""A daemon that does not answer in this time does not, and a client that does not ask or read is left."""


class DaemonAwayError(Exception):
    """No daemon answers on the socket."""


def ask(path: Path, name: str) -> Any:
    """Ask the daemon for a snapshot. Raises DaemonAwayError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ANSWER_WITHIN_S)
            sock.connect(str(path))
            sock.sendall(json.dumps({"ask": name}).encode() + b"\n")
            with sock.makefile("rb") as answers:
                answer = json.loads(answers.readline())
    except (OSError, ValueError) as error:
        raise DaemonAwayError(f"{path}: {error}") from error
    if not isinstance(answer, dict) or "ok" not in answer:
        said = answer.get("error") if isinstance(answer, dict) else None
        raise DaemonAwayError(f"{path}: {said or 'no answer'}")
    return answer["ok"]
