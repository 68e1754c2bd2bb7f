"""A plain paho publisher, a record a message, QoS 1. Lines in: "send N SIZE"; JSON lines out."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

WINDOW = 100


def main() -> None:
    """Answer until standard input ends. The argument is the broker's port."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.max_inflight_messages_set(WINDOW)
    room = threading.Semaphore(WINDOW)
    client.on_publish = lambda *_: room.release()
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", int(sys.argv[1]))
    client.loop_start()
    connected.wait()
    _say({"ready": True})
    for line in sys.stdin:
        _, count, size = line.split()
        record = os.urandom(int(size))
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        for _ in range(int(count)):
            room.acquire()
            client.publish("ems/bench/plain", record, qos=1)
        for _ in range(WINDOW):
            room.acquire()
        _say({"wall_s": time.perf_counter() - begun_s, "cpu_s": time.process_time() - begun_cpu_s})
        for _ in range(WINDOW):
            room.release()
    client.disconnect()
    client.loop_stop()


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
