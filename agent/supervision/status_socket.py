"""What the daemon thinks, on a Unix socket: one JSON line a question."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent.runtime.log import EventLog
from agent.runtime.plain_text import masked, told
from agent.runtime.shortage import lacks_descriptors
from agent.supervision.daemon_answer import ANSWER_WITHIN_S

log = EventLog("status-socket")

CLIENTS_AT_ONCE = 8
"""Who comes beyond is told that the daemon is busy, and left."""
QUESTION_BYTES = 1024
_LOOK_WITHIN_S = 2.0


class StatusSocket:
    """Answers `{"ask": NAME}` lines with the JSON of the named snapshot.

    Snapshots are plain JSON-able values made on the loop, so an answer is consistent in itself; one that must
    read the disk first is awaited, within the same time. Clients are bounded in number, time and bytes, and
    none of them can hold up the daemon's end.
    """

    def __init__(
        self, path: Path, snapshots: dict[str, Callable[[], Any]], *, answer_within_s: float = ANSWER_WITHIN_S
    ) -> None:
        self._path = path
        self._snapshots = snapshots
        self._answer_within_s = answer_within_s
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

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
        self._server = await asyncio.start_unix_server(
            self._welcome, path=str(self._path), limit=QUESTION_BYTES, backlog=CLIENTS_AT_ONCE
        )
        self._path.chmod(0o660)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_LOOK_WITHIN_S):
                _, writer = await asyncio.open_unix_connection(str(self._path))
        except TimeoutError:
            return True  # somebody listens there, too busy to take us
        except OSError as error:
            if lacks_descriptors(error):
                raise  # whether somebody listens is not known, and the socket is not ours to take away
            return False
        writer.close()
        return True

    async def close(self) -> None:
        """Stop listening and leave every client. Idempotent."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        clients = dict(self._clients)
        for task, writer in clients.items():
            writer.transport.abort()
            task.cancel()
        if clients:
            await asyncio.wait(clients)
        await server.wait_closed()
        self._path.unlink(missing_ok=True)

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None or len(self._clients) >= CLIENTS_AT_ONCE:
            # A few bytes: they are in the kernel's hands by the time this returns, or not at all.
            writer.write(b'{"error": "busy: too many ask at once"}\n')
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="status-client")
        self._clients[task] = writer
        task.add_done_callback(self._clients.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # So that `drain` returns once everything went, not once it is little.
        writer.transport.set_write_buffer_limits(0)
        try:
            async with asyncio.timeout(self._answer_within_s):
                line = await reader.readline()
                writer.write(masked(json.dumps(await self._answer(line))).encode() + b"\n")
                await writer.drain()
                writer.close()
        except (OSError, TimeoutError, ValueError):
            pass  # a caller that went away, is silent or talks nonsense is its own problem
        finally:
            if not writer.is_closing():
                writer.transport.abort()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            question = json.loads(line)
            snapshot = self._snapshots[question["ask"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"error": f"ask one of {', '.join(sorted(self._snapshots))}"}
        try:
            said = snapshot()
            return {"ok": await said if isinstance(said, Awaitable) else said}
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001  # the daemon does not end because somebody asked how it is
            log.error("snapshot_failed", name=str(question["ask"]), error=error, exc=error)
            return {"error": f"this can not be said: {told(error)}"}


class DaemonRunningError(Exception):
    """Another daemon runs with the same configuration."""
