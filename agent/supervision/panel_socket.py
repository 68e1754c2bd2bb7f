"""Where the crew's page meets the daemon: what is true now goes out, what the crew does comes in.

JSON lines over a Unix socket, as docs/panel.md describes. The daemon owes the page nothing: a client that
is slow, mad or gone is dropped and costs nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from agent.domain.health import HealthBoard, HealthReason
from agent.runtime.log import EventLog

log = EventLog("panel")

BEAT_S: Final = 1.0
IDLE_S: Final = 10.0
"""How often the unit reports progress while no page is there."""
RETRY_S: Final = 5.0
SETTLE_S: Final = 0.02
"""Changes that come together make one snapshot."""
MOST_CLIENTS: Final = 4
MOST_LINE_BYTES: Final = 8_192
MOST_ACTIONS_PER_S: Final = 20
MOST_UNSENT_BYTES: Final = 512 * 1024
"""A client that reads so slowly is dropped: it comes back and gets what is true then."""

Action = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Does what the crew asked for; returns `{"ok": true}`, or `error` with a token and `text`."""


class PanelSocket:
    """Serves snapshots to panels and takes their actions. Used from the event loop.

    Args:
        path: of the socket.
        snapshot: makes what is true now, JSON-able.
        actions: by the word in `do`.
        health: told when the socket can not be made; None where nobody asks.
    """

    def __init__(
        self,
        path: Path,
        snapshot: Callable[[], Mapping[str, Any]],
        actions: Mapping[str, Action],
        health: HealthBoard | None = None,
    ) -> None:
        self._health = health
        self._path = path
        self._snapshot = snapshot
        self._actions = actions
        self._changed = asyncio.Event()
        self._clients: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def changed(self) -> None:
        """Something that the page shows is different now."""
        self._changed.set()

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop: listen, and tell what changed; until cancelled.

        A socket that can not be made is a health reason, and tried again: buttons do not wait for a page.
        """
        while True:
            try:
                await self._listen(progress)
            except OSError as error:
                if self._health is not None:
                    self._health.raise_(HealthReason.PANEL_FAILED, f"{self._path}: {error.strerror}")
                log.error("panel_socket_failed", path=self._path, why=error.strerror)
            progress()
            await asyncio.sleep(RETRY_S)

    async def _listen(self, progress: Callable[[], None]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, path=str(self._path), limit=MOST_LINE_BYTES)
        self._path.chmod(0o660)
        if self._health is not None:
            self._health.clear(HealthReason.PANEL_FAILED)
        try:
            while True:
                progress()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S if self._clients else IDLE_S):
                        await self._changed.wait()
                await asyncio.sleep(SETTLE_S)
                self._changed.clear()
                self._tell()
        finally:
            server.close()
            for client in tuple(self._clients):
                client.transport.abort()  # its task reads the end; cancelled, asyncio would print a trace
            await asyncio.gather(*self._serving, return_exceptions=True)
            await server.wait_closed()
            self._path.unlink(missing_ok=True)

    def _tell(self) -> None:
        if not self._clients:
            return
        try:
            line = json.dumps({"v": 1, "snapshot": self._snapshot()}, allow_nan=False).encode() + b"\n"
        except Exception as error:  # noqa: BLE001  # the daemon does not end because of what a page shows
            log.error("panel_snapshot_failed", error=error, exc=error)
            return
        for client in tuple(self._clients):
            if client.transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
                log.warning("panel_too_slow")
                client.transport.abort()
            else:
                client.write(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= MOST_CLIENTS:
            log.warning("panels_refused", most=MOST_CLIENTS)
            writer.close()
            return
        self._clients.add(writer)
        self._serving.add(task)
        self._changed.set()
        try:
            await self._converse(reader, writer)
        except (OSError, ValueError, RecursionError):
            log.warning("panel_dropped")  # it talks nonsense or went away: its own problem
        finally:
            self._clients.discard(writer)
            self._serving.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        allowance, at = float(MOST_ACTIONS_PER_S), loop.time()
        while line := await reader.readline():
            now = loop.time()
            allowance, at = min(MOST_ACTIONS_PER_S, allowance + (now - at) * MOST_ACTIONS_PER_S), now
            if allowance < 1:
                answer: Mapping[str, Any] = {"error": "too_many", "text": "Too many actions a second."}
            else:
                allowance -= 1
                answer = self._act(json.loads(line))
            number = _number(line)
            writer.write(json.dumps({"re": number, **answer}, allow_nan=False).encode() + b"\n")
            await writer.drain()

    def _act(self, message: Any) -> Mapping[str, Any]:
        if not isinstance(message, dict):
            raise ValueError("not an action")  # noqa: TRY004  # as for bad JSON: the client is dropped
        action = self._actions.get(str(message.get("do")))
        if action is None:
            return {"error": "unknown_action", "text": "There is no such action."}
        try:
            answer = action(message)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            return {
                "error": "malformed",
                "text": f"The action can not be understood: {type(error).__name__}.",
            }
        self._changed.set()
        return answer


def _number(line: bytes) -> str:
    """The client's own number of an action, "" when it gave none."""
    message = json.loads(line)
    return str(message.get("id", ""))[:32] if isinstance(message, dict) else ""
