"""Answers a thingsboard-gateway's question for its limits, as its server would; it sends nothing before."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

REQUEST, RESPONSE = "v1/devices/me/rpc/request/", "v1/devices/me/rpc/response/"
LIMITS = {"rateLimits": {}, "gatewayRateLimits": {}, "maxPayloadSize": 65_536, "maxInflightMessages": 100}
"""An empty table of limits stands for none."""


def main() -> None:
    """Serve until standard input ends. The argument is the broker's port."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = _answer
    client.connect("127.0.0.1", int(sys.argv[1]))
    client.subscribe(REQUEST + "+", qos=1)
    client.loop_start()
    subscribed.wait()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.read()
    client.disconnect()
    client.loop_stop()


def _answer(client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
    client.publish(RESPONSE + message.topic.removeprefix(REQUEST), json.dumps(LIMITS), qos=1)


if __name__ == "__main__":
    main()
