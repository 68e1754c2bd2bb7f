"""Serves the interface beside the service in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.dispatch.settings import Listen

STOP_WITHIN_S = 3
REQUEST_WITHIN_S = 10.0
"""A request must have come by then; answers may take as long as they like."""


class _Connection(H11Protocol):
    """Tells the application the common name of a verified client certificate, and ends who says nothing.

    The number of connections is bounded: whoever holds them open without a request would keep all others out.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._impatient = self.loop.call_later(REQUEST_WITHIN_S, self._end_silence)
        certificate = transport.get_extra_info("peercert")
        if certificate:
            inner, name = self.app, common_name(certificate)

            async def app(scope: Any, receive: Any, send: Any) -> None:
                scope["client_common_name"] = name
                await inner(scope, receive, send)

            self.app = app

    def connection_lost(self, exc: Exception | None) -> None:
        """See the base class."""
        self._impatient.cancel()
        super().connection_lost(exc)

    def _end_silence(self) -> None:
        """Looked at now and then: a request whose head or body does not come to its end is none."""
        cycle = self.cycle
        if cycle is None or (cycle.more_body and not cycle.response_started):
            self.transport.close()
        else:
            self._impatient = self.loop.call_later(REQUEST_WITHIN_S, self._end_silence)


def common_name(certificate: dict[str, Any]) -> str:
    """The common name in a certificate as Python's ssl gives it."""
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's."""
        yield


class Serving:
    """Used as `async with`; listens when entered.

    Args:
        app: the application.
        listen: where.

    Attributes:
        url: the page's address, once entered.
    """

    def __init__(self, app: FastAPI, listen: Listen) -> None:
        self._app = app
        self._listen = listen
        self._task: asyncio.Task[None] | None = None
        self.url = ""

    async def __aenter__(self) -> Serving:
        listen = self._listen
        config = uvicorn.Config(
            self._app,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_WITHIN_S,
            h11_max_incomplete_event_size=32_768,
            limit_concurrency=500,
        )
        if listen.certificate_file is not None:
            config.ssl_certfile = str(listen.certificate_file)
            config.ssl_keyfile = str(listen.key_file)
            if listen.client_ca_file is not None:
                config.ssl_ca_certs = str(listen.client_ca_file)
                config.ssl_cert_reqs = ssl.CERT_OPTIONAL
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((listen.host, listen.port))
        except OSError:
            self._socket.close()
            raise
        scheme = "http" if listen.certificate_file is None else "https"
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        self.url = f"{scheme}://{host}:{self._socket.getsockname()[1]}"
        self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(
            self._server.serve(sockets=[self._socket]), name="dispatch-http"
        )
        while not self._server.started and not self._task.done():  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0.01)
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()
