"""An asyncio loop whose time is a number: waiting costs nothing, and two runs are the same run."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class SimulationStalledError(Exception):
    """Every task waits for something that no timer will ever bring."""


_LOOK_EVERY = 256


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that moves the loop's time on instead of sleeping.

    Nothing in a simulation comes through a descriptor, so the kernel is asked now and then only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Events that are ready now; without any, jump to the next timer."""
        self._turns += 1
        if timeout is None or self._turns % _LOOK_EVERY == 0:
            ready = super().select(0)
            if ready:
                return ready
        if timeout == 0:
            return []
        if timeout is None:
            raise SimulationStalledError("nothing is scheduled and nothing is ready")
        # At least one nanosecond, so that rounding never holds a timer back for ever.
        self.now_ns += max(1, round(timeout * 1e9))
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Loop time starts at 0 and jumps from timer to timer. Only for code that waits on the loop alone."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    @property
    def now_ns(self) -> int:
        """Loop time in nanoseconds, exact."""
        return self._jumping.now_ns

    def time(self) -> float:
        """Loop time in seconds."""
        return self._jumping.now_ns / 1e9

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # never returns
        """Forbidden: a thread would bring the computer's own time into the simulation."""
        del executor, args
        raise SimulationStalledError(f"{func!r} wants a thread; the simulation has none")
