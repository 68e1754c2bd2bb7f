"""Asking systemd to turn the computer off, by a file that a path unit of its own waits for.

The agent has no right to turn anything off, and its sandbox keeps it from asking those who have. A file in
its own folder in /run is all it writes; `mdt-poweroff.path` sees it, and is there only where somebody
enabled it.
"""

from __future__ import annotations

from pathlib import Path

from agent.hal.errors import HardwareError


class PowerRequest:
    """Implements `PowerSwitch`.

    Args:
        file: what the path unit waits for; on a file system that a start empties.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def ask(self) -> None:
        """Make the file. Raises HardwareError."""
        try:
            self._file.touch()
        except OSError as error:
            raise HardwareError(str(self._file), error.strerror or str(error)) from error

    def withdraw(self) -> None:
        """Take it away. Raises HardwareError."""
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            raise HardwareError(str(self._file), error.strerror or str(error)) from error
