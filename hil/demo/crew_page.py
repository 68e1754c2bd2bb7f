"""The crew's page beside the demo: its server as a process of its own, as in the vehicle."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

READY_WITHIN_S = 60.0
STOPS_WITHIN_S = 10.0


class CrewPage:
    """`mdt-panel` on loopback. Blocking calls.

    Args:
        config_file: the vehicle's, which says where the daemon's socket is.
        directory: for the token and the log.
    """

    def __init__(self, config_file: Path, directory: Path) -> None:
        self._config_file = config_file
        self._token_file = directory / "panel-token"
        self._log_file = directory / "panel.log"
        self._process: subprocess.Popen[str] | None = None
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
        checkout = str(Path(__file__).resolve().parents[2])
        path = os.environ.get("PYTHONPATH")
        environment = os.environ | {"PYTHONPATH": checkout if not path else f"{checkout}{os.pathsep}{path}"}
        command = [sys.executable, "-m", "agent.panel.command", "--config", str(self._config_file)]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        assert self._process.stdout is not None
        impatient = threading.Timer(READY_WITHIN_S, self._process.kill)
        impatient.start()
        try:
            line = self._process.stdout.readline()
        finally:
            impatient.cancel()
            impatient.join()
        if not line.startswith("The crew's page"):
            self.stop()
            said = self._log_file.read_text(encoding="utf-8", errors="replace")[-1000:]
            raise RuntimeError(f"the crew's page did not start: {said}")

    def stop(self) -> None:
        """End it. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
