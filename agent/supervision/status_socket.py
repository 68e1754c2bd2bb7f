"""What the daemon thinks, on a Unix socket: one JSON line a question."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ANSWER_WITHIN_S = 5


class StatusSocket:
    """Answers `{"ask": NAME}` lines with the JSON of the named snapshot.

    Snapshots are plain JSON-able values made on the loop, so an answer is consistent in itself.
    """

    def __init__(self, path: Path, snapshots: dict[str, Callable[[], Any]]) -> None:
        self._path = path
        self._snapshots = snapshots
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; a socket left by a killed daemon is replaced.

        Raises:
            DaemonRunningError: a daemon answers there; two would share a store, devices and a client id.
            OSError: the socket can not be made.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if await self._answers():
            raise DaemonRunningError(f"another agent answers on {self._path}")
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path=str(self._path))
        self._path.chmod(0o660)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(str(self._path))
        except OSError:
            return False
        writer.close()
        return True

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                line = await reader.readline()
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # a caller that went away or talks nonsense is its own problem
        finally:
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            question = json.loads(line)
            snapshot = self._snapshots[question["ask"]]
        except (ValueError, KeyError, TypeError):
            return {"error": f"ask one of {', '.join(sorted(self._snapshots))}"}
        return {"ok": snapshot()}


class DaemonRunningError(Exception):
    """Another daemon runs with the same configuration."""


class DaemonAwayError(Exception):
    """No daemon answers on the socket."""


def ask(path: Path, name: str) -> Any:
    """Ask the daemon from another process. Raises DaemonAwayError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_ANSWER_WITHIN_S)
            sock.connect(str(path))
            sock.sendall(json.dumps({"ask": name}).encode() + b"\n")
            with sock.makefile("rb") as answers:
                answer = json.loads(answers.readline())
    except (OSError, ValueError) as error:
        raise DaemonAwayError(f"{path}: {error}") from error
    if "ok" not in answer:
        raise DaemonAwayError(f"{path}: {answer.get('error', 'no answer')}")
    return answer["ok"]
