"""A line on which control units are asked: the only way in which the agent sends on a vehicle's bus."""

from __future__ import annotations

from typing import Protocol


class DiagnosticLine(Protocol):
    """Asks one control unit at a time. Used from the event loop only; `close` is idempotent."""

    @property
    def name(self) -> str:
        """The line as configured, for messages."""
        ...

    async def open(self) -> None:
        """Open it. Raises HardwareError."""
        ...

    async def ask(self, controller: int, request: bytes, timeout_s: float) -> bytes | None:
        """Send a request to a control unit and wait for its answer.

        Args:
            controller: identifier that it listens to, 0x7E0 to 0x7E7; it answers with 8 more.
            request: mode and what belongs to it.
            timeout_s: how long to wait.

        Returns:
            The whole answer, put together; None when none came in time.

        Raises HardwareError.
        """
        ...

    async def close(self) -> None:
        """Release the line; never raises."""
        ...
