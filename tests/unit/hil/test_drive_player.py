"""Items are handed out when they are due."""

from __future__ import annotations

import asyncio

import pytest

from hil.drive.items import IgnitionItem, NmeaItem, TimedItem
from hil.drive.player import Player
from hil.sim.virtual_loop import VirtualLoop

MS = 1_000_000
ITEMS: list[TimedItem] = [NmeaItem(t_ms * MS, b"%d" % t_ms) for t_ms in range(0, 2000, 100)]


def test_items_are_played_at_the_asked_speed_without_drift() -> None:
    handed: list[tuple[float, bytes]] = []

    async def play() -> float:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()

        async def slow_sink(item: NmeaItem) -> None:
            handed.append((loop.time() - begun_s, item.data))
            await asyncio.sleep(0.004)

        await Player({NmeaItem: slow_sink}, speed=10).play(ITEMS)
        return loop.time() - begun_s

    # In simulated time: how late a busy machine wakes up says nothing about the player.
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play())
    assert [data for _, data in handed] == [item.data for item in ITEMS if isinstance(item, NmeaItem)]
    for index, (at_s, _) in enumerate(handed):
        # Each sink call takes 4 ms; adding those up would make the last one 80 ms late.
        assert at_s == pytest.approx(index * 0.01, abs=1e-6)


def test_it_starts_and_stops_anywhere() -> None:
    handed: list[int] = []
    player = Player(
        {NmeaItem: lambda item: handed.append(item.t_ns // MS)},
        speed=1000,
        from_ns=500 * MS,
        until_ns=900 * MS,
    )
    asyncio.run(player.play(ITEMS))
    assert handed == [500, 600, 700, 800]
    assert player.now_ns == 800 * MS


def test_items_nobody_wants_are_passed_over_and_a_failing_sink_is_heard_of() -> None:
    asyncio.run(Player({}, speed=1000).play([IgnitionItem(0, on=True)]))

    def sink(_: IgnitionItem) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(Player({IgnitionItem: sink}).play([IgnitionItem(0, on=True)]))


def test_a_speed_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        Player({}, speed=0)
