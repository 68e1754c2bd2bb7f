"""What a hostile broker can do to a unit: be left, and named. Bounded memory, and a loop that goes on."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from agent.config import Broker
from agent.uplink.link.link import Closed, Flooded, LinkEvent, Message, Opened, Opening, Received
from agent.uplink.link.paho_link import PahoLink
from agent.uplink.packet_limit import LEAST_BYTES
from agent.uplink.publisher import INBOUND_PACKET_BYTES, INBOUND_PER_S
from hil.hostile_broker import (
    LEAVES,
    Behaviour,
    HostileBroker,
    Peer,
    many_small_user_properties,
    never_reads,
    publish,
    requests_without_end,
    silent,
)

WITHIN_S = 30.0


class Unit:
    """The link as a unit opens it."""

    def __init__(self) -> None:
        self.link = PahoLink()
        self.events: list[LinkEvent] = []
        self.closed = asyncio.Event()

    def open(self, broker: HostileBroker, *, connect_timeout_s: float = 10.0) -> None:
        self.closed.clear()
        self.link.open(
            Opening(
                Broker(host=broker.host, port=broker.port, allow_plaintext=True),
                client_id="mdt-bems-A1",
                keepalive_s=20,
                connect_timeout_s=connect_timeout_s,
                subscriptions=("ems/v1/bems/A1/command/replay",),
                inbound_packet_bytes=INBOUND_PACKET_BYTES,
                inbound_per_s=INBOUND_PER_S,
                least_packet_bytes=LEAST_BYTES,
            ),
            self._on_event,
        )

    def _on_event(self, event: LinkEvent) -> None:
        self.events.append(event)
        if isinstance(event, Closed):
            self.closed.set()

    async def left(self) -> Closed:
        async with asyncio.timeout(WITHIN_S):
            await self.closed.wait()
        closed = self.events[-1]
        assert isinstance(closed, Closed)
        return closed


@pytest.mark.parametrize("name", LEAVES)
def test_broker_that_exceeds_is_left_and_named_at_little_cost(name: str) -> None:
    async def work() -> None:
        async with HostileBroker(LEAVES[name]) as broker:
            unit = Unit()
            tracemalloc.start()
            try:
                unit.open(broker)
                closed = await unit.left()
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert closed.reason in ("broker_refused", "broker_unreachable")
            if name != "garbage":
                assert closed.reason == "broker_refused"
            assert str(broker.port) in closed.detail
            assert len(closed.detail) < 200, "its bytes are not repeated"
            assert peak_bytes < 8 << 20
            assert sum(isinstance(event, Received) for event in unit.events) <= 10 * INBOUND_PER_S + 100
            await unit.link.close()

    asyncio.run(work())


def test_messages_without_end_cost_the_loop_nothing_and_pubacks_still_come() -> None:
    async def flood_and_acknowledge(peer: Peer) -> None:
        async def acknowledge() -> None:
            while True:
                first, body = await peer.packet()
                if first >> 4 == 3:
                    at = 2 + int.from_bytes(body[:2], "big")
                    await peer.send(b"\x40\x02" + body[at : at + 2])

        await peer.welcome()
        answering = asyncio.ensure_future(acknowledge())
        packets = publish(peer.topics[0], b'{"stream":"trail","from":1,"to":9}', qos=0) * 100
        try:
            while not answering.done():
                await peer.send(packets)
                await asyncio.sleep(0)
        finally:
            answering.cancel()

    async def work() -> None:
        async with HostileBroker(flood_and_acknowledge) as broker:
            unit = Unit()
            unit.open(broker)
            async with asyncio.timeout(WITHIN_S):
                while not any(isinstance(event, Flooded) for event in unit.events):
                    await asyncio.sleep(0.01)
                tokens = [unit.link.publish(Message("t", b"press", urgent=True)) for _ in range(20)]
                while not set(tokens) <= {getattr(event, "token", None) for event in unit.events}:
                    await asyncio.sleep(0.01)
                dropped = 0
                while dropped < 500:
                    await asyncio.sleep(0.01)
                    dropped = sum(event.dropped for event in unit.events if isinstance(event, Flooded))
            taken = sum(isinstance(event, Received) for event in unit.events)
            assert taken <= 10 * INBOUND_PER_S + INBOUND_PER_S * WITHIN_S
            assert not unit.closed.is_set()
            await unit.link.close()

    asyncio.run(work())


def test_messages_with_too_many_properties_are_passed_over_and_do_not_end_the_connection() -> None:
    """Whoever may write to a unit's topics can send them: correlation data of 10 kB with a command."""

    async def overdressed(peer: Peer) -> None:
        await peer.welcome()
        correlation = b"\x09" + (10_000).to_bytes(2, "big") + bytes(10_000)
        for number in range(1, 21):
            message = publish(peer.topics[0], b"{}", properties=correlation, packet_id=number)
            await peer.send(message)
            first, body = await peer.packet()
            assert (first >> 4, int.from_bytes(body[:2], "big")) == (4, number)
        await peer.send(publish(peer.topics[0], b"plain", packet_id=99))
        await peer.until_gone()

    async def work() -> None:
        async with HostileBroker(overdressed) as broker:
            unit = Unit()
            unit.open(broker)
            async with asyncio.timeout(WITHIN_S):
                while not any(isinstance(event, Received) for event in unit.events):
                    await asyncio.sleep(0.01)
            assert [one.payload for one in unit.events if isinstance(one, Received)] == [b"plain"]
            assert any(isinstance(event, Flooded) for event in unit.events)
            assert not unit.closed.is_set()
            await unit.link.close()

    asyncio.run(work())


