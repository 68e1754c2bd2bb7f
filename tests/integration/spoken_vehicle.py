"""A vehicle without an agent: an MQTT client that speaks as a unit, for tests of the service at dispatch."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.dispatch.unit_voice import UnitVoice
from agent.wire.reader_request import Reply, decode_receipt, decode_replay_request, encode_map
from agent.wire.topics import Topics

WITHIN_S = 60.0
A1 = UnitVoice(Topics("boston-ems", "A1"))
UTC_MS = 1_790_000_000_000


def wait_until(condition: Callable[[], bool], what: str = "") -> None:
    woken = threading.Event()
    for _ in range(round(WITHIN_S / 0.05)):
        if condition():
            return
        woken.wait(0.05)
    raise AssertionError(f"not within {WITHIN_S} s: {what}")


class Vehicle:
    """An MQTT client that speaks as a unit, keeps what it sent, and answers replay requests."""

    def __init__(
        self, port: int, voice: UnitVoice = A1, protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    ) -> None:
        self.receipts: dict[str, int] = {}
        self.commands: list[tuple[str, bytes]] = []
        self._sent: dict[int, tuple[str, bytes]] = {}
        self._voice = voice
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, f"unit-{voice.topics.unit}", protocol=protocol
        )
        ready = threading.Event()
        root = f"ems/v1/{voice.topics.agency}/{voice.topics.unit}"
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe([(f"{root}/command/+", 1), (f"{root}/receipt", 1)])
        assert ready.wait(WITHIN_S)

    def say(self, *spoken: tuple[str, bytes], retain: bool = False) -> None:
        for topic, payload in spoken:
            info = self._client.publish(topic, payload, qos=1, retain=retain)
            info.wait_for_publish(WITHIN_S)

    def say_positions(self, first: int, count: int) -> None:
        self._sent[first] = self._voice.positions(first, count, UTC_MS + 1000 * first)
        self.say(self._sent[first])

    def reply(self, name: str, outcome: str, **fields: object) -> None:
        """Answer a command, as the agent does."""
        topics = self._voice.topics
        self.say((topics.reply(name), encode_map(Reply(name, outcome, **fields)).payload))  # type: ignore[arg-type]

    def told(self, name: str) -> list[dict[str, Any]]:
        """What came of one command, as JSON, in order."""
        return [json.loads(payload) for one, payload in self.commands if one == name]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        if message.topic.endswith("/receipt"):
            receipt = decode_receipt(bytes(message.payload))
            self.receipts[receipt.stream.value] = receipt.through_seq
        elif message.topic.endswith("/replay"):
            request = decode_replay_request(bytes(message.payload))
            for first, (topic, payload) in list(self._sent.items()):
                if request.first <= first <= request.last:
                    self._client.publish(topic, payload, qos=1)
        else:
            self.commands.append((message.topic.rpartition("/")[2], bytes(message.payload)))
