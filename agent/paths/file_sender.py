"""A file in pieces to whoever asked for it: paced, behind presses and backlogs, resumed after a cut."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import stat
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from agent.domain.record import Outcome
from agent.paths.fleet_commands import Asked, Result, done, refused
from agent.runtime.log import EventLog
from agent.runtime.worker import Worker
from agent.uplink.commands import Asker
from agent.uplink.pacing import TokenBucket
from agent.wire.reader_request import RefusalReason, Reply

log = EventLog("fetch")

PIECE_BYTES: Final = 4_096
SMALL_PIECE_BYTES: Final = 2_048
SMALL_PACKET_BYTES: Final = 8_192
"""A broker that takes no larger packets gets the smaller pieces: in base64 and framed, one is 3.3 kB."""
MOST_WAITING: Final = 4
GIVEN_UP_AFTER_S: Final = 3_600.0
"""Without a piece that landed for so long, nobody waits for the rest; whoever does asks again from there."""
_LOOK_S: Final = 0.25
_HASHED_BYTES: Final = 1 << 20
_NO_SUBSCRIBER, _REFUSED_FROM = 0x10, 0x80
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Uplink(Protocol):
    """What carries the pieces; the publisher."""

    @property
    def connections(self) -> int:
        """How many connections were opened since the start."""
        ...

    @property
    def most_packet_bytes(self) -> int | None:
        """The largest packet that the broker takes."""
        ...

    def piece(self, reply: Reply, to: Asker, landed: Callable[[int], None]) -> int:
        """Send one if nothing else has to go first; bytes of its packet, 0 when it was not sent."""
        ...


@dataclass(frozen=True, slots=True)
class _Job:
    asked: Asked
    file: IO[bytes]
    name: str
    size: int
    offset: int


class FileSender:
    """Sends one file at a time, one piece at a time. Used from the event loop; files are the worker's.

    Args:
        uplink: the publisher.
        worker: reads and hashes.
        bytes_per_s: pace, in bytes of packets.
        finish: told what became of each file.
    """

    def __init__(
        self,
        uplink: Callable[[], Uplink],
        worker: Worker,
        bytes_per_s: float,
        finish: Callable[[Asked, Result], None],
    ) -> None:
        self._uplink = uplink
        self._worker = worker
        self._bucket = TokenBucket(bytes_per_s)
        self._finish = finish
        self._jobs: deque[_Job] = deque()
        self._new = asyncio.Event()

    def send(self, asked: Asked, path: Path, offset: int) -> Result | None:
        """Send a file from a byte on, when its turn comes; None, or why not.

        The file is opened now: a recording that is removed meanwhile is still sent to its end.
        """
        if len(self._jobs) >= MOST_WAITING:
            return refused(RefusalReason.BUSY, f"{MOST_WAITING} files wait already")
        try:
            file = open_plain(path)
        except OSError as error:
            return refused(RefusalReason.NOTHING_THERE, f"{path.name}: {error.strerror}")
        size = os.fstat(file.fileno()).st_size
        if offset > size:
            file.close()
            return refused(RefusalReason.BEYOND_END, f"{path.name} has {size} bytes")
        self._jobs.append(_Job(asked, file, path.name, size, offset))
        self._new.set()
        return None

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop."""
        try:
            while True:
                progress()
                if not self._jobs:
                    self._new.clear()
                    try:
                        async with asyncio.timeout(10.0):
                            await self._new.wait()
                    except TimeoutError:
                        continue
                job = self._jobs[0]
                try:
                    result = await self._send(job, progress)
                finally:
                    self._jobs.popleft()
                    job.file.close()
                self._finish(job.asked, result)
        finally:
            while self._jobs:
                self._jobs.popleft().file.close()

    async def _send(self, job: _Job, progress: Callable[[], None]) -> Result:
        loop = asyncio.get_running_loop()
        digest, at, landed_at = hashlib.sha256(), 0, loop.time()
        while at < job.offset:  # what the asker has already belongs to the digest all the same
            raw = await self._worker.run(lambda: _read(job.file, at, min(_HASHED_BYTES, job.offset - at)))  # noqa: B023  # awaited at once
            progress()
            if not raw:
                return refused(RefusalReason.FAILED, f"{job.name} became shorter")
            digest.update(raw)
            at += len(raw)
        while at < job.size:
            most = self._uplink().most_packet_bytes
            length = SMALL_PIECE_BYTES if most is not None and most < SMALL_PACKET_BYTES else PIECE_BYTES
            try:
                raw = await self._worker.run(lambda: _read(job.file, at, min(length, job.size - at)))  # noqa: B023  # awaited at once
            except OSError as error:
                return refused(RefusalReason.FAILED, f"{job.name}: {error.strerror}")
            if not raw:
                return refused(RefusalReason.FAILED, f"{job.name} became shorter")
            code = await self._landed(job, at, raw, landed_at + GIVEN_UP_AFTER_S, progress)
            if code is None or code == _NO_SUBSCRIBER or code >= _REFUSED_FROM:
                why = "nobody listens" if code == _NO_SUBSCRIBER else "the broker takes no pieces"
                why = "no piece arrived for an hour" if code is None else why
                return refused(RefusalReason.FAILED, f"{why}; {at} of {job.size} bytes were sent")
            digest.update(raw)
            at, landed_at = at + len(raw), loop.time()
        ending = {"name": job.name, "size": job.size, "sha256": digest.hexdigest()}
        return done(result=json.dumps(ending))

    async def _landed(
        self, job: _Job, at: int, raw: bytes, deadline: float, progress: Callable[[], None]
    ) -> int | None:
        """Send one piece until a PUBACK comes for it; its reason code, None when none came in time."""
        loop, uplink = asyncio.get_running_loop(), self._uplink()
        piece = {"name": job.name, "offset": at, "size": job.size, "data": base64.b64encode(raw).decode()}
        reply = Reply(job.asked.name, str(Outcome.ACCEPTED), job.asked.id or None, result=json.dumps(piece))
        came, connection = asyncio.Event(), -1
        codes: list[int] = []

        def landed(code: int) -> None:
            codes.append(code)
            came.set()

        while loop.time() < deadline:
            progress()
            wait_s = self._bucket.delay_s(loop.time())
            if (
                connection != uplink.connections
                and wait_s == 0
                and (size := uplink.piece(reply, job.asked.asker, landed))
            ):
                self._bucket.take(size, loop.time())
                connection = uplink.connections
            try:
                async with asyncio.timeout(min(1.0, max(_LOOK_S, wait_s))):
                    await came.wait()
            except TimeoutError:
                continue
            return codes[-1]
        return None


def open_plain(path: Path) -> IO[bytes]:
    """An ordinary file by its own name, for reading; never by a link, a pipe or a device. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(2, "no file")
    return os.fdopen(descriptor, "rb", buffering=0)


def is_plain_name(name: str) -> bool:
    """Whether a name from outside can only be that of a file in a folder, and no way out of it."""
    return _NAME.fullmatch(name) is not None


def _read(file: IO[bytes], at: int, length: int) -> bytes:
    return os.pread(file.fileno(), length, at)


def listing(files: list[Path]) -> list[dict[str, Any]]:
    """Name and size of files, the newest names last; what vanished meanwhile is left out."""
    told = []
    for path in sorted(files, key=lambda one: one.name):
        try:
            told.append({"name": path.name, "size": path.stat().st_size})
        except OSError:
            continue
    return told
