"""The link over paho against real brokers, a hurt network and a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.config import Broker, Secret, Tls
from agent.uplink.link.credentials import CertificateFiles, expires_unix_s
from agent.uplink.link.link import Acknowledged, Closed, LinkEvent, Message, Opened, Opening, Received
from agent.uplink.link.paho_link import PahoLink
from agent.uplink.link.paho_session import Session
from agent.uplink.link.refusal import PACKET_TOO_LARGE
from hil.broker_process import (
    BrokerOptions,
    BrokerTls,
    EmbeddedBroker,
    Mosquitto,
    find_mosquitto,
)
from hil.private_ca import Certificate, OpensslUnavailableError, PrivateCa
from hil.tcp_proxy import ProxyThread, TcpProxy, Weather

BROKEN = Closed("broker_unreachable", "a kill")
E = TypeVar("E")
needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        yield broker


@pytest.fixture
def ca(tmp_path: Path) -> PrivateCa:
    try:
        return PrivateCa(tmp_path / "ca")
    except OpensslUnavailableError as error:
        pytest.skip(str(error))


def to(port: int, **more: Any) -> Opening:
    broker = more.pop("broker", None) or Broker(host="127.0.0.1", port=port, allow_plaintext=True)
    return Opening(
        broker,
        **({"client_id": "veh", "keepalive_s": 5, "connect_timeout_s": 5} | more),  # type: ignore[arg-type]  # mixed values
    )


class Listener:
    """A link whose events wait in a queue."""

    def __init__(self) -> None:
        self.link = PahoLink()
        self.events: asyncio.Queue[LinkEvent] = asyncio.Queue()

    def open(self, opening: Opening) -> None:
        self.link.open(opening, self.events.put_nowait)

    async def next(self, kind: type[E], within_s: float = 15.0) -> E:
        async with asyncio.timeout(within_s):
            event = await self.events.get()
        assert isinstance(event, kind), event
        return event

    async def next_closed(self) -> Closed:
        """Skip what comes before the end."""
        while not isinstance(event := await self.events.get(), Closed):
            pass
        return event

    async def opened(self, opening: Opening) -> Opened:
        self.open(opening)
        return await self.next(Opened)

    async def refused(self, opening: Opening) -> Closed:
        self.open(opening)
        return await self.next(Closed)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    try:
        yield listener
    finally:
        await listener.link.close()


def test_publishes_receives_and_closes(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        async with listening() as one:
            opened = await one.opened(to(mosquitto.port, subscriptions=("t/#",)))
            assert opened.mqtt_version == 5
            message = Message(
                "t/1", b"\x00hello", content_type="a/b", user_properties=(("k", "v"),), expiry_s=60
            )
            token = one.link.publish(message)
            events = [await one.events.get(), await one.events.get()]
            assert Acknowledged(token) in events
            assert Received("t/1", b"\x00hello", False, "a/b", (("k", "v"),)) in events
            await one.link.close()
            closed = await one.next(Closed)
            assert closed.reason == ""
            await one.link.close()
            assert one.events.empty()

    asyncio.run(work())


@needs_mosquitto
def test_connack_limits_are_passed_on_and_kept(tmp_path: Path) -> None:
    async def work(port: int) -> None:
        async with listening() as one:
            opened = await one.opened(to(port))
            assert (opened.receive_maximum, opened.maximum_packet_bytes) == (2, 256)
            token = one.link.publish(Message("t", b"x" * 300))
            assert await one.next(Acknowledged) == Acknowledged(token, PACKET_TOO_LARGE)
            fitting = Message("t", b"x" * 247)
            assert fitting.packet_bytes() == 256
            token = one.link.publish(fitting)
            assert (await one.next(Acknowledged)).reason_code < 0x80

    with Mosquitto(tmp_path, BrokerOptions(receive_maximum=2, max_packet_bytes=256)) as broker:
        asyncio.run(work(broker.port))


def test_falls_back_to_3_1_1_and_remembers_it(tmp_path: Path) -> None:
    pytest.importorskip("amqtt", exc_type=ImportError)

    async def work(port: int) -> None:
        async with TcpProxying("127.0.0.1", port) as proxy, listening() as one:
            will = Message("t/will", b"gone", retain=True)
            opening = to(proxy.port, subscriptions=("t/#",), will=will, will_delay_s=15)
            assert (await one.opened(opening)).mqtt_version == 4
            assert proxy.connections == 2
            token = one.link.publish(Message("t/1", b"hello", content_type="a/b"))
            events = [await one.events.get(), await one.events.get()]
            assert Acknowledged(token) in events
            assert Received("t/1", b"hello") in events
            await one.link.close()
            await one.next(Closed)
            assert (await one.opened(opening)).mqtt_version == 4
            assert proxy.connections == 3

    with EmbeddedBroker(tmp_path, BrokerOptions()) as broker:
        asyncio.run(work(broker.port))


class TcpProxying(TcpProxy):
    """A proxy as a context."""

    async def __aenter__(self) -> TcpProxying:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def test_half_open_connection_is_noticed_within_one_and_a_half_keep_alives(mosquitto: Mosquitto) -> None:
    keepalive_s = 2.0

    async def work() -> None:
        loop = asyncio.get_running_loop()
        with ProxyThread("127.0.0.1", mosquitto.port) as proxy:
            async with listening() as one:
                await one.opened(to(proxy.port, keepalive_s=keepalive_s))
                await asyncio.sleep(keepalive_s * 1.6)
                assert one.events.empty(), "an idle connection is kept alive"
                for busy in (False, True):
                    began = loop.time()
                    proxy.set_weather(Weather(black_hole=True))
                    if busy:
                        one.link.publish(Message("t", b"x" * 100_000))
                    closed = await one.next(Closed)
                    assert loop.time() - began <= 1.5 * keepalive_s
                    assert closed.reason == "broker_unreachable"
                    proxy.lift()
                    await one.opened(to(proxy.port, keepalive_s=keepalive_s))

    asyncio.run(work())


def test_cut_and_refused_connections_are_told_at_once(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        async with TcpProxying("127.0.0.1", mosquitto.port) as proxy, listening() as one:
            for reset in (True, False):
                await one.opened(to(proxy.port))
                await proxy.cut(reset=reset)
                assert (await one.next(Closed, 2.0)).reason == "broker_unreachable"
                assert "refused" in (await one.refused(to(proxy.port))).detail
                await proxy.lift()

    asyncio.run(work())


def test_close_gives_up_connecting_to_a_black_hole_at_once(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with TcpProxying("127.0.0.1", mosquitto.port) as proxy, listening() as one:
            proxy.set_weather(Weather(black_hole=True))
            one.open(to(proxy.port))
            began = loop.time()
            await one.link.close()
            assert loop.time() - began < 1.0
            assert (await one.next(Closed)).reason == ""

    asyncio.run(work())


def test_black_hole_while_connecting_ends_by_the_time_out(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        async with TcpProxying("127.0.0.1", mosquitto.port) as proxy, listening() as one:
            proxy.set_weather(Weather(black_hole=True))
            closed = await one.refused(to(proxy.port, connect_timeout_s=0.3))
            assert closed.reason == "broker_unreachable"

    asyncio.run(work())


def test_urgent_messages_overtake_on_a_slow_network(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with TcpProxying("127.0.0.1", mosquitto.port) as proxy, listening() as one:
            await one.opened(to(proxy.port, keepalive_s=30))
            proxy.set_weather(Weather(bytes_per_s=2_000_000.0))
            slow = [one.link.publish(Message("t/slow", b"x" * 60_000)) for _ in range(200)]
            await one.next(Acknowledged)
            urgent = one.link.publish(Message("t/press", b"!", urgent=True))
            began, order = loop.time(), []
            while urgent not in order:
                order.append((await one.next(Acknowledged)).token)
            # What the kernel and the proxy hold goes first; far less than the 12 MB that wait.
            assert len(order) < 40
            assert order[:-1] == slow[1 : len(order)]
            assert loop.time() - began < 5.0
            await proxy.drop_connections()
            await one.next_closed()

    asyncio.run(work())


def test_broker_that_dies_is_noticed_and_found_again(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        async with listening() as one:
            await one.opened(to(mosquitto.port))
            mosquitto.kill()
            assert (await one.next(Closed)).reason == "broker_unreachable"
            assert (await one.refused(to(mosquitto.port))).reason == "broker_unreachable"
            mosquitto.start()
            await one.opened(to(mosquitto.port))

    asyncio.run(work())


def test_name_that_does_not_resolve_is_told(mosquitto: Mosquitto) -> None:
    async def work() -> None:
        async with listening() as one:
            nowhere = Broker(host="no-such-host.invalid", port=1, allow_plaintext=True)
            closed = await one.refused(to(0, broker=nowhere))
            assert closed.reason == "broker_unreachable"
            assert closed.detail.startswith("no-such-host.invalid:1: ")

    asyncio.run(work())


def test_will_is_published_when_we_vanish_and_dropped_when_we_leave_or_come_back(
    mosquitto: Mosquitto,
) -> None:
    async def work() -> None:
        async with (
            TcpProxying("127.0.0.1", mosquitto.port) as proxy,
            listening() as one,
            listening() as watcher,
        ):
            await watcher.opened(to(mosquitto.port, client_id="watcher", subscriptions=("will/#",)))
            for number, delay_s in enumerate((0, 2)):
                opening = to(
                    proxy.port,
                    will=Message(f"will/{number}", b"gone", content_type="a/b"),
                    will_delay_s=delay_s,
                )
                await one.opened(opening)
                await one.link.close()
                await one.next(Closed)
                await one.opened(opening)
                await proxy.drop_connections()
                await one.next(Closed)
                if delay_s:
                    await one.opened(replace(opening, resume=True))
                    await asyncio.sleep(delay_s + 1.5)
                    assert watcher.events.empty()
                else:
                    assert (await watcher.next(Received)).topic == f"will/{number}"

    asyncio.run(work())


@needs_mosquitto
def test_credentials_are_read_at_each_opening(tmp_path: Path) -> None:
    async def work(port: int) -> None:
        secret = tmp_path / "password"
        broker = Broker(
            host="127.0.0.1", port=port, allow_plaintext=True, username="veh", password=Secret(file=secret)
        )
        async with listening() as one:
            closed = await one.refused(to(port, broker=broker))
            assert closed.reason == "broker_refused"
            assert "password" in closed.detail
            secret.write_text("wrong\n")
            closed = await one.refused(to(port, broker=broker))
            assert closed.reason == "broker_refused"
            assert "wrong" not in closed.detail
            secret.write_text("right\n")
            opened = await one.opened(to(port, broker=broker, subscriptions=("veh/#",)))
            assert opened.refused_subscriptions == ()
            token = one.link.publish(Message("forbidden", b""))
            assert await one.next(Acknowledged) == Acknowledged(token, 0x87)

    options = BrokerOptions(users={"veh": "right"}, access_rules=["user veh", "topic readwrite veh/#"])
    with Mosquitto(tmp_path / "broker", options) as broker:
        asyncio.run(work(broker.port))


def with_client(ca: PrivateCa, issued: Certificate) -> Tls:
    return Tls(ca_file=ca.ca_file, certificate_file=issued.certificate_file, key_file=issued.key_file)


@needs_mosquitto
def test_tls_verifies_the_broker_and_shows_our_certificate(tmp_path: Path, ca: PrivateCa) -> None:
    other = PrivateCa(tmp_path / "other", "other authority")
    good = with_client(ca, ca.issue("veh"))
    cases = {
        "good": (good, ""),
        "wrong authority": (with_client(other, ca.issue("veh")), "self-signed certificate"),
        "system authorities": (good.model_copy(update={"ca_file": None}), "self-signed certificate"),
        "no certificate of ours": (Tls(ca_file=ca.ca_file), "wants a certificate, and we have none"),
        "certificate of another authority": (
            with_client(ca, other.issue("veh")),
            "does not know who signed it",
        ),
        "certificate that ended": (with_client(ca, ca.issue("veh", days=-1)), "it has expired"),
        "missing file": (good.model_copy(update={"ca_file": tmp_path / "none"}), "No such file"),
        "not a certificate": (good.model_copy(update={"ca_file": Path(__file__)}), "TLS can not be set up"),
    }

    of_ours = {"no certificate of ours", "certificate of another authority", "certificate that ended"}

    async def work(port: int) -> None:
        for name, (tls, expected) in cases.items():
            async with listening() as one:
                one.open(to(port, broker=Broker(host="127.0.0.1", port=port, tls=tls)))
                event = await one.events.get()
                if not expected:
                    assert isinstance(event, Opened), name
                    assert event.server_certificate_expires_unix_s == expires_unix_s(server.certificate_file)
                    token = one.link.publish(Message("t", b"x" * 1_000_000))
                    assert (await one.next(Acknowledged)).token == token
                else:
                    assert isinstance(event, Closed), name
                    # A broker's word on our certificate comes after the handshake; its reset may overtake it.
                    overtaken = event.reason == "broker_unreachable" and "certificate" in event.detail
                    assert overtaken or (event.reason == "tls_failed" and expected in event.detail), name
                    assert not (overtaken and name not in of_ours), name

    server = ca.issue("broker", alternative_names="IP:127.0.0.1")
    tls = BrokerTls(server.certificate_file, server.key_file, ca.ca_file)
    with Mosquitto(tmp_path / "broker", BrokerOptions(tls=tls)) as broker:
        asyncio.run(work(broker.port))


@needs_mosquitto
@pytest.mark.parametrize(
    ("names", "days", "expected"), [("DNS:elsewhere", 30, "mismatch"), ("IP:127.0.0.1", -1, "expired")]
)
def test_brokers_that_are_not_who_they_should_be_are_refused(
    tmp_path: Path, ca: PrivateCa, names: str, days: int, expected: str
) -> None:
    async def work(port: int) -> None:
        async with listening() as one:
            broker = Broker(host="127.0.0.1", port=port, tls=Tls(ca_file=ca.ca_file))
            closed = await one.refused(to(port, broker=broker))
            assert closed.reason == "tls_failed"
            assert expected in closed.detail

    server = ca.issue("broker", alternative_names=names, days=days)
    with Mosquitto(
        tmp_path / "broker", BrokerOptions(tls=BrokerTls(server.certificate_file, server.key_file))
    ) as broker:
        asyncio.run(work(broker.port))


def test_tls_against_plain_and_plain_against_tls_do_not_hang(mosquitto: Mosquitto, ca: PrivateCa) -> None:
    async def work() -> None:
        async with listening() as one:
            broker = Broker(host="127.0.0.1", port=mosquitto.port, tls=Tls(ca_file=ca.ca_file))
            closed = await one.refused(to(0, broker=broker, connect_timeout_s=1))
            assert closed.reason in ("tls_failed", "broker_unreachable")

    asyncio.run(work())


def test_end_of_certificates_is_seen_fourteen_days_ahead(tmp_path: Path, ca: PrivateCa) -> None:
    soon, later = ca.issue("soon", days=10), ca.issue("later", days=30)
    now = expires_unix_s(soon.certificate_file) - 10 * 86_400
    assert expires_unix_s(later.certificate_file) - now - 30 * 86_400 < 60
    both = tmp_path / "both.pem"
    both.write_text(later.certificate_file.read_text() + soon.certificate_file.read_text())
    assert expires_unix_s(both) == expires_unix_s(soon.certificate_file)
    fine = CertificateFiles([], [later.certificate_file])
    assert fine.expiring(("b:1", round(now + 20 * 86_400)), now) == []
    watched = CertificateFiles([tmp_path / "none"], [soon.certificate_file])
    sentences = watched.expiring(("b:1", round(now - 1)), now)
    assert [("ends" in s, "can not be read" in s, "ended" in s) for s in sentences] == [
        (False, True, False),
        (True, False, False),
        (False, False, True),
    ]


def test_bundle_of_authorities_lasts_as_long_as_its_last_one_and_changes_are_seen(
    tmp_path: Path, ca: PrivateCa
) -> None:
    soon, later = ca.issue("soon", days=10), ca.issue("later", days=30)
    now = expires_unix_s(soon.certificate_file) - 10 * 86_400
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(soon.certificate_file.read_text() + later.certificate_file.read_text())
    assert CertificateFiles([bundle], []).expiring(None, now) == []
    watched = CertificateFiles([], [bundle])
    assert len(watched.expiring(None, now)) == 1
    assert len(watched.expiring(None, now)) == 1
    bundle.write_text(later.certificate_file.read_text())
    assert watched.expiring(None, now) == []
    bundle.unlink()
    assert "can not be read" in watched.expiring(None, now)[0]


# A scripted server: exact bytes of MQTT 5.0 and 3.1.1 control packets.

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
CONNACK_5 = b"\x20\x03\x00\x00\x00"
CONNACK_4 = b"\x20\x02\x00\x00"


async def packet(reader: asyncio.StreamReader) -> bytes:
    """One control packet of less than 128 bytes."""
    head = await reader.readexactly(2)
    return head + await reader.readexactly(head[1])


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(set(tasks))


def against(handler: Handler, check: Callable[[Listener, int], Coroutine[None, None, None]]) -> None:
    async def work() -> None:
        async with serving(handler) as port, listening() as one:
            await check(one, port)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (b"\x20\x03\x00\x87\x00", "broker_refused", "not authorized"),
        (b"\x20\x03\x00\x88\x00", "broker_unreachable", "server unavailable"),
        (b"\x20\x03\x00\x9f\x00", "broker_unreachable", "connection rate exceeded"),
        (b"\x10\x00", "", ""),
        (b"\xff" * 40, "", ""),
        (b"\x20\x03\x00\x00\x7f", "", ""),
    ],
)
def test_refusals_and_garbage_instead_of_connack(answer: bytes, reason: str, words: str) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(answer)
        await reader.read()

    async def check(one: Listener, port: int) -> None:
        closed = await one.refused(to(port, connect_timeout_s=1))
        assert closed.reason == reason or (
            not reason and closed.reason in ("broker_refused", "broker_unreachable")
        )
        assert words in closed.detail

    against(handler, check)


def test_server_moved_is_passed_on_from_connack_and_disconnect() -> None:
    reference = b"\x1c\x00\x06h:1884"
    connack = b"\x20" + bytes([3 + len(reference)]) + b"\x00\x9d" + bytes([len(reference)]) + reference
    disconnect = b"\xe0" + bytes([2 + len(reference)]) + b"\x9c" + bytes([len(reference)]) + reference

    async def at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(connack)
        await reader.read()

    async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK_5)
        await packet(reader)
        writer.write(disconnect)
        await reader.read()

    async def check_at_once(one: Listener, port: int) -> None:
        assert (await one.refused(to(port))).server_moved_to == "h:1884"

    async def check_later(one: Listener, port: int) -> None:
        await one.opened(to(port))
        one.link.publish(Message("t", b""))
        assert (await one.next(Closed)).server_moved_to == "h:1884"

    against(at_once, check_at_once)
    against(later, check_later)


@pytest.mark.parametrize("silent", [False, True], ids=["hangs up", "says nothing"])
def test_broker_that_does_not_answer_mqtt_5_is_spoken_to_in_3_1_1(silent: bool) -> None:
    levels: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        levels.append((await packet(reader))[8])
        if levels[-1] == 4:
            writer.write(CONNACK_4)
            await reader.read()
        elif silent:
            await reader.read()

    async def check(one: Listener, port: int) -> None:
        if silent:
            # Told at once; the other version has its turn with the next attempt.
            assert "in vain" in (await one.refused(to(port, connect_timeout_s=0.5))).detail
        for _ in range(2):
            assert (await one.opened(to(port, connect_timeout_s=0.5))).mqtt_version == 4
            await one.link.close()
            await one.next(Closed)
        assert levels == ([5, 4, 4] if silent else [5, 5, 4, 4])

    against(handler, check)


def test_broker_that_hangs_up_in_both_versions_is_not_remembered_as_old() -> None:
    well, levels = False, []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        levels.append((await packet(reader))[8])
        if well:
            writer.write(CONNACK_5)
            await reader.read()

    async def check(one: Listener, port: int) -> None:
        nonlocal well
        assert (await one.refused(to(port))).reason == "broker_unreachable"
        well = True
        assert (await one.opened(to(port))).mqtt_version == 5
        assert levels == [5, 5, 4, 5]

    against(handler, check)


def test_one_hang_up_is_the_network_and_never_a_reason_for_3_1_1() -> None:
    levels: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        levels.append((await packet(reader))[8])
        if len(levels) > 1:
            writer.write(CONNACK_5)
            await reader.read()

    async def check(one: Listener, port: int) -> None:
        assert (await one.opened(to(port))).mqtt_version == 5
        assert levels == [5, 5]

    against(handler, check)


def test_puback_reason_codes_are_passed_on() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK_5)
        for code in (0x00, 0x10, 0x97, 0x87):
            published = await packet(reader)
            writer.write(b"\x40\x03" + published[5:7] + bytes([code]))
        await reader.read()

    async def check(one: Listener, port: int) -> None:
        await one.opened(to(port))
        for code in (0x00, 0x10, 0x97, 0x87):
            token = one.link.publish(Message("t", b"x"))
            assert await one.next(Acknowledged) == Acknowledged(token, code)

    against(handler, check)


def test_keep_alive_of_the_server_is_taken_over() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x06\x00\x00\x03\x13\x00\x01")  # server keep alive 1 s
        await reader.read()

    async def check(one: Listener, port: int) -> None:
        loop = asyncio.get_running_loop()
        await one.opened(to(port, keepalive_s=60))
        began = loop.time()
        assert "silent" in (await one.next(Closed)).detail
        assert loop.time() - began <= 1.5

    against(handler, check)


def test_longer_keep_alive_of_the_server_does_not_stretch_ours() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x06\x00\x00\x03\x13\x00\x3c")  # server keep alive 60 s
        await reader.read()

    async def check(one: Listener, port: int) -> None:
        loop = asyncio.get_running_loop()
        await one.opened(to(port, keepalive_s=1))
        began = loop.time()
        assert "silent" in (await one.next(Closed)).detail
        assert loop.time() - began <= 1.5

    against(handler, check)


def test_broker_that_acknowledges_nothing_by_its_own_word_is_refused() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x05\x00\x00\x02\x24\x00")  # maximum QoS 0
        await reader.read()

    async def check(one: Listener, port: int) -> None:
        closed = await one.refused(to(port, connect_timeout_s=1))
        assert closed.reason == "broker_refused"
        assert "QoS 0 only" in closed.detail

    against(handler, check)


def test_receive_maximum_of_none_is_malformed_and_answered_with_3_1_1() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        level = (await packet(reader))[8]
        writer.write(CONNACK_4 if level == 4 else b"\x20\x06\x00\x00\x03\x21\x00\x00")
        await reader.read()

    async def check(one: Listener, port: int) -> None:
        opened = await one.opened(to(port))
        assert (opened.mqtt_version, opened.receive_maximum) == (4, 65_535)

    against(handler, check)


def test_broker_without_retained_messages_gets_none() -> None:
    wills: list[bool] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wills.append(bool((await packet(reader))[9] & 0x20))
        if wills[-1]:
            writer.write(b"\x20\x03\x00\x9a\x00")
            return
        writer.write(b"\x20\x05\x00\x00\x02\x25\x00")  # retain available 0
        published = await packet(reader)
        retained = published[0] & 0x01
        writer.write(b"\x40\x03" + published[5:7] + (b"\x9a" if retained else b"\x00"))
        await reader.read()

    async def check(one: Listener, port: int) -> None:
        opened = await one.opened(to(port, will=Message("w", b"", retain=True)))
        assert not opened.retain_available
        assert wills == [True, False]
        token = one.link.publish(Message("t", b"x", retain=True))
        assert await one.next(Acknowledged) == Acknowledged(token, 0)

    against(handler, check)


def test_what_was_not_done_is_sent_again_to_who_joins_the_session_and_what_was_is_not(
    mosquitto: Mosquitto,
) -> None:
    async def work() -> None:
        will = Message("t/will", b"gone")
        late = to(
            mosquitto.port,
            subscriptions=("t/#",),
            resume=True,
            acknowledge_when_done=True,
            will=will,
            will_delay_s=60,
        )

        async def break_off(listener: Listener) -> None:
            """End the connection as a kill does."""
            thread = listener.link._thread
            assert thread is not None
            monkey.setattr(Session, "_check_alive", lambda self, *_: setattr(self, "_closed", BROKEN))
            thread._wake()
            await listener.next_closed()
            monkey.undo()

        async with listening() as teller, listening() as unit:
            await teller.opened(to(mosquitto.port, client_id="teller"))
            await unit.opened(late)
            for payload in (b"done", b"undone"):
                teller.link.publish(Message("t/1", payload))
            done, undone = await unit.next(Received), await unit.next(Received)
            assert (done.payload, undone.payload) == (b"done", b"undone")
            assert done.acknowledge is not None
            done.acknowledge()
            # It is out when a message that was handed over later has come round.
            unit.link.publish(Message("t/round", b""))
            while not isinstance(event := await unit.events.get(), Received) or event.topic != "t/round":
                pass
            assert event.acknowledge is not None
            event.acknowledge()
            unit.link.publish(Message("t/round", b""))
            while not isinstance(event := await unit.events.get(), Received) or event.topic != "t/round":
                pass
            await break_off(unit)
            unit.open(late)
            again: list[Received] = []
            while b"undone" not in [one.payload for one in again]:
                event = await unit.events.get()
                assert not isinstance(event, Closed), event
                again += [event] if isinstance(event, Received) else []
            assert b"done" not in [one.payload for one in again]
            assert undone.acknowledge is not None
            undone.acknowledge()  # of a connection that is over: it must not be taken for one of this

    monkey = pytest.MonkeyPatch()
    asyncio.run(asyncio.wait_for(work(), 50))
