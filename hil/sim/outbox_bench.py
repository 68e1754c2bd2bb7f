"""An outbox with what stands around it, for tests: full disks, commits in doubt, what lies in the files."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from agent import config
from agent.domain.health import HealthBoard
from agent.domain.record import Alert, Kind, Stream
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from agent.wire.body import unpack_body

T = TypeVar("T")
MANY = {"max_records": 100_000, "max_bytes": 1 << 30}


class Bench:
    """An outbox with what stands around it."""

    def __init__(self, folder: Path, clock: Any, **settings: Any) -> None:
        self.health = HealthBoard()
        self.seen_reasons: set[str] = set()
        self.health.listen(lambda: self.seen_reasons.update(self.health.reasons()))
        self.worker = ThreadWorker()
        self.outbox = Outbox(config.Store(directory=folder, **settings), clock, self.worker, self.health)

    @property
    def store(self) -> Any:
        """The store below, for what only a test does to it."""
        return self.outbox._store._keeper._store  # noqa: SLF001 - for tests


@asynccontextmanager
async def opened(
    folder: Path, scribe: Any, *, running: bool = False, **settings: Any
) -> AsyncIterator[Bench]:
    """An outbox, opened, with its upkeep running if asked for; closed in order at the end."""
    bench = Bench(folder, scribe.clock, **settings)
    await bench.outbox.open()
    running_task = asyncio.create_task(bench.outbox.run(lambda: None)) if running else None
    try:
        yield bench
    finally:
        if running_task is not None:
            running_task.cancel()
            await asyncio.gather(running_task, return_exceptions=True)
        await bench.outbox.close()


async def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    """Wait for a condition."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await asyncio.sleep(0.005)


def run(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """In a loop of its own."""
    return asyncio.run(scenario())


def records(folder: Path, table: str) -> int:
    """What a reader of the files finds, without the outbox's help."""
    with tempfile.TemporaryDirectory() as copy:
        for path in folder.glob("outbox.db*"):
            shutil.copy(path, copy)
        connection = sqlite3.connect(Path(copy) / "outbox.db")
        try:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - a constant of a test
        finally:
            connection.close()


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Writes beyond `limit` bytes of a file fail, for real, with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class DoubtfulCommit:
    """A connection whose COMMITs are carried out or lost, and reported as failed flushes."""

    def __init__(
        self, connection: sqlite3.Connection, *, done: bool, then: Callable[[], None] = lambda: None
    ) -> None:
        self.connection = connection
        self.done = done
        self.then = then

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """What a connection does, but for COMMIT."""
        if sql != "COMMIT":
            return self.connection.execute(sql, *arguments)
        self.connection.execute("COMMIT" if self.done else "ROLLBACK")
        self.then()
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


async def alert_codes(outbox: Outbox) -> list[str]:
    """Codes of the alerts that are stored."""
    rows = await outbox.read(Stream.EVENTS, 0, **MANY)
    bodies = [unpack_body(Kind.ALERT, row.body) for row in rows if row.kind == Kind.ALERT]
    return [body.code for body in bodies if isinstance(body, Alert)]


def mounted(size: str, folder: Path) -> bool:
    """Mount a file system of that size; False where that can not be done."""
    folder.mkdir()
    if os.geteuid() != 0:
        return False
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "outbox-test", str(folder)],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def fill_up(path: Path) -> None:
    """Take all the space there is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(descriptor, bytes(4096)):
            pass
    except OSError:
        pass
    finally:
        os.close(descriptor)
