"""What must be known of the run after the computer was off: the call, who is aboard, what was not read yet.

Call data is in no journal. It stands in one small file beside the store, readable by the agent alone, written
anew at each change and without the call as soon as that ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.domain.health import HealthBoard, HealthReason
from agent.runtime.log import EventLog
from agent.runtime.shortage import is_passing
from agent.runtime.whole_file import write_whole
from agent.runtime.worker import Worker

log = EventLog("run")

MOST_BYTES: Final = 256 * 1024
_VERSION: Final = 1
_RETRY_S: Final = 5.0
_TRIES: Final = 4
_TRY_AGAIN_S: Final = 0.5


class RunMemory:
    """Keeps the newest picture on the disk. Used from the event loop; the disk is the worker's.

    Args:
        file: where.
        worker: does the writing.
        health: told while the disk refuses.
        reason: what it is told.
        closes_worker: whether it is this one's to close.
    """

    def __init__(
        self,
        file: Path,
        worker: Worker,
        health: HealthBoard,
        *,
        reason: HealthReason = HealthReason.RUN_NOT_KEPT,
        closes_worker: bool = True,
    ) -> None:
        self._closes_worker = closes_worker
        self._file = file
        self._worker = worker
        self._health = health
        self._reason = reason
        self._wanted: bytes | None = None
        self._written: bytes | None = None
        self._writing: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        """Of those who wait for the next write that begins."""
        self._closed = False

    async def read(self) -> Mapping[str, Any]:
        """What was true when the agent ran last; empty when that is not known."""
        try:
            raw = await self._read_patiently()
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._refused(error)
            return {}
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or found.get("v") != _VERSION:
            log.error("run_memory_unreadable", bytes=len(raw))  # never what stands in it
            self._health.raise_(self._reason, f"{self._file.name}: damaged; what it said is lost")
            return {}
        self._written = raw
        return found

    async def _read_patiently(self) -> bytes:
        """A bad moment must not cost the call: what is not read now is written over soon. Raises OSError."""
        for _ in range(_TRIES - 1):
            try:
                return await self._worker.run(self._read)
            except OSError as error:
                if not is_passing(error):
                    raise
            await asyncio.sleep(_TRY_AGAIN_S)
        return await self._worker.run(self._read)

    def keep(self, picture: Mapping[str, Any]) -> asyncio.Future[None]:
        """Have this on the disk, soon; what was wanted before and is not written yet need not be.

        Returns what is done when it was tried: then this is on the disk, or health says that it is not.
        """
        loop = asyncio.get_running_loop()
        tried: asyncio.Future[None] = loop.create_future()
        raw = json.dumps({"v": _VERSION, **picture}, sort_keys=True).encode()
        if (self._wanted is None and raw == self._written) or self._closed:
            tried.set_result(None)
            return tried
        self._wanted = raw
        self._waiting.append(tried)
        if self._writing is None or self._writing.done():
            self._writing = loop.create_task(self._write_all(), name="run-memory")
        return tried

    async def close(self) -> None:
        """Write what is left, once; nothing is kept any more. Idempotent."""
        self._closed = True
        await self.flush()
        if self._closes_worker:
            await self._worker.close()

    async def flush(self) -> None:
        """Try at once to write what is wanted, once; what the disk refuses is not kept."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            with contextlib.suppress(OSError):
                await self._worker.run(lambda: self._write(wanted))
                self._written = wanted
        _tell(self._waiting)

    async def _write_all(self) -> None:
        while (wanted := self._wanted) is not None:
            waiting, self._waiting = self._waiting, []
            try:
                await self._worker.run(lambda raw=wanted: self._write(raw))  # type: ignore[misc]  # bound now
            except OSError as error:
                self._refused(error)
                _tell(waiting)
                await asyncio.sleep(_RETRY_S)
                continue
            except asyncio.CancelledError:
                self._waiting += waiting
                raise
            self._health.clear(self._reason)
            self._written = wanted
            _tell(waiting)
            if self._wanted == wanted:
                self._wanted = None
                _tell(self._waiting)  # they wanted the same, while it was being written

    def _refused(self, error: OSError) -> None:
        why = error.strerror or type(error).__name__
        self._health.raise_(self._reason, f"{self._file.name}: {why}")

    def _read(self) -> bytes:
        with self._file.open("rb") as file:
            return file.read(MOST_BYTES)  # what is cut off there is no JSON any more

    def _write(self, raw: bytes) -> None:
        write_whole(self._file, raw)


def _tell(waiting: list[asyncio.Future[None]]) -> None:
    for one in waiting:
        if not one.done():
            one.set_result(None)
    waiting.clear()
