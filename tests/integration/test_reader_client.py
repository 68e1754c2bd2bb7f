"""The client for consumers, against a real broker: twenty lines that miss nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.domain.record import Alert, Kind, Stream
from agent.domain.state import VehicleState
from agent.reader.client import Client
from agent.wire.body import pack_body
from agent.wire.codec import BatchHeader, encode_batch, encode_state
from agent.wire.reader_request import decode_receipt, decode_replay_request
from agent.wire.row import Row
from agent.wire.topics import Topics
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")

A7 = Topics("bems", "A7")
DEADLINE_S = 40.0


class Unit:
    """The other end: publishes what it is told to, and hears what the consumer says."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._changed = threading.Condition()
        self._paho = paho.Client(CallbackAPIVersion.VERSION2, "unit", protocol=MQTTProtocolVersion.MQTTv5)
        self._paho.on_message = self._on_message
        self._paho.connect("127.0.0.1", port)
        self._paho.subscribe([(A7.receipt, 1), (A7.command("replay"), 1)])
        self._paho.loop_start()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._paho.publish(topic, payload, qos=1, retain=retain).wait_for_publish(DEADLINE_S)

    def until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE_S)

    def close(self) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()
        self._paho.on_message = None

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.heard.append((message.topic, bytes(message.payload)))
            self._changed.notify_all()


def batch(*seqs: int, replay: bool = False) -> bytes:
    rows = [Row(seq, Kind.ALERT, 1, seq, None, 0, None, pack_body(Alert("code", "text"))) for seq in seqs]
    return encode_batch(BatchHeader("A7", Stream.EVENTS, 9, 1, replay=replay), rows).payload


def test_a_consumer_reads_asks_and_confirms(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, BrokerOptions()) as broker:
        unit = Unit(broker.port)
        state = VehicleState(1, None, (("Speed", 3),))
        unit.publish(A7.state("vehicle"), encode_state(state).payload, retain=True)
        got: list[int] = []
        try:
            with Client(f"mqtt://127.0.0.1:{broker.port}", want_history=True) as client:
                for arrival in client:
                    if arrival.state == state:
                        unit.publish(A7.journal(Stream.EVENTS), batch(1, 2, 4))
                    got += [record.seq for record in arrival.records]
                    client.confirm(arrival.topics)
                    if got == [1, 2, 4]:
                        answer = threading.Thread(target=send_again, args=(unit,))
                        answer.start()
                    if got == [1, 2, 4, 3]:
                        client.close()
                assert client.connected
            answer.join(DEADLINE_S)
            assert not answer.is_alive()
            unit.until(lambda: any(through(topic, payload) == 4 for topic, payload in unit.heard))
        finally:
            unit.close()


def send_again(unit: Unit) -> None:
    unit.until(lambda: any(topic == A7.command("replay") for topic, _ in unit.heard))
    asked = next(payload for topic, payload in unit.heard if topic == A7.command("replay"))
    request = decode_replay_request(asked)
    assert (request.first, request.last, request.journal) == (3, 3, 9)
    unit.publish(A7.journal(Stream.EVENTS), batch(3, replay=True))


def through(topic: str, payload: bytes) -> int:
    return decode_receipt(payload).through_seq if topic == A7.receipt else 0


def test_a_url_that_is_none_is_refused() -> None:
    for url in ("broker", "tcp://broker", "mqtt://"):
        with pytest.raises(ValueError, match="mqtt"):
            Client(url)


def test_a_broker_that_is_not_there_is_told_and_waited_for(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, BrokerOptions()) as broker:
        port = broker.port
    with Client(f"mqtt://127.0.0.1:{port}") as client:
        assert not client.connected
        client.close()
        assert list(client) == []
