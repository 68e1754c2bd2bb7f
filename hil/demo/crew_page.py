"""The crew's page beside the demo: its server as a process of its own, as in the vehicle."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from hil.service_process import ServiceProcess


class CrewPage:
    """`mdt-panel` on loopback. Blocking calls.

    Args:
        config_file: the vehicle's, which says where the daemon's socket is.
        directory: for the token and the log.
    """

    def __init__(self, config_file: Path, directory: Path) -> None:
        self._config_file = config_file
        self._token_file = directory / "panel-token"
        self._process = ServiceProcess(
            "agent.panel.command", directory / "panel.log", ready="The crew's page"
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]

    @property
    def settings(self) -> dict[str, Any]:
        """For the vehicle's configuration."""
        return {"panel": {"port": self._port, "token_file": str(self._token_file)}}

    @property
    def address(self) -> str:
        """What to open in a browser; it lets in whoever has it."""
        return f"http://127.0.0.1:{self._port}/?token={self._token_file.read_text(encoding='ascii').strip()}"

    def start(self) -> None:
        """Start it; the daemon need not be there yet. Raises RuntimeError with what it said when it ends."""
        self._process.start(["--config", str(self._config_file)])

    def stop(self) -> None:
        """End it. Idempotent."""
        self._process.end()
