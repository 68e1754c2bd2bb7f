"""Asking the running daemon from another process. Light: a person waits for it, on a slow computer."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path
from typing import Any, Final

DEFAULT_SOCKET: Final = Path("/run/mdt/mdt.sock")
ANSWER_WITHIN_S: Final = 5.0
"""A daemon that does not answer in this time does not, and a client that does not ask or read is left."""
ANSWER_BYTES: Final = 4 << 20
"""No answer of a daemon is larger."""
_READ_BYTES: Final = 65_536


class DaemonAwayError(Exception):
    """No daemon answers on the socket."""


def ask(path: Path, name: str) -> Any:
    """Ask the daemon for a snapshot. Raises DaemonAwayError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            answer = json.loads(_answered(sock, path, json.dumps({"ask": name}).encode() + b"\n"))
    except (OSError, ValueError, RecursionError) as error:
        raise DaemonAwayError(f"{path}: {error}") from error
    if not isinstance(answer, dict) or "ok" not in answer:
        said = answer.get("error") if isinstance(answer, dict) else None
        raise DaemonAwayError(f"{path}: {said or 'no answer'}")
    return answer["ok"]


def _answered(sock: socket.socket, path: Path, question: bytes) -> bytes:
    """The line that is answered, within a time and a size: what listens there may be anything."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    sock.settimeout(ANSWER_WITHIN_S)
    sock.connect(str(path))
    with contextlib.suppress(BrokenPipeError):  # it may have said why, and left
        sock.sendall(question)
    answer = bytearray()
    while not answer.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(left_s)
        part = sock.recv(_READ_BYTES)
        if not part:
            break
        answer += part
        if len(answer) > ANSWER_BYTES:
            raise ValueError(f"answers more than {ANSWER_BYTES} bytes")
    return bytes(answer)
