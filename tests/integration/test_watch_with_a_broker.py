"""`mdt watch` against a real broker: a hole in the journal is noticed, asked for and filled."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cli.watch import Watcher, broker_of
from agent.cli.watch_display import JsonDisplay
from agent.domain.record import Alert, Kind, Stream
from agent.domain.state import LinkState
from agent.uplink.link.link import LinkEvent, Message, Opened, Opening, Received
from agent.uplink.link.paho_link import PahoLink
from agent.wire.body import pack_body
from agent.wire.codec import BatchHeader, encode_batch, encode_state
from agent.wire.reader_request import decode_replay_request
from agent.wire.row import Row
from agent.wire.topics import Topics, subscriptions
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto

A7 = Topics("boston-ems", "A7")


class Unit:
    """A vehicle that sends what it is told to, and answers replay requests."""

    def __init__(self, link: PahoLink) -> None:
        self._link = link
        self.is_open = False

    def on_event(self, event: LinkEvent) -> None:
        if isinstance(event, Opened):
            self.is_open = True
        elif isinstance(event, Received):
            request = decode_replay_request(event.payload)
            self.send(*range(request.first, request.last + 1), replay=True)

    def send(self, *seqs: int, replay: bool = False) -> None:
        header = BatchHeader("A7", Stream.EVENTS, 5, 1, replay=replay)
        body = pack_body(Alert("code", "text"))
        payload = encode_batch(
            header, [Row(seq, Kind.ALERT, 1, seq, None, 0, None, body) for seq in seqs]
        ).payload
        self._link.publish(Message(A7.journal(Stream.EVENTS), payload))


def seqs_in(out: io.StringIO) -> list[int]:
    return [line["seq"] for line in map(json.loads, out.getvalue().splitlines()) if "seq" in line]


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_a_hole_is_filled_by_asking(tmp_path: Path) -> None:
    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.wait({asyncio.create_task(asyncio.sleep(0.01))})

    async def scenario(url: str) -> list[int]:
        out = io.StringIO()
        watcher = Watcher(PahoLink, broker_of(url), subscriptions(), JsonDisplay(out, out), io.StringIO())
        watching = asyncio.create_task(watcher.run())
        link = PahoLink()
        unit = Unit(link)
        link.open(
            Opening(broker_of(url), "unit-a7", 20, 10, subscriptions=(A7.command("replay"),)), unit.on_event
        )
        await until(lambda: unit.is_open)
        birth = encode_state(LinkState(1, None, 9, True, "0" * 32, 1, 5, "0.1.0", 5))
        link.publish(Message(A7.state("link"), birth.payload, retain=True))
        await until(lambda: '"state": "link"' in out.getvalue())
        unit.send(1, 2)
        unit.send(6)
        unit.send(6, 7)
        await until(lambda: len(seqs_in(out)) >= 7)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await link.close()
        assert watcher.reader.counts.holes_open == 0
        assert watcher.reader.counts.duplicates_removed >= 1
        return seqs_in(out)

    with Mosquitto(tmp_path, BrokerOptions()) as broker:
        assert asyncio.run(scenario(f"mqtt://{broker.host}:{broker.port}")) == [1, 2, 6, 7, 3, 4, 5]


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_a_broker_that_is_not_up_yet_is_waited_for_saying_so(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path, BrokerOptions())
    with broker:
        url = f"mqtt://{broker.host}:{broker.port}"

    async def scenario() -> str:
        out, err = io.StringIO(), io.StringIO()
        watcher = Watcher(PahoLink, broker_of(url), subscriptions(), JsonDisplay(out, err), err)
        watching = asyncio.create_task(watcher.run())

        async def says(text: str) -> None:
            async with asyncio.timeout(30):
                while text not in err.getvalue() and not watching.done():
                    await asyncio.wait({watching}, timeout=0.02)

        await says("waiting for the broker")
        await asyncio.to_thread(broker.start)
        try:
            await says("connected")
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await asyncio.to_thread(broker.stop)
        return err.getvalue()

    said = asyncio.run(scenario())
    where = url.removeprefix("mqtt://")
    assert said.startswith(f"mdt watch: waiting for the broker: {where}: ")
    assert said.count("waiting for the broker") == 1, "said once, not at every attempt"
    assert f"connected to {where}" in said
