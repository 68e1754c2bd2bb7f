"""The mailboxes between the loop and the link's thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agent.uplink.link.link import Closed, LinkEvent, Message, Received
from agent.uplink.link.link_thread import WAITING_EVENTS, LinkThread
from agent.uplink.link.paho_link import PahoLink


def test_flood_stops_the_reading_until_the_loop_caught_up() -> None:
    """A subscriber's loop that stands still does not let memory grow without bound."""
    stood = threading.Event()
    most = 3 * WAITING_EVENTS

    def converse(thread: LinkThread) -> Closed:
        posted = 0
        while posted < most:
            if thread.flooded():
                stood.set()
                thread.wake_read.setblocking(True)
                thread.wake_read.recv(1)
                thread.wake_read.setblocking(False)
                continue
            thread.post(Received("t", b"%d" % posted))
            posted += 1
        return Closed("", "done")

    async def work() -> None:
        events: list[LinkEvent] = []
        thread = LinkThread(asyncio.get_running_loop(), "h:1", converse, events.append)
        thread.start()
        assert stood.wait(10)  # the loop stands still on purpose
        while not thread.over:
            await asyncio.sleep(0.001)
        assert [event.payload for event in events[:-1] if isinstance(event, Received)] == [
            b"%d" % number for number in range(most)
        ]
        assert events[-1] == Closed("", "done")

    asyncio.run(work())


def test_listener_that_raises_loses_nothing() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        seen: list[LinkEvent] = []
        complaints: list[object] = []
        loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))

        def converse(thread: LinkThread) -> Closed:
            for number in range(5):
                thread.post(Received("t", b"%d" % number))
            return Closed("", "done")

        def listener(event: LinkEvent) -> None:
            seen.append(event)
            if isinstance(event, Received) and event.payload == b"1":
                raise ValueError("listener")

        thread = LinkThread(loop, "h:1", converse, listener)
        thread.start()
        while not thread.over:
            await asyncio.sleep(0.001)
        assert len(seen) == 6
        assert len(complaints) == 1

    asyncio.run(work())


def test_failing_engine_is_a_closed_connection() -> None:
    def converse(_: LinkThread) -> Closed:
        raise IndexError("malformed packet")

    async def work() -> None:
        closed: asyncio.Future[LinkEvent] = asyncio.get_running_loop().create_future()
        thread = LinkThread(asyncio.get_running_loop(), "h:1", converse, closed.set_result)
        thread.start()
        event = await closed
        assert isinstance(event, Closed)
        assert event.reason == "broker_refused"
        assert "protocol error (IndexError)" in event.detail
        assert "malformed" not in event.detail, "what an exception says may be the broker's own bytes"

    asyncio.run(work())


def test_urgent_messages_are_taken_first_and_each_kind_keeps_its_order() -> None:
    async def work() -> None:
        thread = LinkThread(asyncio.get_running_loop(), "h:1", lambda _: Closed("", ""), lambda _: None)
        tokens = [thread.publish(Message(str(n), b"", urgent=n % 3 == 0)) for n in range(7)]
        taken = []
        while (item := thread.next_outgoing()) is not None:
            taken.append(item)
        assert [message.topic for _, message in taken] == ["0", "3", "6", "1", "2", "4", "5"]
        assert sorted(token for token, _ in taken) == tokens

    asyncio.run(work())


def test_link_that_was_never_opened_says_so_and_closes_quietly() -> None:
    async def work() -> None:
        link = PahoLink()
        with pytest.raises(RuntimeError):
            link.publish(Message("t", b""))
        await link.close()

    asyncio.run(work())
