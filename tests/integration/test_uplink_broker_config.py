"""The broker configuration that is shipped: mosquitto takes it, and it does what its comments say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.config import Broker, Tls
from agent.uplink.link.link import Acknowledged, Closed, LinkEvent, Message, Opened, Opening, Received
from agent.uplink.link.paho_link import PahoLink
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.private_ca import Certificate, OpensslUnavailableError, PrivateCa

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
SHIPPED = Path(__file__).resolve().parents[2] / "config" / "broker"


DEBIAN = """\
pid_file /run/mosquitto/mosquitto.pid

persistence true
persistence_location /var/lib/mosquitto/

log_dest file /var/log/mosquitto/mosquitto.log

include_dir /etc/mosquitto/conf.d
"""
"""What Debian's package of mosquitto installs as /etc/mosquitto/mosquitto.conf, without its comments."""


class ShippedBroker(Mosquitto):
    """mosquitto as Debian starts it, with the shipped files; only paths and port are changed."""

    def __init__(self, directory: Path, server: Certificate, ca_file: Path) -> None:
        super().__init__(directory, BrokerOptions())
        self._paths = {
            "/etc/mosquitto/certs/broker.crt": server.certificate_file,
            "/etc/mosquitto/certs/broker.key": server.key_file,
            "/etc/mosquitto/certs/vehicles-ca.crt": ca_file,
            "/etc/mosquitto/certs/revoked.crl": ca_file.with_name("revoked.crl"),
            "/etc/mosquitto/mdt.acl": SHIPPED / "mdt.acl",
        }

    def has_saved(self, payload: bytes) -> bool:
        saved = self._directory / "mosquitto.db"
        return saved.exists() and payload in saved.read_bytes()

    def _lines(self) -> list[str]:
        """Debian's own mosquitto.conf in this folder, which reads the shipped file from its conf.d."""
        self.shipped_file.parent.mkdir(exist_ok=True)
        self.shipped_file.write_text("\n".join(self._shipped_lines()), encoding="utf-8")
        text = DEBIAN.replace("/etc/mosquitto/conf.d", str(self.shipped_file.parent))
        for place in ("/run/mosquitto/", "/var/lib/mosquitto/", "/var/log/mosquitto/"):
            assert place in text
            text = text.replace(place, f"{self._directory}/")
        return [*text.split("\n"), "user root"]

    @property
    def shipped_file(self) -> Path:
        """Where the shipped file is put."""
        return self._directory / "conf.d" / "mdt.conf"

    def _shipped_lines(self) -> list[str]:
        text = (SHIPPED / "mosquitto.conf").read_text(encoding="utf-8")
        for shipped, here in self._paths.items():
            assert shipped in text
            text = text.replace(shipped, str(here))
        assert "listener 8883\n" in text
        return text.replace("listener 8883\n", f"listener {self.port} {self.host}\n").split("\n")


@pytest.fixture
def ca(tmp_path: Path) -> PrivateCa:
    try:
        return PrivateCa(tmp_path / "ca")
    except OpensslUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def broker(tmp_path: Path, ca: PrivateCa) -> Iterator[ShippedBroker]:
    server = ca.issue("broker", alternative_names="IP:127.0.0.1")
    assert ca.crl_file.exists()
    with ShippedBroker(tmp_path / "broker", server, ca.ca_file) as broker:
        yield broker


class Client:
    """A link as a named client."""

    def __init__(
        self, broker: ShippedBroker, ca: PrivateCa, name: str, *topics: str, stranger: bool = False
    ) -> None:
        issued = ca.issue(name)
        tls = Tls(ca_file=ca.ca_file, certificate_file=issued.certificate_file, key_file=issued.key_file)
        tls = Tls(ca_file=ca.ca_file) if stranger else tls
        way = Broker(host=broker.host, port=broker.port, tls=tls)
        self._opening = Opening(way, name, keepalive_s=10, connect_timeout_s=5, subscriptions=topics)
        self._link = PahoLink()
        self.events: asyncio.Queue[LinkEvent] = asyncio.Queue()
        self.first: LinkEvent

    async def __aenter__(self) -> Client:
        self._link.open(self._opening, self.events.put_nowait)
        self.first = await self.events.get()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.close()

    async def publish(self, topic: str) -> int:
        token = self._link.publish(Message(topic, b"x"))
        event = await self.events.get()
        assert isinstance(event, Acknowledged)
        assert event.token == token
        return event.reason_code


