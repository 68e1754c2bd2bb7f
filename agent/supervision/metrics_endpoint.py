"""The agent's figures in OpenMetrics form on the loopback interface, for a monitor on the same computer.

Nothing of it is loaded where no `[metrics]` is configured. Only loopback is listened at, one request a
connection is answered, and clients are bounded in number, time and bytes.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from agent.runtime.log import EventLog

log = EventLog("metrics")

HOST: Final = "127.0.0.1"
CLIENTS_AT_ONCE: Final = 4
WITHIN_S: Final = 5.0
REQUEST_BYTES: Final = 4096
RETRY_S: Final = 10.0
Status = Callable[[], Mapping[str, Any]]


class MetricsEndpoint:
    """Serves `GET /metrics`. Used from the event loop.

    Args:
        port: at loopback.
        status: what the daemon thinks of itself; what is not known in it makes no sample.
        reasons: every health reason there is, by token.
    """

    def __init__(self, port: int, status: Status, reasons: tuple[str, ...]) -> None:
        self._port = port
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(status, reasons))
        self._clients: set[asyncio.Task[None]] = set()

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop: listen until cancelled. A port that is taken is told, and tried again."""
        said = False
        while True:
            try:
                server = await asyncio.start_server(self._serve, HOST, self._port, limit=REQUEST_BYTES)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise
                if not said:
                    log.error("metrics_not_served", port=self._port, why=error.strerror)
                said = True
                await _patiently(RETRY_S, progress)
                continue
            try:
                while True:
                    await _patiently(RETRY_S, progress)
            finally:
                server.close()
                for client in self._clients:
                    client.cancel()
                await asyncio.gather(*self._clients, return_exceptions=True)
                await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) > CLIENTS_AT_ONCE:
                return
            async with asyncio.timeout(WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head.split(b"\r\n", 1)[0]))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that is silent, slow or talks nonsense is its own problem
        finally:
            self._clients.discard(task)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        if method != b"GET" or rest.partition(b" ")[0].partition(b"?")[0] != b"/metrics":
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        body: bytes = generate_latest(self._registry)  # type: ignore[no-untyped-call]  # half typed
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE_LATEST}\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"Connection: close\r\n\r\n" + body


class _Collector:
    """Makes the figures anew at each request."""

    def __init__(self, status: Status, reasons: tuple[str, ...]) -> None:
        self._status = status
        self._reasons = reasons

    def collect(self) -> Iterator[Metric]:
        """Every figure that is known now; what is unknown is left out, never 0."""
        status = self._status()
        yield InfoMetricFamily("mdt_agent", "The agent.", {"version": str(status["version"])})
        health = GaugeMetricFamily("mdt_health", "1 while the reason holds.", labels=["reason"])
        for reason in self._reasons:
            health.add_metric([reason], 1.0 if reason in status["health"] else 0.0)
        yield health
        link = status["link"]
        yield GaugeMetricFamily("mdt_connected", "1 while a broker has us.", float(link["connected"]))
        yield GaugeMetricFamily("mdt_connections", "Opened since the start.", float(link["connections"]))
        backlog = GaugeMetricFamily("mdt_backlog_records", "Records not delivered.", labels=["stream"])
        for stream, waiting in status["backlog"].items():
            backlog.add_metric([stream], float(waiting))
        yield backlog
        position = status.get("position")
        if position is not None and position.get("age_s") is not None:
            yield GaugeMetricFamily("mdt_position_age_seconds", "Age of the newest fix.", position["age_s"])
        units = GaugeMetricFamily("mdt_part_running", "1 while the part runs.", labels=["part"])
        for name, state in status["units"].items():
            units.add_metric([name], 1.0 if state == "running" else 0.0)
        yield units
        for name, value in status["computer"].items():
            if isinstance(value, bool | int | float):
                yield GaugeMetricFamily(f"mdt_computer_{name}", "As mdt status tells it.", float(value))
        commands = GaugeMetricFamily("mdt_commands", "Since the start.", labels=["command", "became"])
        for name, counts in status["commands"].items():
            for became, count in counts.items():
                commands.add_metric([name, became], float(count))
        yield commands


async def _patiently(seconds: float, progress: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (left := deadline - loop.time()) > 0:
        progress()
        await asyncio.sleep(min(5.0, left))
