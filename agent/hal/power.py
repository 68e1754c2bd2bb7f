"""Turning the computer off."""

from __future__ import annotations

from typing import Protocol


class PowerSwitch(Protocol):
    """Asks the system to turn the computer off. Used from the event loop; both return at once."""

    def ask(self) -> None:
        """Ask. The system stops this program in order first. Raises HardwareError: it can not be asked."""
        ...

    def withdraw(self) -> None:
        """Take it back, if it is not too late. Idempotent; raises HardwareError."""
        ...