def test_silent_broker_is_told_after_one_time_out_and_then_spoken_to_in_3_1_1() -> None:
    async def work() -> None:
        async with HostileBroker(silent) as broker:
            unit = Unit()
            unit.open(broker, connect_timeout_s=0.5)
            closed = await unit.left()
            assert closed.reason == "broker_unreachable"
            assert "waits for CONNACK in vain" in closed.detail
            assert broker.connections == 1, "each further time-out would be told so much later"
            unit.open(broker, connect_timeout_s=0.5)
            await unit.left()
            assert broker.connections == 2
            await unit.link.close()

    asyncio.run(work())


@pytest.mark.parametrize("packet_bytes", [100, LEAST_BYTES - 1])
def test_broker_that_takes_only_tiny_packets_is_named_and_not_used(packet_bytes: int) -> None:
    async def tiny(peer: Peer) -> None:
        await peer.send(b"\x20\x08\x00\x00\x05\x27" + packet_bytes.to_bytes(4, "big"))
        await peer.until_gone()

    async def work() -> None:
        async with HostileBroker(tiny) as broker:
            unit = Unit()
            unit.open(broker)
            closed = await unit.left()
            assert closed.reason == "packet_too_large"
            assert f"{packet_bytes} bytes at most, {LEAST_BYTES} are needed" in closed.detail
            assert not any(isinstance(event, Opened) for event in unit.events)
            await unit.link.close()

    asyncio.run(work())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "behaviour",
    [*LEAVES.values(), never_reads, requests_without_end, many_small_user_properties],
    ids=lambda one: one.__name__,
)
def test_hostile_broker_for_ten_seconds_leaves_the_loop_free(behaviour: Behaviour) -> None:
    """Connected to again and again: no gap of a second in the loop, and no memory that grows."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with HostileBroker(behaviour) as broker:
            unit, longest, last = Unit(), 0.0, loop.time()
            tracemalloc.start()
            try:
                unit.open(broker)
                until = loop.time() + 10.0
                while loop.time() < until:
                    await asyncio.sleep(0.01)
                    longest, last = max(longest, loop.time() - last), loop.time()
                    if unit.closed.is_set():
                        unit.events.clear()
                        unit.open(broker)
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
                await unit.link.close()
            assert longest < 2.0
            assert peak_bytes < 16 << 20

    asyncio.run(work())
