"""The consumers of docs/first-consumer.md, run as they stand there, and the kit against the real service."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import Alert, Stream, token_of
from agent.domain.state import StatusState
from agent.wire.batch import BatchHeader
from agent.wire.body import pack_body
from agent.wire.codec import encode_batch, encode_state
from agent.wire.reader_request import decode_replay_request
from agent.wire.row import Row
from agent.wire.topics import Topics
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.dispatch_process import DispatchProcess

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(150),
]
CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "first-consumer.md").read_text(encoding="utf-8")
A1 = UnitVoice(Topics("boston-ems", "A1"))
WITHIN_S = 60.0
ENVIRONMENT = os.environ | {"PYTHONPATH": str(CHECKOUT)}


def code(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    woken = threading.Event()
    for _ in range(round(WITHIN_S / 0.05)):
        if condition():
            return
        woken.wait(0.05)
    raise AssertionError(f"not within {WITHIN_S} s: {what}")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        yield broker


def batch(*seqs: int, replay: bool = False) -> tuple[str, bytes]:
    """Alerts in the JSON form."""
    rows = [
        Row(seq, 3, 1, seq, 1_790_000_000_000, 3, 500, pack_body(Alert("code", f"number {seq}")))
        for seq in seqs
    ]
    header = BatchHeader("A1", Stream.EVENTS, 7, 1, replay=replay)
    return A1.topics.journal(Stream.EVENTS), encode_batch(header, rows, "json").payload


def run_consumer(broker: Mosquitto, command: list[str]) -> list[int]:
    """Start a consumer, say 1, 2, 2, 5, answer what it asks for, and give the numbers that it printed."""
    asked: list[tuple[int, int]] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, "unit")

    def on_message(_client: object, _data: object, message: paho.MQTTMessage) -> None:
        request = decode_replay_request(bytes(message.payload))
        asked.append((request.first, request.last))
        client.publish(*batch(*range(request.first, request.last + 1), replay=True), qos=1)

    client.on_message = on_message
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.subscribe(A1.topics.command("replay"), 1)
    consumer = subprocess.Popen(
        [*command, "127.0.0.1", str(broker.port)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    seqs: list[int] = []

    def read() -> None:
        assert consumer.stdout is not None
        seqs.extend(json.loads(line)["seq"] for line in consumer.stdout)

    reading = threading.Thread(target=read)
    reading.start()
    try:

        def first_heard() -> bool:
            client.publish(*batch(1), qos=1)
            return bool(seqs)

        wait_until(first_heard, "the consumer to listen")
        client.publish(*A1.link(1, online=True), qos=1)
        for one in (batch(2), batch(2), batch(5)):
            client.publish(*one, qos=1)
        wait_until(lambda: len(seqs) >= 5, "the hole to be filled")
    finally:
        consumer.terminate()
        consumer.wait(20)
        reading.join(20)
        assert consumer.stdout is not None
        consumer.stdout.close()
        client.disconnect()
        client.loop_stop()
    assert (3, 4) in asked
    return seqs


def test_the_consumer_in_python_has_everything_once(broker: Mosquitto, tmp_path: Path) -> None:
    program = tmp_path / "consumer.py"
    program.write_text(code("python"))
    assert len([line for line in code("python").splitlines() if line.strip()]) <= 25
    assert run_consumer(broker, [sys.executable, "-u", str(program)]) == [1, 2, 5, 3, 4]


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_consumer_in_javascript_has_everything_once(broker: Mosquitto, tmp_path: Path) -> None:
    program = tmp_path / "consumer.js"
    program.write_text(code("javascript"))
    assert run_consumer(broker, ["node", str(program)]) == [1, 2, 5, 3, 4]


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto-clients is not installed")
def test_every_recipe_hears_something(broker: Mosquitto) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, "unit")
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    status = encode_state(StatusState(1, None, "available", seq=1), "json").payload
    client.publish(A1.topics.state("status"), status, qos=1, retain=True)
    client.publish(*A1.location(1, 42.0, -71.0), qos=1, retain=True)
    client.publish(*A1.link(1, online=True), qos=1, retain=True)
    client.publish("units/v1/boston-ems/A1", "{}", qos=1, retain=True)
    recipes = re.findall(r"^(mosquitto_sub .*?)  +\S", PAGE, re.MULTILINE)
    assert len(recipes) == 5
    where = ["-h", "127.0.0.1", "-p", str(broker.port), "-C", "1", "-W", "30"]
    try:
        for recipe in recipes:
            with subprocess.Popen([*shlex.split(recipe), *where], stdout=subprocess.PIPE) as listening:
                while listening.poll() is None:
                    client.publish(*batch(1), qos=1)
                    threading.Event().wait(0.1)
                assert listening.stdout is not None
                printed = listening.stdout.read()
            assert listening.returncode == 0, recipe
            assert printed.strip(), recipe
    finally:
        client.disconnect()
        client.loop_stop()


def test_the_service_passes_the_kit(broker: Mosquitto, tmp_path: Path) -> None:
    url = f"mqtt://127.0.0.1:{broker.port}"
    have = tmp_path / "have.json"
    with DispatchProcess(tmp_path / "dispatch", url) as service:
        wait_until(lambda: service.ask("/api/v1/service")["well"], "the subscription")
        command = [
            sys.executable,
            "-m",
            "agent.dispatch.main",
            "kit",
            "unit",
            "--broker",
            url,
            "--agency",
            "kit",
        ]
        command += ["--unit", "K1", "--have", str(have), "--wait", "60"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=CHECKOUT
        ) as kit:
            while kit.poll() is None:
                units = {one["unit"]: one for one in service.ask("/api/v1/units")}
                fresh = tmp_path / "fresh.json"
                unit = units.get("K1", {})
                fresh.write_text(
                    json.dumps(
                        {
                            "records": stored(service.store),
                            "online": unit.get("online"),
                            "status": unit.get("status"),
                        }
                    )
                )
                fresh.replace(have)
                threading.Event().wait(0.3)
            assert kit.stdout is not None
            printed = kit.stdout.read()
    assert kit.returncode == 0, printed
    assert "FAIL" not in printed
    assert printed.count("pass  ") == 14


def stored(file: str) -> list[list[object]]:
    connection = sqlite3.connect(file)
    try:
        rows = connection.execute(
            "SELECT journal, stream, seq, kind FROM records JOIN streams USING (stream_id)"
        )
        return [[journal, stream, seq, token_of(kind)] for journal, stream, seq, kind in rows.fetchall()]
    finally:
        connection.close()
