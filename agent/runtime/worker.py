"""Where blocking work is done, so that a slow card never delays a lamp or the watchdog."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Done = Callable[[Any, BaseException | None], None]
"""Takes what work returned and None, or None and what it raised. What it raises itself goes to the loop."""


class Worker(ABC):
    """Does one piece of work at a time, each to its end. Every method is called on the event loop."""

    @abstractmethod
    def submit(self, work: Callable[[], T], done: Done, *, urgent: bool = False) -> None:
        """Have `work` done and `done` called on the loop, never before this returns.

        Urgent work overtakes what waits, never what runs.
        """

    async def run(self, work: Callable[[], T], *, urgent: bool = False) -> T:
        """Do `work`, give back what it returns or raises.

        A cancelled caller does not stop work that was handed over.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.submit(work, partial(deliver, future), urgent=urgent)
        return await future

    @abstractmethod
    async def close(self) -> None:
        """Finish what was handed over and release the worker. Idempotent."""


def deliver(future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    """A Done that hands it on to a future, unless nobody waits for that any more."""
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)


_Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, Done]


class ThreadWorker(Worker):
    """A Worker with one owned thread, started at the first work and joined by `close`."""

    def __init__(self, name: str = "outbox") -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._urgent: deque[_Job] = deque()
        self._patient: deque[_Job] = deque()
        # One token a job: the thread sleeps on the tokens and then takes the most urgent job there is.
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._closed = False

    def submit(self, work: Callable[[], T], done: Done, *, urgent: bool = False) -> None:
        """See Worker. Raises RuntimeError after `close`."""
        if self._closed:
            raise RuntimeError("the worker is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name)
            self._thread.start()
        (self._urgent if urgent else self._patient).append((work, asyncio.get_running_loop(), done))
        self._tokens.put(True)

    async def close(self) -> None:
        """See Worker."""
        self._closed = True
        if self._thread is None:
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        self._patient.append((lambda: None, loop, partial(deliver, ended)))
        self._tokens.put(True)
        self._tokens.put(False)
        thread, self._thread = self._thread, None
        await asyncio.shield(ended)
        thread.join()

    def _serve(self) -> None:
        while self._tokens.get():
            work, loop, done = self._urgent.popleft() if self._urgent else self._patient.popleft()
            result: Any = None
            failure: BaseException | None = None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                failure = error
            # A loop that is gone has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(done, result, failure)