def test_vehicles_write_their_own_topics_only_and_dispatch_hears_all(
    broker: ShippedBroker, ca: PrivateCa
) -> None:
    async def work() -> None:
        async with (
            Client(broker, ca, "dispatch", "ems/v1/boston-ems/+/journal/+") as dispatch,
            Client(broker, ca, "A1", "ems/v1/boston-ems/A1/command/replay") as vehicle,
        ):
            assert isinstance(vehicle.first, Opened)
            assert vehicle.first.receive_maximum == 100
            assert vehicle.first.maximum_packet_bytes == 262_144
            assert vehicle.first.refused_subscriptions == ()
            assert await vehicle.publish("ems/v1/boston-ems/A1/journal/events") == 0
            heard = await dispatch.events.get()
            assert heard == Received("ems/v1/boston-ems/A1/journal/events", b"x")
            assert await dispatch.publish("ems/v1/boston-ems/A1/command/replay") == 0
            assert await vehicle.events.get() == Received("ems/v1/boston-ems/A1/command/replay", b"x")
        for topic in ("ems/v1/boston-ems/A2/journal/events", "ems/v1/boston-ems/A1/command/replay"):
            # A connection for each: mosquitto 2.0.11 closes it after a refused PUBLISH.
            async with Client(broker, ca, "A1") as vehicle:
                assert await vehicle.publish(topic) == 0x87

    asyncio.run(work())


def test_fleet_services_and_safety_hear_their_own_answers_and_give_their_own_commands(
    broker: ShippedBroker, ca: PrivateCa
) -> None:
    """How somebody drove is for dispatch and safety; the engine is for fleet services."""
    unit = "ems/v1/boston-ems/A1"

    async def work() -> None:
        async with (
            Client(broker, ca, "fleet", f"{unit}/reply/+", f"{unit}/journal/+") as fleet,
            Client(broker, ca, "safety", f"{unit}/reply/+", f"{unit}/journal/+") as safety,
            Client(broker, ca, "A1", f"{unit}/command/+") as vehicle,
        ):
            for topic in ("reply/fetch", "reply/safety", "journal/trail", "reply/config", "reply/fleet"):
                vehicle._link.publish(Message(f"{unit}/{topic}", topic.encode()))
                assert isinstance(await vehicle.events.get(), Acknowledged)
            for client, expected in (
                (fleet, ["reply/config", "reply/fleet"]),
                (safety, ["reply/fetch", "reply/safety", "journal/trail"]),
            ):
                heard = [await client.events.get() for _ in expected]
                assert [one.payload.decode() for one in heard if isinstance(one, Received)] == expected
            for client, name in ((fleet, "config"), (safety, "fetch")):
                client._link.publish(Message(f"{unit}/command/{name}", b"{}"))
                assert isinstance(await client.events.get(), Acknowledged)
                heard_by_vehicle = await vehicle.events.get()
                assert isinstance(heard_by_vehicle, Received)
                assert heard_by_vehicle.topic.endswith(name)
        for who, name in (
            ("fleet", "fetch"),
            ("fleet", "assign"),
            ("safety", "config"),
            ("safety", "restart"),
        ):
            # A connection for each: mosquitto 2.0.11 closes it after a refused PUBLISH.
            async with Client(broker, ca, who) as client:
                assert await client.publish(f"{unit}/command/{name}") == 0x87

    asyncio.run(work())


def test_debian_installs_what_the_test_takes_it_to_install() -> None:
    installed = Path("/etc/mosquitto/mosquitto.conf")
    if not installed.exists():
        pytest.skip("mosquitto is not Debian's")
    lines = installed.read_text(encoding="utf-8").split("\n")
    said = [line for line in lines if line and not line.startswith("#")]
    assert said == [line for line in DEBIAN.split("\n") if line]


