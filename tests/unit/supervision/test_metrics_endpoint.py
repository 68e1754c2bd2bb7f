"""The agent's figures for a monitor on the same computer."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agent.supervision.metrics_endpoint import CLIENTS_AT_ONCE, MetricsEndpoint

STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "health": {"gnss_lost": "it is gone"},
    "link": {"connected": True, "connections": 3},
    "backlog": {"events": 0, "trail": 17},
    "position": None,
    "units": {"uplink": "running", "device-gnss": "waiting: gone"},
    "computer": {"cpu_c": 51.5, "disk_worn_percent": None, "is_throttled": False},
    "commands": {"ping": {"taken": 2, "refused": 0, "dropped": 1}},
}


async def _asked(port: int, request: bytes) -> bytes:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
    return answer


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def _served(*requests: bytes) -> list[bytes]:
    async def work() -> list[bytes]:
        port = _free_port()
        endpoint = MetricsEndpoint(port, lambda: STATUS, ("gnss_lost", "can_lost"))
        running = asyncio.ensure_future(endpoint.run(lambda: None))
        try:
            async with asyncio.timeout(20):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except OSError:
                        await asyncio.sleep(0.01)
                    else:
                        writer.close()
                        break
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CLIENTS_AT_ONCE - 1)]
            answers = [await _asked(port, request) for request in requests]
            for _, one in idle:
                one.close()
            return answers
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    return asyncio.run(work())


def test_figures_are_told_and_what_is_not_known_is_left_out() -> None:
    (answer,) = _served(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"openmetrics" in head
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    assert samples["mdt_health", "gnss_lost"] == 1
    assert samples["mdt_health", "can_lost"] == 0
    assert samples["mdt_backlog_records", "trail"] == 17
    assert samples["mdt_part_running", "device-gnss"] == 0
    assert samples["mdt_computer_cpu_c",] == 51.5
    assert samples["mdt_commands", "dropped", "ping"] == 1
    assert not any("worn" in name[0] or "position" in name[0] for name in samples)


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n", b"\x00\xff\r\n\r\n"]
)
def test_nothing_else_is_served(request_: bytes) -> None:
    assert _served(request_)[0].startswith(b"HTTP/1.1 404")


def test_a_request_without_end_is_left() -> None:
    assert _served(b"GET /metrics " + b"x" * 20_000) == [b""]
