"""Signals on demand: at their rate, for their time, and never more than the network takes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from agent.paths.fleet_commands import Asked, Result
from agent.paths.signal_demand import MOST_AT_ONCE, PART_BYTES, SignalDemand
from agent.uplink.commands import Asker
from agent.wire.fleet_orders import SignalsWanted
from agent.wire.reader_request import Reply
from tests.unit.uplink.publisher_rig import virtually


class Uplink:
    """Takes pieces, and acknowledges them or not."""

    def __init__(self, *, acknowledges: bool = True) -> None:
        self.connections = 1
        self.most_packet_bytes = None
        self.sent: list[tuple[float, dict[str, Any]]] = []
        self._acknowledges = acknowledges
        self.busy = False

    def piece(self, reply: Reply, to: Asker, landed: Callable[[int], None]) -> int:
        if self.busy:
            return 0
        assert reply.result is not None
        self.sent.append((asyncio.get_running_loop().time(), json.loads(reply.result)["signals"]))
        if self._acknowledges:
            asyncio.get_running_loop().call_soon(landed, 0)
        return 100


def demand(uplink: Uplink, signals: dict[str, Any], over: list[str]) -> SignalDemand:
    def finish(asked: Asked, result: Result) -> None:
        over.append(f"{asked.id} {result.outcome}")

    return SignalDemand(lambda: signals, lambda: uplink, lambda: None, finish)


def asked(number: int = 1) -> Asked:
    return Asked("signals", f"s-{number}", "desk")


def test_the_newest_values_go_at_their_rate_until_the_time_is_over() -> None:
    async def work() -> None:
        uplink, over = Uplink(), list[str]()
        one = demand(uplink, {"Speed": 7, "Other": 1}, over)
        running = asyncio.ensure_future(one.run(lambda: None))
        assert one.ask(SignalsWanted(("Speed", "Unheard"), 2, 10), asked()).outcome == "accepted"
        await asyncio.sleep(30)
        assert [values for _, values in uplink.sent] == [{"Speed": 7, "Unheard": None}] * 5
        assert over == ["s-1 done"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtually(work)


def test_a_network_that_acknowledges_nothing_gets_one_round_and_no_more() -> None:
    async def work() -> None:
        uplink = Uplink(acknowledges=False)
        one = demand(uplink, {"Speed": 7}, [])
        running = asyncio.ensure_future(one.run(lambda: None))
        one.ask(SignalsWanted(("Speed",), 1, 60), asked())
        await asyncio.sleep(20)
        assert len(uplink.sent) == 1
        uplink.connections += 1  # a new connection: the old round is gone
        await asyncio.sleep(5)
        assert len(uplink.sent) == 2
        uplink.busy = True
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtually(work)


def test_what_nobody_heard_and_one_too_many_are_refused_and_many_values_go_in_parts() -> None:
    async def work() -> None:
        uplink = Uplink()
        many = {f"Signal{number}.{'x' * 100}": "y" * 60 for number in range(50)}
        one = demand(uplink, many, [])
        assert one.ask(SignalsWanted(("Speed",), 1, 60), asked()).reason == "nothing_there"
        for number in range(MOST_AT_ONCE):
            assert one.ask(SignalsWanted(tuple(many), 1, 60), asked(number)).outcome == "accepted"
        assert one.ask(SignalsWanted(tuple(many), 1, 60), asked(9)).reason == "busy"
        running = asyncio.ensure_future(one.run(lambda: None))
        await asyncio.sleep(0.5)
        assert all(len(json.dumps(values)) < PART_BYTES + 300 for _, values in uplink.sent)
        assert sum(len(values) for _, values in uplink.sent) == MOST_AT_ONCE * 50
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtually(work)