class PlainClient:
    """A client that chooses its own identifier and keeps a session, as a vehicle's thief would."""

    def __init__(self, broker: ShippedBroker, ca: PrivateCa, certificate: str, client_id: str) -> None:
        issued = ca.issue(certificate)
        self.received: SimpleQueue[bytes] = SimpleQueue()
        self._answers: SimpleQueue[str] = SimpleQueue()
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            reconnect_on_failure=False,
        )
        self.client.tls_set(str(ca.ca_file), str(issued.certificate_file), str(issued.key_file))
        self.client.on_connect = lambda *_: self._answers.put("open")
        self.client.on_subscribe = lambda *_: self._answers.put("subscribed")
        self.client.on_disconnect = lambda *_: self._answers.put("closed")
        self.client.on_message = lambda _, __, message: self.received.put(bytes(message.payload))
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        assert self.hear() == "open"

    def hear(self) -> str:
        return self._answers.get(timeout=20)

    def silent(self) -> bool:
        return self._answers.empty() and self.received.empty()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_vehicle_can_not_take_the_client_identifier_of_dispatch_nor_its_queue(
    broker: ShippedBroker, ca: PrivateCa
) -> None:
    topic = "ems/v1/boston-ems/A1/journal/events"
    dispatch = PlainClient(broker, ca, "dispatch", "dispatch")
    dispatch.client.subscribe("ems/v1/boston-ems/+/journal/+", qos=1)
    assert dispatch.hear() == "subscribed"
    # While dispatch is there, nobody throws it off.
    thief = PlainClient(broker, ca, "A2", "dispatch")
    thief.close()
    vehicle = PlainClient(broker, ca, "A1", "mdt-boston-ems-A1")
    vehicle.client.publish(topic, b"first", qos=1).wait_for_publish(20)
    assert dispatch.received.get(timeout=20) == b"first"
    assert dispatch.silent()
    dispatch.close()
    # While it is away, what waits for it waits for it alone.
    vehicle.client.publish(topic, b"second", qos=1).wait_for_publish(20)
    thief = PlainClient(broker, ca, "A2", "dispatch")
    # The broker sends a session's messages with CONNACK, before it answers anything else.
    thief.client.subscribe("ems/v1/boston-ems/A2/receipt", qos=1)
    assert thief.hear() == "subscribed"
    assert thief.received.empty()
    thief.close()
    dispatch = PlainClient(broker, ca, "dispatch", "anything")
    assert dispatch.received.get(timeout=20) == b"second"
    dispatch.close()
    vehicle.close()


def test_a_vehicle_may_read_its_own_state_and_no_other(broker: ShippedBroker, ca: PrivateCa) -> None:
    async def work() -> None:
        for unit in ("A1", "A2"):
            async with Client(broker, ca, unit) as vehicle:
                topic = f"ems/v1/boston-ems/{unit}/state/link"
                vehicle._link.publish(Message(topic, unit.encode(), retain=True))
                assert isinstance(await vehicle.events.get(), Acknowledged)
        async with Client(broker, ca, "A1", "ems/v1/boston-ems/+/state/+") as vehicle:
            assert isinstance(vehicle.first, Opened)
            heard = await vehicle.events.get()
            assert heard == Received("ems/v1/boston-ems/A1/state/link", b"A1", retain=True)
            # Nothing else came before the answer to this; 0x10 says that nobody listens.
            assert await vehicle.publish("ems/v1/boston-ems/A1/journal/trail") == 0x10

    asyncio.run(work())


def test_strangers_are_refused(broker: ShippedBroker, ca: PrivateCa) -> None:
    async def work() -> None:
        async with Client(broker, ca, "A1", stranger=True) as stranger:
            assert isinstance(stranger.first, Closed)

    asyncio.run(work())


def test_state_that_was_saved_survives_a_kill(broker: ShippedBroker, ca: PrivateCa) -> None:
    async def work() -> None:
        async with Client(broker, ca, "A1") as vehicle:
            link = vehicle._link
            link.publish(Message("ems/v1/boston-ems/A1/state/status", b"on_scene", retain=True))
            assert isinstance(await vehicle.events.get(), Acknowledged)
            # It is written some milliseconds after the PUBACK.
            async with asyncio.timeout(5):
                while not broker.has_saved(b"on_scene"):
                    await asyncio.sleep(0.01)
            broker.kill()
            broker.start()
        async with Client(broker, ca, "dispatch", "ems/v1/boston-ems/+/state/+") as dispatch:
            assert isinstance(dispatch.first, Opened)
            heard = await dispatch.events.get()
            assert isinstance(heard, Received)
            assert (heard.payload, heard.retain) == (b"on_scene", True)

    asyncio.run(work())
