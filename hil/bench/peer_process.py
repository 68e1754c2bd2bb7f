"""Peers run in processes and environments of their own: nothing of theirs gets into ours."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from hil.bench.setting import NotHereError
from hil.kernel.linux import rig_folder

SCRIPTS = Path(__file__).parent / "peers"
CHECKOUT = Path(__file__).resolve().parents[2]
PINNED = {"thingsboard-gateway": "3.8.5", "persist-queue": "1.1.0"}
"""Versions that the figures in docs/benchmarks.md are of. Never part of the project's own dependencies."""
INSTALL_WITHIN_S = 300
_LOG_TAIL = 600


def peer_python(package: str) -> str:
    """The interpreter of an environment that has `package`, installed now when it is not there.

    Raises NotHereError when it can not be had.
    """
    folder = rig_folder() / "peers" / f"{package}-{PINNED[package]}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        command = [
            str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            f"{package}=={PINNED[package]}",
        ]  # fmt: skip
        try:
            venv.create(folder, with_pip=True, clear=True)
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise NotHereError(f"{package} could not be installed: {error}") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise NotHereError(f"{package} could not be installed: {lines[-1] if lines else 'pip failed'}")
        ready.touch()
    return str(python)


class Contender:
    """A child process that does one piece of work a line of its standard input, and answers in JSON lines.

    It says {"ready": true} first. Used as a context; blocking calls.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, name: str) -> None:
        self._command = list(command)
        self._folder = folder
        self._name = name
        self._rest = b""
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with (self._folder / f"{self._name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env=child_environment(),
            )
        self._answer(within_s=120)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(self, *words: object, within_s: float = 180) -> dict[str, Any]:
        """Have it do something; returns its answer. Raises NotHereError when it does not answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise NotHereError(f"{self._name} ended: {self._log_tail()}") from error
        return self._answer(within_s)

    def _answer(self, within_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + within_s
        while b"\n" not in self._rest:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                raise NotHereError(f"{self._name} did not answer within {within_s:g} s")
            chunk = os.read(self._process.stdout.fileno(), 65_536)
            if not chunk:
                raise NotHereError(f"{self._name} ended: {self._log_tail()}")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _log_tail(self) -> str:
        log = self._folder / f"{self._name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:].strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def own_child(module: str, *words: object) -> list[str]:
    """The command of a child that runs a module of ours."""
    return [sys.executable, "-m", module, *map(str, words)]


def child_environment() -> dict[str, str]:
    """The caller's, with the checkout on Python's path, without what systemd would have put there."""
    there = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    path = os.environ.get("PYTHONPATH")
    return there | {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{path}" if path else str(CHECKOUT)}
