"""Where blocking work is done, so that a slow card never delays a lamp or the watchdog."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Worker(Protocol):
    """Does one piece of work at a time, each to its end. `run` and `close` are called on the event loop."""

    async def run(self, work: Callable[[], T], *, urgent: bool = False) -> T:
        """Do `work`, give back what it returns or raises. Urgent work overtakes what waits, never what runs.

        A cancelled caller does not stop work that was handed over.
        """
        ...

    async def close(self) -> None:
        """Finish what was handed over and release the worker. Idempotent."""
        ...


class ThreadWorker:
    """A Worker with one owned thread, started at the first work and joined by `close`."""

    def __init__(self, name: str = "outbox") -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._urgent: deque[_Job] = deque()
        self._patient: deque[_Job] = deque()
        # One token a job: the thread sleeps on the tokens and then takes the most urgent job there is.
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._closed = False

    async def run(self, work: Callable[[], T], *, urgent: bool = False) -> T:
        """See Worker. Raises RuntimeError after `close`."""
        if self._closed:
            raise RuntimeError("the worker is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        (self._urgent if urgent else self._patient).append(_Job(work, loop, future))
        self._tokens.put(True)
        return await future

    async def close(self) -> None:
        """See Worker."""
        self._closed = True
        if self._thread is None:
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        self._patient.append(_Job(lambda: None, loop, ended))
        self._tokens.put(True)
        self._tokens.put(False)
        thread, self._thread = self._thread, None
        await asyncio.shield(ended)
        thread.join()

    def _serve(self) -> None:
        while self._tokens.get():
            job = self._urgent.popleft() if self._urgent else self._patient.popleft()
            job.do()


class _Job:
    """Work with the loop and future its result goes to."""

    __slots__ = ("future", "loop", "work")

    def __init__(
        self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]
    ) -> None:
        self.work = work
        self.loop = loop
        self.future = future

    def do(self) -> None:
        """Runs in the thread."""
        result: Any = None
        failure: BaseException | None = None
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            failure = error
        # A loop that is gone has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._deliver, result, failure)

    def _deliver(self, result: Any, failure: BaseException | None) -> None:
        if self.future.done():
            return
        if failure is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(failure)
