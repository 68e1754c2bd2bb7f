"""The service as a process between a real broker and units: the lamp, the kill, the roles."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import Stream
from agent.hal.buttons import Lamp
from agent.wire.topics import Topics
from firmware_shims.system_clock import SystemClock
from hil.broker_process import BrokerOptions, EmbeddedBroker, Mosquitto, find_mosquitto
from hil.dispatch_process import DispatchProcess
from hil.process.process_rig import ProcessRig
from tests.integration.spoken_vehicle import A1, UTC_MS, WITHIN_S, Vehicle, wait_until

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(150),
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        yield broker


@pytest.fixture
def service(tmp_path: Path, broker: Mosquitto) -> Iterator[DispatchProcess]:
    process = DispatchProcess(tmp_path / "dispatch", f"mqtt://127.0.0.1:{broker.port}")
    with process:
        # What is sent before its session exists at the broker is nobody's; a real unit would be asked for it.
        wait_until(lambda: process.ask("/api/v1/service")["well"], "the subscription")
        yield process


@pytest.fixture
def vehicle(broker: Mosquitto) -> Iterator[Vehicle]:
    vehicle = Vehicle(broker.port)
    yield vehicle
    vehicle.close()


def rows_of(service: DispatchProcess) -> list[tuple[int, int]]:
    connection = sqlite3.connect(service.store)
    try:
        return connection.execute("SELECT stream_id, seq FROM records ORDER BY 1, 2").fetchall()
    finally:
        connection.close()


def test_the_lamp_of_a_real_vehicle_says_received_by_the_service_and_by_nothing_else(tmp_path: Path) -> None:
    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                await asyncio.sleep(0.02)

    async def work() -> None:
        overrides = {"uplink": {"confirm": "dispatch"}}
        async with ProcessRig(tmp_path, overrides=overrides, receipts=False) as rig:
            await rig.boot()
            rig.press("en_route")
            rig.release("en_route")
            changes = rig.box.firmware.changes
            await until(lambda: any(change.lamp is Lamp.STORED for change in changes))
            await until(lambda: len(rig.dispatch.arrivals) > 0)
            assert not any(change.lamp is Lamp.RECEIVED for change in changes)
            service = DispatchProcess(tmp_path / "dispatch", f"mqtt://127.0.0.1:{rig.broker.port}")
            await asyncio.to_thread(service.start)
            try:
                # The press was sent before the service existed; it is asked for by its number in the state.
                rig.press("on_scene")
                rig.release("on_scene")
                await until(lambda: any(c.key == "on_scene" and c.lamp is Lamp.RECEIVED for c in changes))
                assert await rig.wait_delivered(WITHIN_S)
                units = await asyncio.to_thread(service.ask, "/api/v1/units")
                events = await asyncio.to_thread(service.ask, f"/api/v1/events?since=0&until={1 << 50}")
            finally:
                await asyncio.to_thread(service.stop)
            assert [(one["unit"], one["status"], one["online"]) for one in units] == [
                ("A1", "on_scene", True)
            ]
            assert [one["data"]["status"] for one in events if one["kind"] == "status"] == [
                "en_route",
                "on_scene",
            ]

    asyncio.run(work())


def test_a_kill_at_any_moment_loses_nothing_and_doubles_nothing(
    service: DispatchProcess, vehicle: Vehicle
) -> None:
    batches, size = 300, 5
    said = threading.Event()

    def speak() -> None:
        vehicle.say(A1.link(3, online=True), retain=True)
        for number in range(batches):
            vehicle.say_positions(1 + number * size, size)
        said.set()

    speaking = threading.Thread(target=speak)
    speaking.start()
    chance = random.Random(11)
    kills = 0
    try:
        while kills < 6 and not (said.is_set() and kills >= 3):
            threading.Event().wait(chance.uniform(0.05, 0.6))
            service.kill()
            kills += 1
            confirmed = vehicle.receipts.get("trail", 0)
            stored = {seq for _, seq in rows_of(service)}
            assert stored.issuperset(range(1, confirmed + 1)), "a receipt went out before its commit"
            service.start()
    finally:
        speaking.join(WITHIN_S)
    wait_until(lambda: vehicle.receipts.get("trail") == batches * size, "the last receipt")
    assert [seq for _, seq in rows_of(service)] == list(range(1, batches * size + 1))


def test_a_broker_that_goes_and_comes_loses_nothing(
    broker: Mosquitto, service: DispatchProcess, vehicle: Vehicle
) -> None:
    vehicle.say_positions(1, 5)
    wait_until(lambda: vehicle.receipts.get("trail") == 5, "the first receipt")
    broker.kill()
    wait_until(lambda: service.ask("/api/v1/service")["broker"] != "", "the page to say so")
    broker.start()
    wait_until(lambda: service.ask("/api/v1/service")["well"], "the broker to be back")
    other = Vehicle(broker.port, UnitVoice(Topics("boston-ems", "A2")))
    other.say_positions(1, 7)
    wait_until(lambda: len(rows_of(service)) == 12, "the rows of both")
    other.close()


def test_a_hostile_unit_touches_nobody_else(service: DispatchProcess, vehicle: Vehicle) -> None:
    topic = A1.topics.journal(Stream.EVENTS)
    hostile = [b"", b"\x78\x9c" + b"\xff" * 50, b"{" + b'"a":[' * 5000, b"\x1f" * 2000, b"\x91" * 9000]
    vehicle.say(*[(topic, payload) for payload in hostile])
    vehicle.say(("ems/v1/boston-ems/A9/state/location", b"\xff" * 100))
    vehicle.say_positions(1, 3)
    wait_until(lambda: vehicle.receipts.get("trail") == 3, "the good records")
    counted = service.ask("/api/v1/service")["sizes"]["refused_by_unit"]
    assert {(one["unit"], one["refused"]) for one in counted} == {("A1", len(hostile)), ("A9", 1)}


def test_a_command_reaches_the_unit_also_when_the_broker_was_away(
    broker: Mosquitto, service: DispatchProcess, vehicle: Vehicle
) -> None:
    vehicle.say(A1.status(1, "available", UTC_MS))
    wait_until(lambda: "answer" in {name for name, _ in vehicle.commands}, "the answer to the status")
    path = "/api/v1/units/boston-ems/A1"
    call = {
        "incident": "26-0042",
        "priority": "1",
        "address": "1 City Hall Sq",
        "lat_deg": 42.36,
        "lon_deg": -71.058,
    }
    service.ask(f"{path}/assign", call)
    wait_until(lambda: "assign" in {name for name, _ in vehicle.commands}, "the call")
    payload = next(payload for name, payload in vehicle.commands if name == "assign")
    assert b'"incident":"26-0042"' in payload
    assert service.ask("/api/v1/units")[0]["call"]["incident"] == "26-0042"
    vehicle.close()
    broker.stop()
    service.ask(f"{path}/cancel", {"incident": "26-0042", "reason": "by caller"})
    broker.start()
    again = Vehicle(broker.port)
    try:
        wait_until(lambda: service.ask("/api/v1/service")["well"], "the broker to be back")
        wait_until(lambda: "cancel" in {name for name, _ in again.commands}, "the cancellation")
    finally:
        again.close()
    actions = service.ask("/api/v1/actions")
    assert [(one["action"], one["who"]) for one in actions] == [
        ("cancel", "this computer"),
        ("assign", "this computer"),
    ]


def test_an_acknowledged_emergency_is_told_to_the_crew(service: DispatchProcess, vehicle: Vehicle) -> None:
    vehicle.say(A1.emergency(1, UTC_MS))
    wait_until(lambda: len(service.ask("/api/v1/alarms")) == 1, "the alarm")
    (alarm,) = service.ask("/api/v1/alarms")
    assert service.status_of(f"/api/v1/alarms/{alarm['alarm_id']}", {"step": "shelve"}) == 409
    assert service.status_of(f"/api/v1/alarms/{alarm['alarm_id']}", {"step": "acknowledge"}) == 200
    wait_until(
        lambda: any(b'"acknowledged"' in payload for name, payload in vehicle.commands if name == "answer")
    )


def test_the_interface_describes_itself_as_openapi_3_1(service: DispatchProcess) -> None:
    document = service.ask("/api/openapi.json")
    assert document["openapi"].startswith("3.1")
    paths = document["paths"]
    assert {"/api/v1/units", "/api/v1/live", "/api/v1/units/{agency}/{unit}/assign"} <= paths.keys()
    assign = paths["/api/v1/units/{agency}/{unit}/assign"]["post"]["requestBody"]["content"][
        "application/json"
    ]
    assert assign["schema"]["$ref"].endswith("/Assign")


def test_a_broker_of_mqtt_3_1_1_is_spoken_to_in_its_own_words(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "broker", BrokerOptions()) as broker:
        service = DispatchProcess(tmp_path / "dispatch", f"mqtt://127.0.0.1:{broker.port}")
        with service:
            wait_until(lambda: service.ask("/api/v1/service")["well"], "the connection")
            vehicle = Vehicle(broker.port, protocol=MQTTProtocolVersion.MQTTv311)
            vehicle.say_positions(1, 4)
            wait_until(lambda: vehicle.receipts.get("trail") == 4, "the receipt")
            vehicle.close()
        assert len(rows_of(service)) == 4


class Cad:
    """A CAD's webhook: decides by the word of the status."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        cad = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                cad.asked.append(status)
                answer = {
                    "on_scene": {
                        "verdict": "refused",
                        "token": "no_incident",
                        "sentence": "You have no call.",
                    },
                    "available": {"verdict": "perhaps"},
                }.get(status["status"], {"verdict": "accepted"})
                payload = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> Cad:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_a_cad_decides_by_webhook_and_what_it_does_not_decide_gets_the_default(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with Cad() as cad:
        config = tmp_path / "dispatch.toml"
        config.write_text(
            f'[broker]\nhost = "127.0.0.1"\nport = {broker.port}\nallow_plaintext = true\n'
            f'[answers]\ndecide = "cad"\nwait_s = 2\nwebhook = "http://127.0.0.1:{cad.server.server_port}/statuses"\n'
        )
        url = f"mqtt://127.0.0.1:{broker.port}"
        with DispatchProcess(tmp_path / "d", url, options=["--config", str(config)]) as service:
            wait_until(lambda: service.ask("/api/v1/service")["well"], "the subscription")
            vehicle = Vehicle(broker.port)
            for seq, status in enumerate(("en_route", "on_scene", "available"), 1):
                now_ms = SystemClock().system_utc().unix_ms
                vehicle.say(A1.status(seq, status, now_ms))
            wait_until(
                lambda: len([1 for name, _ in vehicle.commands if name == "answer"]) == 3, "three answers"
            )
            vehicle.close()
            answers = {one["seq"]: one for one in (json.loads(payload) for _, payload in vehicle.commands)}
        assert answers[1]["verdict"] == "accepted"
        assert (answers[2]["verdict"], answers[2]["token"]) == ("refused", "no_incident")
        assert (answers[3]["verdict"], answers[3]["token"]) == ("accepted", "no_decision")
        assert {one["status"] for one in cad.asked} == {"en_route", "on_scene", "available"}


def test_a_full_disk_is_told_and_nothing_is_lost(service: DispatchProcess, vehicle: Vehicle) -> None:
    vehicle.say_positions(1, 5)
    wait_until(lambda: vehicle.receipts.get("trail") == 5, "the first receipt")
    service.limit_file_size(on=True)
    vehicle.say_positions(6, 5)
    wait_until(lambda: service.ask("/api/v1/service")["store"] != "", "the page to say so")
    assert vehicle.receipts["trail"] == 5
    service.limit_file_size(on=False)
    wait_until(lambda: vehicle.receipts.get("trail") == 10, "the rest, once there is room again")
    assert [seq for _, seq in rows_of(service)] == list(range(1, 11))
    wait_until(lambda: service.ask("/api/v1/service")["well"], "the service to be well")


def test_a_standby_takes_over_when_the_service_is_killed(tmp_path: Path, broker: Mosquitto) -> None:
    settings = tmp_path / "standby.toml"
    settings.write_text(
        f'standby = true\n[broker]\nhost = "127.0.0.1"\nport = {broker.port}\nallow_plaintext = true\n'
    )
    store = str(tmp_path / "shared.db")
    first = DispatchProcess(tmp_path / "one", "", store=store, settings=settings)
    heir = DispatchProcess(tmp_path / "two", "", store=store, settings=settings)
    unit = Vehicle(broker.port)
    try:
        first.start()
        wait_until(lambda: first.ask("/api/v1/service")["well"], "the subscription")
        heir.launch()
        wait_until(lambda: "standing_by" in heir.log_tail(), "the standby")
        unit.say(A1.status(1, "en_route", UTC_MS))
        wait_until(lambda: rows_of(first) == [(1, 1)], "the first press")
        first.kill()
        # The broker keeps it for the one that takes over.
        unit.say(A1.status(2, "on_scene", UTC_MS + 1))
        heir.wait_ready()
        wait_until(lambda: rows_of(heir) == [(1, 1), (1, 2)], "both presses")
    finally:
        unit.close()
        first.kill()
        heir.kill()


def test_the_next_broker_is_tried_when_one_is_gone(tmp_path: Path, broker: Mosquitto) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        settings = tmp_path / "two.toml"
        plain = "allow_plaintext = true\n"
        settings.write_text(
            f'[broker]\nhost = "127.0.0.1"\nport = {nobody.getsockname()[1]}\n{plain}'
            f'[[more_brokers]]\nhost = "127.0.0.1"\nport = {broker.port}\n{plain}'
        )
        with DispatchProcess(tmp_path / "dispatch", "", settings=settings) as service:
            wait_until(lambda: service.ask("/api/v1/service")["well"], "the second broker")
