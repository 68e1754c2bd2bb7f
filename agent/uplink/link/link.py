"""One connection to one broker, as the publisher sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agent.config import Broker


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish.

    Attributes:
        topic: full topic.
        payload: bytes as they go out.
        qos: 0 or 1.
        retain: keep as the topic's current value.
        content_type: MQTT 5 content type; left out on 3.1.1.
        expiry_s: MQTT 5 message expiry, None for none.
        user_properties: MQTT 5 user properties.
        urgent: overtakes messages that are not urgent and not yet written to the network. Among the urgent
            ones, and among the others, order is kept.
        response_topic: MQTT 5 response topic: where an answer is wanted.
        correlation: MQTT 5 correlation data: what an answer repeats, or is to repeat.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    content_type: str | None = None
    expiry_s: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    urgent: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None

    def packet_bytes(self) -> int:
        """Size of the whole MQTT 5 PUBLISH packet, which a broker's maximum packet size counts.

        MQTT 5.0, 3.3: topic with its length, packet identifier, properties with their length, payload, and
        the fixed header of at most 5 bytes. On 3.1.1 the packet is smaller, never larger.
        """
        properties = 0 if self.content_type is None else 3 + len(self.content_type.encode())
        properties += 0 if self.expiry_s is None else 5
        properties += 0 if self.response_topic is None else 3 + len(self.response_topic.encode())
        properties += 0 if self.correlation is None else 3 + len(self.correlation)
        properties += sum(
            5 + len(name.encode()) + len(value.encode()) for name, value in self.user_properties
        )
        rest = 2 + len(self.topic.encode()) + 2 + _length_bytes(properties) + properties + len(self.payload)
        return 1 + _length_bytes(rest) + rest


def _length_bytes(value: int) -> int:
    """Bytes that MQTT's variable-length integer takes for `value`."""
    return max(1, (value.bit_length() + 6) // 7)


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open a connection.

    Attributes:
        broker: where to, with TLS and credentials; secrets and certificates are read now, at each opening.
        client_id: MQTT client identifier.
        keepalive_s: the broker must hear from us, and we from it, within 1.5 of these.
        connect_timeout_s: bound for TCP, TLS, CONNACK and SUBACK each.
        will: published by the broker when we vanish.
        will_delay_s: MQTT 5 will delay.
        subscriptions: topics to subscribe to at QoS 1 before `Opened` is told.
        resume: join the session that the broker may still hold for the will delay (MQTT 5), so that it drops
            the will of the connection that broke, and sends again what was not acknowledged.
        acknowledge_when_done: what is received is acknowledged to the broker when `Received.acknowledge` is
            called, and not before it is told: what was not done is then sent again to who resumes.
        inbound_packet_bytes: largest packet taken; told to the broker, and one that sends more is left.
        inbound_per_s: messages that are taken in the long run, ten times as many at once; what comes faster
            is dropped unread, and told by `Flooded`. None for a reader, which wants them all.
        least_packet_bytes: a broker that says it takes no packets of this size is not used.
        certificates_at_unix_s: the true time, by which the dates of the broker's certificates are judged;
            None leaves them to the system clock.
    """

    broker: Broker
    client_id: str
    keepalive_s: float
    connect_timeout_s: float
    will: Message | None = None
    will_delay_s: int = 0
    subscriptions: tuple[str, ...] = ()
    resume: bool = False
    inbound_packet_bytes: int = 1 << 20
    inbound_per_s: float | None = None
    acknowledge_when_done: bool = False
    least_packet_bytes: int = 0
    certificates_at_unix_s: float | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """CONNACK said yes and the subscriptions are answered.

    Attributes:
        mqtt_version: 5, or 4 for MQTT 3.1.1.
        receive_maximum: QoS 1 messages the broker takes in flight.
        maximum_packet_bytes: largest packet the broker takes, None for no limit.
        topic_alias_maximum: aliases the broker takes; 0 for none.
        refused_subscriptions: those the broker did not grant.
        server_certificate_expires_unix_s: end of the broker's certificate; None without TLS.
        retain_available: whether the broker keeps retained messages; without, they are sent as passing ones.
    """

    mqtt_version: int
    receive_maximum: int = 65_535
    maximum_packet_bytes: int | None = None
    topic_alias_maximum: int = 0
    refused_subscriptions: tuple[str, ...] = ()
    server_certificate_expires_unix_s: int | None = None
    retain_available: bool = True


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection ended or never came to be.

    Attributes:
        reason: health reason token: "broker_unreachable", "broker_refused", "packet_too_large" or
            "tls_failed"; empty when `close` ended it.
        detail: one plain sentence with the endpoint.
        server_moved_to: "host:port" when the broker sent us elsewhere.
        hung_up: the broker ended a connection that stood, and what we sent may be why. The network did not.
        taken_over: another client connected with our client identifier.
        said_no: the broker is there, and its answer ended the connection or kept it from coming to be.
    """

    reason: str
    detail: str
    server_moved_to: str | None = None
    hung_up: bool = False
    taken_over: bool = False
    said_no: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A PUBACK.

    Attributes:
        token: as `Link.publish` returned it.
        reason_code: MQTT 5 reason code; below 0x80 is success.
    """

    token: int
    reason_code: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """A message arrived on a subscription.

    Attributes:
        topic: full topic.
        payload: bytes as they came.
        retain: it was kept by the broker, and may be old.
        content_type: MQTT 5 content type.
        user_properties: MQTT 5 user properties.
        response_topic: MQTT 5 response topic: where the sender wants the answer; it may be any.
        correlation: MQTT 5 correlation data, which the answer repeats.
        acknowledge: to be called once what the message says is done, from the loop; None where nobody waits
            for that. After the end of its connection it does nothing.
    """

    topic: str
    payload: bytes
    retain: bool = False
    content_type: str | None = None
    user_properties: tuple[tuple[str, str], ...] = field(default=())
    response_topic: str | None = None
    correlation: bytes | None = None
    acknowledge: Callable[[], None] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Flooded:
    """Messages came faster than `Opening.inbound_per_s`; told once a second while that goes on.

    Attributes:
        dropped: how many were dropped since this was last told.
    """

    dropped: int


LinkEvent = Opened | Closed | Acknowledged | Received | Flooded


class Link(Protocol):
    """A connection to a broker. All calls are made on the event loop, and `on_event` is called on it.

    After `open`, exactly one `Closed` follows sooner or later; nothing is delivered after it. A link is then
    opened again, with the same or another broker. No message survives a `Closed`: what was not acknowledged
    is to be published again.
    """

    def open(self, opening: Opening, on_event: Callable[[LinkEvent], None]) -> None:
        """Start connecting; the outcome comes as an event.

        Raises:
            OSError: this computer has no descriptor or thread left for it. No event follows.
        """
        ...

    def publish(self, message: Message) -> int:
        """Hand over a message after `Opened`; returns the token that `Acknowledged` will carry (QoS 1).

        A message larger than the broker's maximum packet size is not sent; it is acknowledged with reason
        code 0x95, as a broker would.
        """
        ...

    def network_changed(self) -> None:
        """An interface, address or route of this computer changed: look at once whether the connection still
        stands. One that is only being made is given up. Without a connection this does nothing.
        """
        ...

    async def close(self) -> None:
        """Send what was handed over, disconnect in an orderly way (the broker drops the will) and wait until
        it is done. `Closed` is told before this returns. Idempotent.
        """
        ...
