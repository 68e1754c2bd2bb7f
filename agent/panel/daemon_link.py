"""The panel's line to the daemon: what is true now comes in, what the crew does goes out.

JSON lines over a Unix socket (docs/panel.md has the protocol). The link keeps nothing for later: an action
while the daemon is away fails at once, so that the page can say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RETRY_S = 0.5
SILENT_AFTER_S = 2.0
"""The daemon says something every second; after this long it is taken for dead."""
ANSWER_WITHIN_S = 3.0
LINE_LIMIT_BYTES = 256 * 1024


class DaemonAwayError(Exception):
    """The daemon does not answer: nothing that was pressed has reached it."""


class DaemonLink:
    """Keeps one connection to the daemon's panel socket. Used from one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self._snapshot: dict[str, Any] | None = None
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: set[Callable[[], None]] = set()
        self._count = 0

    @property
    def snapshot(self) -> dict[str, Any] | None:
        """What the daemon last said; None while it is away: what it said before may be wrong by now."""
        return self._snapshot

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever the snapshot changed; returns what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            with contextlib.suppress(OSError, ValueError, TimeoutError):
                await self._converse()
            self._lose()
            await asyncio.sleep(RETRY_S)

    async def act(self, action: dict[str, Any]) -> dict[str, Any]:
        """Do something in the daemon.

        Args:
            action: `do` and its arguments, as docs/panel.md lists them.

        Returns:
            The daemon's answer: `ok`, or `error` with a token and a sentence.

        Raises:
            DaemonAwayError: it is not there, or does not answer in time. Nothing is kept and sent later.
        """
        writer = self._writer
        if writer is None or self._snapshot is None:
            raise DaemonAwayError("the agent is not running")
        self._count += 1
        number = str(self._count)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                writer.write(json.dumps({**action, "id": number}).encode() + b"\n")
                await writer.drain()
                return await future
        except (OSError, TimeoutError) as error:
            raise DaemonAwayError("the agent does not answer") from error
        finally:
            self._waiting.pop(number, None)

    async def _converse(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=LINE_LIMIT_BYTES)
        self._writer = writer
        try:
            while True:
                async with asyncio.timeout(SILENT_AFTER_S):
                    line = await reader.readline()
                if not line:
                    return
                self._take(json.loads(line))
        finally:
            writer.close()

    def _take(self, message: Any) -> None:
        if not isinstance(message, dict):
            raise ValueError("not a message")  # noqa: TRY004  # the connection is given up, as for bad JSON
        if "snapshot" in message:
            self._snapshot = message["snapshot"]
            self._tell()
        future = self._waiting.get(str(message.get("re", "")))
        if future is not None and not future.done():
            future.set_result(message)

    def _lose(self) -> None:
        self._writer = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(DaemonAwayError("the agent went away"))
        if self._snapshot is not None:
            self._snapshot = None
            self._tell()

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()
