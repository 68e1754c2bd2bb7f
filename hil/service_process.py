"""A program of ours as a process of its own, which says by one line that it is ready."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

READY_WITHIN_S = 60.0
STOPS_WITHIN_S = 20.0
_CHECKOUT = Path(__file__).resolve().parent.parent


class ServiceProcess:
    """`python -m MODULE ARGUMENTS`, its standard error in a file. Blocking calls.

    Args:
        module: to run.
        log_file: what it says beside the first line; written on.
        ready: how its first line begins, once it can be used.
    """

    def __init__(self, module: str, log_file: Path, *, ready: str) -> None:
        self._module = module
        self._log_file = log_file
        self._ready = ready
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        """Process id between start and end."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, arguments: Sequence[str]) -> str:
        """`launch` and `wait_ready`. Raises RuntimeError with what it said when it ends instead."""
        self.launch(arguments)
        return self.wait_ready()

    def launch(self, arguments: Sequence[str]) -> None:
        """Start it."""
        path = os.environ.get("PYTHONPATH")
        path = str(_CHECKOUT) if not path else f"{_CHECKOUT}{os.pathsep}{path}"
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"PYTHONPATH": path},
            )

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> str:
        """Wait for its first line, and give the rest of it. Raises RuntimeError when it ends instead."""
        assert self._process is not None
        assert self._process.stdout is not None
        impatient = threading.Timer(within_s, self._process.kill)
        impatient.start()
        try:
            line = self._process.stdout.readline()
        finally:
            impatient.cancel()
            impatient.join()
        if not line.startswith(self._ready):
            self.end(kill=True)
            raise RuntimeError(f"{self._module} did not start: {self.log_tail()}")
        return line.removeprefix(self._ready).strip()

    def end(self, *, kill: bool = False) -> int | None:
        """Ask it to end, or kill it; its exit code. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill() if kill else process.terminate()
        try:
            code = process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        assert process.stdout is not None
        process.stdout.close()
        return code

    def log_tail(self, size: int = 3000) -> str:
        """The end of what it logged."""
        try:
            return self._log_file.read_text(encoding="utf-8", errors="replace")[-size:]
        except OSError:
            return "(no log)"
