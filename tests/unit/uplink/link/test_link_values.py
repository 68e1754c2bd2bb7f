"""Sizes, refusals and redirects: the link's values without a network."""

from __future__ import annotations

import socket
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.config import Broker, Tls
from agent.uplink.broker.redirect import redirected
from agent.uplink.link.link import Message
from agent.uplink.link.refusal import closed_by_reason

MESSAGES = [
    Message("t", b""),
    Message("ems/v1/bems/A1/journal/trail", b"x" * 100, content_type="application/vnd.ems-journal"),
    Message("ems/v1/bems/A1/state/location", b"x" * 45, content_type="a/b", expiry_s=3600),
    Message("ü/ß", b"x" * 127, user_properties=(("clé", "värde"), ("a", ""))),
    Message("t", b"x" * 16_384, content_type="c" * 200),
    Message("t", b"x" * 2_100_000),
]


def written_by_paho(message: Message) -> int:
    """Bytes of the packet as paho writes it to a socket."""
    ours, theirs = socket.socketpair()
    total = 0

    def read_all() -> None:
        nonlocal total
        while data := theirs.recv(65_536):
            total += len(data)

    reader = threading.Thread(target=read_all)
    reader.start()
    try:
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,  # type: ignore[attr-defined]  # paho does not mark its re-exports
            protocol=paho.MQTTv5,
        )
        client._sock = ours
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho left it without types
        if message.content_type is not None:
            properties.ContentType = message.content_type
        if message.expiry_s is not None:
            properties.MessageExpiryInterval = message.expiry_s
        if message.user_properties:
            properties.UserProperty = list(message.user_properties)
        client.publish(message.topic, message.payload, 1, False, properties)
        client._sock = None
    finally:
        ours.close()
        reader.join()
        theirs.close()
    return total


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: f"{len(message.payload)}B")
def test_packet_size_is_what_is_written(message: Message) -> None:
    assert message.packet_bytes() == written_by_paho(message)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0x86, "broker_refused"),
        (0x87, "broker_refused"),
        (0x8A, "broker_refused"),
        (0x8E, "broker_refused"),
        (0x88, "broker_unreachable"),
        (0x89, "broker_unreachable"),
        (0x8B, "broker_unreachable"),
        (0x97, "broker_unreachable"),
        (0x9F, "broker_unreachable"),
    ],
)
def test_refusals_are_told_from_passing_trouble(code: int, reason: str) -> None:
    closed = closed_by_reason("h:1", code, "Words", None)
    assert closed.reason == reason
    assert closed.detail.startswith("h:1: words")


def test_first_of_several_references_is_followed() -> None:
    assert closed_by_reason("h:1", 0x9D, "", "a:1 b:2").server_moved_to == "a:1"
    assert closed_by_reason("h:1", 0x9C, "", None).server_moved_to is None
    assert closed_by_reason("h:1", 0x87, "", "a:1").server_moved_to is None


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("other.example", ("other.example", 8883)),
        ("Other.Example:1", ("Other.Example", 1)),
        ("192.0.2.7:8884", ("192.0.2.7", 8884)),
        ("[2001:db8::1]:8884", ("2001:db8::1", 8884)),
        ("[2001:db8::1]", ("2001:db8::1", 8883)),
    ],
)
def test_redirect_to_a_listed_host_keeps_everything_but_the_address(
    reference: str, expected: tuple[str, int]
) -> None:
    listed = ("other.example", "192.0.2.7", "2001:db8::1")
    broker = Broker(host="h", tls=Tls(), username="u", redirect_hosts=listed)
    moved = redirected(broker, reference, (broker,))
    assert moved is not None
    assert (moved.host, moved.port) == expected
    assert moved.tls == broker.tls
    assert moved.username == "u"


def test_redirect_to_another_configured_broker_uses_its_own_settings() -> None:
    first, second = Broker(host="h", tls=Tls(), username="u"), Broker(host="h2", tls=Tls(), username="v")
    assert redirected(first, "h2:8883", (first, second)) is second
    assert redirected(first, "h2:1883", (first, second)) is None


@pytest.mark.parametrize(
    "reference",
    ["evil.example", "evil.example:8883", "h.evil.example", "other.example.evil", "192.0.2.8", "h"],
)
def test_redirect_to_a_host_that_is_not_listed_is_refused(reference: str) -> None:
    broker = Broker(host="h", port=8884, tls=Tls(), username="u", redirect_hosts=("other.example",))
    listed = redirected(broker, reference, (broker,))
    assert listed is None or listed is broker


@pytest.mark.parametrize(
    "reference", ["", "a:0", "a:65536", "a:b", "a b", "http://a", "2001:db8::1", "a" * 300]
)
def test_nonsense_is_not_followed(reference: str) -> None:
    broker = Broker(host="h", tls=Tls()).model_copy(update={"redirect_hosts": ("a", "http", reference)})
    assert redirected(broker, reference, (broker,)) is None
