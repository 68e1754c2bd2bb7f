"""Whoever talks to the interface or the broker in bad faith: answered, counted, bounded, never a fault."""

from __future__ import annotations

import json
import random
import socket
import string
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import Alert, Stream
from agent.wire.topics import Topics
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.dispatch_process import DispatchProcess
from tests.integration.spoken_vehicle import A1, UTC_MS, Vehicle, wait_until

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(180),
]
REQUESTS = 400
SEED = 11
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1 << 70,
    1.5,
    1e308,
    "",
    "x" * 5000,
    "\0",
    "\ud800",
    "'; DROP TABLE records; --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    [],
    {},
    [[[[[[]]]]]],
    {"a": {"b": {}}},
]
"""What no field expects."""
ODD_TEXTS = [
    "..",
    ".",
    "%00",
    "%2e%2e%2f",
    "A1%0d%0aX: y",
    "a" * 300,
    "+",
    "#",
    "A1/../..",
    "\u202e",
    "1e9",
    "NaN",
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        yield broker


@pytest.fixture
def service(tmp_path: Path, broker: Mosquitto) -> Iterator[DispatchProcess]:
    with DispatchProcess(tmp_path / "dispatch", f"mqtt://127.0.0.1:{broker.port}") as process:
        wait_until(lambda: process.ask("/api/v1/service")["well"], "the subscription")
        yield process


def odd_body(chance: random.Random, schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """A body that is nearly right: fields of the schema with values that are not."""
    reference = schema.get("$ref", "").rpartition("/")[2]
    fields = list(schemas.get(reference, {}).get("properties", {})) or ["x"]
    if chance.random() < 0.15:
        return chance.choice(ODD)
    return {name: chance.choice(ODD) for name in fields if chance.random() < 0.7} | (
        {chance.choice(string.ascii_letters): chance.choice(ODD)} if chance.random() < 0.3 else {}
    )


def odd_path(chance: random.Random, path: str) -> str:
    for name in ("agency", "unit", "day", "alarm_id", "command_id", "name"):
        good = {"agency": "boston-ems", "unit": "A1", "day": "2026-09-21", "alarm_id": "1"}.get(name, "x")
        value = good if chance.random() < 0.6 else chance.choice(ODD_TEXTS)
        path = path.replace(f"{{{name}}}", urllib.parse.quote(value, safe="%"))
    query = {
        name: chance.choice([*ODD_TEXTS, "0", "1790000000000", str(1 << 80), "-5"])
        for name in ("since", "until", "limit", "wait_s", "valid_s", "open_only", "agency")
        if chance.random() < 0.4 and not (name == "wait_s" and "wait" in path)
    }
    query.pop("wait_s", None) if chance.random() < 0.9 else None
    return f"{path}?{urllib.parse.urlencode(query, errors='replace')}"


def test_no_request_is_a_fault_of_the_service(service: DispatchProcess, broker: Mosquitto) -> None:
    vehicle = Vehicle(broker.port)
    vehicle.say(A1.link(1, online=True), A1.status(1, "available", UTC_MS))
    wait_until(lambda: bool(service.ask("/api/v1/units")), "the unit")
    document = service.ask("/api/openapi.json")
    schemas = document["components"]["schemas"]
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path != "/api/v1/live"
    ]
    chance = random.Random(SEED)
    seen: dict[int, int] = {}
    for _ in range(REQUESTS):
        method, path, operation = chance.choice(operations)
        body = None
        if method == "post":
            content = operation["requestBody"]["content"]["application/json"]["schema"]
            body = odd_body(chance, content, schemas)
        if method == "delete":
            continue
        where = odd_path(chance, path)
        code = service.status_of(where, body if method == "get" or isinstance(body, dict) else {"x": body})
        assert code < 500 or code == 503, (
            f"{method} {where} {json.dumps(body)[:300]}: {code}\n{service.log_tail()}"
        )
        seen[code] = seen.get(code, 0) + 1
    assert len(seen) >= 3, seen
    vehicle.say_positions(1, 3)
    wait_until(lambda: vehicle.receipts.get("trail") == 3, "the good records, after all that")
    assert service.ask("/api/v1/service")["well"]
    vehicle.close()


RAW = [
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n"
    + b"[" * 9000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    b"\x00" * 5000,
    b"GET /page/..%2f..%2faccess.py HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /leaflet/images/..%2f..%2f..%2fsettings.py HTTP/1.1\r\nHost: x\r\n\r\n",
]


def test_bytes_that_are_no_request_end_their_own_connection_only(service: DispatchProcess) -> None:
    host, _, port = service.url.rpartition("//")[2].partition(":")
    for raw in RAW:
        with socket.create_connection((host, int(port)), timeout=30) as talk:
            try:
                talk.sendall(raw)
                talk.shutdown(socket.SHUT_WR)
                answer = talk.recv(65_536)
            except OSError:
                answer = b""
        assert not answer.startswith(b"HTTP/1.1 2"), answer[:200]
        assert b"HTTP/1.1 500" not in answer, (raw[:80], answer[:300], service.log_tail())
    half_open = [socket.create_connection((host, int(port)), timeout=30) for _ in range(60)]
    try:
        assert service.ask("/api/v1/service")["well"]
    finally:
        for one in half_open:
            one.close()


def test_who_holds_connections_open_without_a_request_is_sent_away(service: DispatchProcess) -> None:
    host, _, port = service.url.rpartition("//")[2].partition(":")
    half = b"POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
    with (
        socket.create_connection((host, int(port)), timeout=60) as silent,
        socket.create_connection((host, int(port)), timeout=60) as slow,
        service.open("/api/v1/live") as stream,
    ):
        slow.sendall(half)
        assert silent.recv(100) == b""
        assert slow.recv(100) == b""
        while b"event: heartbeat" not in (line := stream.readline()) and b"event: service" not in line:
            pass  # who follows the live stream stays


def test_a_unit_that_floods_is_bounded_and_others_are_heard(
    service: DispatchProcess, broker: Mosquitto
) -> None:
    """What a hostile unit can cost: its own rows, some refused payloads, one alarm; never another's."""
    flood = Vehicle(broker.port, UnitVoice(Topics("boston-ems", "A66"), 66))
    chance = random.Random(SEED)
    voice = UnitVoice(Topics("boston-ems", "A66"), 66)
    for number in range(150):
        flood.say((voice.topics.journal(Stream.TRAIL), chance.randbytes(chance.randrange(1, 3000))))
        seq = chance.randrange(1, 1 << 40)
        flood.say(voice.batch(Stream.EVENTS, seq, [(UTC_MS, Alert("x", "y" * 400))]))
        flood.say(UnitVoice(voice.topics, number).status(1, "on_scene", UTC_MS))
        flood.say(
            (
                voice.topics.reply("ping"),
                json.dumps({"command": "ping", "outcome": "done", "id": "z"}).encode(),
            )
        )
        flood.say((f"ems/v1/boston-ems/B{number}/state/location", b"\xff" * 50))
    vehicle = Vehicle(broker.port)
    vehicle.say_positions(1, 5)
    wait_until(lambda: vehicle.receipts.get("trail") == 5, "the good unit's receipt")
    sizes = service.ask("/api/v1/service")["sizes"]
    counted = {one["unit"]: one["refused"] for one in sizes["refused_by_unit"]}
    assert counted["A66"] >= 140
    assert sizes["refused"] <= 20 * (sizes["units"] + 160)
    assert service.ask("/api/v1/service")["well"]
    vehicle.close()
    flood.close()


def test_half_a_character_breaks_nobodys_picture(service: DispatchProcess, broker: Mosquitto) -> None:
    """Half of a surrogate pair can be written in JSON, and in nothing that comes after it."""
    vehicle = Vehicle(broker.port)
    state = {"version": 1, "boottime_ms": 5, "utc": None}
    half = "\ud800bad"
    vehicle.say(A1.link(1, online=True), A1.location(UTC_MS, 42.0, -71.0))
    for name, fields in (
        ("health", {"reasons": [half], "details": {half: half}}),
        ("status", {"status": half, "since": None, "seq": 1, "emergency": False}),
    ):
        payload = json.dumps(state | fields).encode()
        vehicle.say(
            (A1.topics.state(name), payload),
            (A1.topics.state(name), payload.replace(b"\\ud800", b"\xed\xa0\x80")),
        )

    def refused() -> int:
        return sum(one["refused"] for one in service.ask("/api/v1/service")["sizes"]["refused_by_unit"])

    wait_until(lambda: refused() == 4, "the refusals")
    for path in ("units", "units/boston-ems/A1", "units.geojson", "service"):
        assert service.status_of(f"/api/v1/{path}") == 200
    vehicle.close()
