"""The real daemon as a child process, kept running the way systemd keeps it in the vehicle."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.supervision.daemon_answer import DaemonAwayError, ask

RESTART_AFTER_S = 0.5
"""systemd's RestartSec for the shipped unit is of this order."""
STOPS_WITHIN_S = 15.0


class AgentDiedError(Exception):
    """The daemon ended although it was expected to run; the text ends with its log."""


class AgentProcess:
    """`mdt run --config FILE`. Used from one event loop.

    Attributes:
        starts: how often the daemon was started.
        deaths: exit codes of daemons that ended by themselves or were killed.
        ends_s: loop times at which a daemon ended, however it came.
    """

    def __init__(self, config_file: Path, log_file: Path, socket: Path) -> None:
        self._config_file = config_file
        self.log_file = log_file
        self._socket = socket
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wanted = False
        self.starts = 0
        self.deaths: list[int] = []
        self.ends_s: list[float] = []

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def command(self) -> Sequence[str]:
        """What is run: the installed command of this environment."""
        return (str(Path(sys.executable).parent / "mdt"), "run", "--config", str(self._config_file))

    async def start(self) -> None:
        """Start it, and again whenever it ends by itself, until `stop`."""
        self._wanted = True
        await self._spawn()
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="agent-keeper")

    async def stop(self) -> int:
        """Ask it to stop in order, and wait; returns its exit code. Idempotent."""
        self._wanted = False
        process = self._process
        if process is None:
            return 0
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(STOPS_WITHIN_S):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        self._process = None
        return code

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._send(signal.SIGKILL)

    def limit_file_size(self, *, on: bool) -> None:
        """Whether the operating system refuses every write of the daemon to a file, as a full disk does."""
        if self.pid is not None:
            _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (0 if on else hard, hard))

    @property
    def memory_kib(self) -> int | None:
        """Resident memory, None while it does not run."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        found = next((line for line in status.splitlines() if line.startswith("VmRSS:")), None)
        return None if found is None else int(found.split()[1])

    def freeze(self) -> None:
        """Stop it from running, as a hang would."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run again."""
        self._send(signal.SIGCONT)

    async def status(self) -> dict[str, Any] | None:
        """What the daemon says of itself; None while it does not answer."""
        return await self._ask("status")

    async def outbox(self) -> dict[str, Any] | None:
        """What the daemon says of its outbox; None while it does not answer."""
        return await self._ask("outbox")

    async def times(self) -> dict[str, Any] | None:
        """What the daemon says of its runs; None while it does not answer."""
        return await self._ask("times")

    async def wait_ready(self, within_s: float = 20.0) -> None:
        """Wait until it answers. Raises AgentDiedError."""
        try:
            async with asyncio.timeout(within_s):
                while await self.status() is None:
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise AgentDiedError(f"no answer within {within_s} s; {self.log_tail()}") from error

    def log_tail(self, characters: int = 2000) -> str:
        """The end of its log."""
        try:
            return self.log_file.read_text(encoding="utf-8", errors="replace")[-characters:]
        except OSError:
            return "(no log)"

    async def _ask(self, name: str) -> dict[str, Any] | None:
        def ask_it() -> dict[str, Any] | None:
            try:
                answer: dict[str, Any] = ask(self._socket, name)
            except DaemonAwayError:
                return None
            return answer

        return await asyncio.to_thread(ask_it)

    async def _spawn(self) -> None:
        self.starts += 1
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
            )

    async def _keep(self) -> None:
        while self._process is not None:
            code = await self._process.wait()
            self.ends_s.append(asyncio.get_running_loop().time())
            if not self._wanted:
                return
            self.deaths.append(code)
            await asyncio.sleep(RESTART_AFTER_S)
            await self._spawn()

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


def _environment() -> dict[str, str]:
    """The daemon's environment: ours, without what would make it believe that systemd started it."""
    return {
        k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM")
    }
