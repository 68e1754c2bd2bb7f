"""A plain script beside the agent: lines of a button box in, a message each out. No disk, no lamps.

Arguments: the box's device, the broker's port. Says {"ready": true}, and ends with its standard input.
"""

from __future__ import annotations

import json
import sys
import threading

import paho.mqtt.client as paho
import serial
from paho.mqtt.enums import CallbackAPIVersion


def main() -> None:
    """Publish each press once, QoS 1."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", int(sys.argv[2]))
    client.loop_start()
    connected.wait()
    box = serial.Serial(sys.argv[1], 115_200, timeout=0.2)
    ended = threading.Event()

    def until_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=until_end, daemon=True).start()
    print(json.dumps({"ready": True}), flush=True)
    newest = 0
    while not ended.is_set():
        fields = box.readline().split(b"*")[0].split(b",")
        if fields[0] == b"E" and fields[6] == b"P" and int(fields[2]) > newest:
            newest = int(fields[2])
            press = {"key": fields[7].decode(), "seq": newest, "at_ms": int(fields[5])}
            client.publish("ems/bench/press", json.dumps(press), qos=1)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
