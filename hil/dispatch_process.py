"""The service at dispatch as a process of its own, and its interface as a person's program would use it."""

from __future__ import annotations

import json
import resource
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hil.service_process import READY_WITHIN_S, ServiceProcess


class DispatchProcess:
    """`mdt-dispatch run` on loopback; the port stays the same over restarts. Blocking calls.

    Args:
        directory: for the store and the log.
        broker_url: where units are heard.
        store: file or URL; a file in `directory` when not given.
        options: further options of the command.
        settings: its configuration file, which names the broker when `broker_url` is empty.
    """

    def __init__(
        self,
        directory: Path,
        broker_url: str,
        *,
        store: str | None = None,
        options: Sequence[str] = (),
        settings: Path | None = None,
    ) -> None:
        self.store = store or str(directory / "dispatch.db")
        self.log_file = directory / "dispatch.log"
        self._directory = directory
        self._broker_url = broker_url
        self._options = list(options) if settings is None else ["--config", str(settings), *options]
        self._process = ServiceProcess("agent.dispatch.main", self.log_file, ready="page: ")
        self._listen = "127.0.0.1:0"
        self.page = ""

    @property
    def url(self) -> str:
        """The interface's address."""
        return self.page.partition("#")[0].rstrip("/")

    @property
    def token(self) -> str:
        """The token that was made for this computer."""
        return self.page.partition("#token=")[2]

    def start(self) -> None:
        """Start it and wait for the page's address. Raises RuntimeError when it ends instead."""
        self.launch()
        self.wait_ready()

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process.running

    def launch(self) -> None:
        """Start it; a standby may take its time until it serves."""
        self._directory.mkdir(parents=True, exist_ok=True)
        arguments = ["run", *(["--broker", self._broker_url] if self._broker_url else [])]
        arguments += ["--store", self.store, "--listen", self._listen, *self._options]
        self._process.launch(arguments)

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait for the page's address. Raises RuntimeError when it ends instead."""
        self.page = self._process.wait_ready(within_s)
        self._listen = self.url.partition("://")[2]

    def stop(self) -> int | None:
        """Ask it to end; its exit code. Idempotent."""
        return self._process.end()

    def kill(self) -> None:
        """End it at once. Idempotent."""
        self._process.end(kill=True)

    def limit_file_size(self, *, on: bool) -> None:
        """Let no file grow, as on a full disk, or let them grow again."""
        assert self._process.pid is not None
        limit = 1 if on else resource.RLIM_INFINITY
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def __enter__(self) -> DispatchProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log_tail(self, size: int = 3000) -> str:
        """The end of what it logged."""
        return self._process.log_tail(size)

    def ask(self, path: str, body: dict[str, Any] | None = None, *, token: str | None = None) -> Any:
        """The JSON answer of a GET, or of a POST when there is a body. Raises `HTTPError`."""
        with self.open(path, body, token=token) as answer:
            return json.loads(answer.read())

    @contextmanager
    def open(
        self, path: str, body: dict[str, Any] | None = None, *, token: str | None = None
    ) -> Iterator[Any]:
        """The open answer."""
        request = urllib.request.Request(  # noqa: S310  # our own address
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token if token is None else token}"}
            | ({} if body is None else {"Content-Type": "application/json"}),
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # our own address
            yield answer

    def status_of(self, path: str, body: dict[str, Any] | None = None, *, token: str | None = None) -> int:
        """The HTTP status of an answer."""
        try:
            with self.open(path, body, token=token) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
