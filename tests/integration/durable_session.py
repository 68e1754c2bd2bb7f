"""A session that a broker keeps for somebody who is away."""

from __future__ import annotations

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from hil.broker_process import Broker


def durable_session(broker: Broker) -> None:
    """Dispatch was here, subscribed, and is away; its session waits for it at the broker."""
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2,  # type: ignore[attr-defined]  # paho does not mark its re-exports
        client_id="dispatch-store",
        protocol=paho.MQTTv5,
    )
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho left it without types
    properties.SessionExpiryInterval = 3600
    subscribed: list[int] = []

    def on_connect(*_: object) -> None:
        client.subscribe("ems/v1/#", 1)

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: subscribed.append(1)
    client.connect(broker.host, broker.port, clean_start=True, properties=properties)
    while not subscribed:
        client.loop(0.1)
    client.disconnect()
    client.loop(0.1)
