"""The outbox's worker without a thread: work is done where it is asked for, at no simulated time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class InlineWorker:
    """Implements agent.runtime.worker.Worker."""

    async def run(self, work: Callable[[], T], *, urgent: bool = False) -> T:
        """Do `work` now."""
        del urgent
        return work()

    async def close(self) -> None:
        """Nothing to close."""
