"""The outbox's worker without a thread: work is done where it is asked for, at no simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from agent.runtime.worker import Done, Worker

T = TypeVar("T")


class InlineWorker(Worker):
    """Does each piece of work as it is handed over."""

    def submit(self, work: Callable[[], T], done: Done, *, urgent: bool = False) -> None:
        """Do `work` now, and say so soon."""
        del urgent
        result: Any = None
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            failure = error
        asyncio.get_running_loop().call_soon(done, result, failure)

    async def close(self) -> None:
        """Nothing to close."""
