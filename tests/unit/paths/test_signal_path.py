"""Signals become telemetry and the live state, whatever device they come from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.config import Store
from agent.domain.health import HealthBoard
from agent.domain.power import IGNITION
from agent.domain.record import Draft, Telemetry
from agent.domain.state import State, VehicleState
from agent.domain.telemetry import TelemetryPolicy
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.outbox.outbox import Outbox
from agent.paths.signal_path import SignalPath
from hil.sim.inline_worker import InlineWorker
from hil.sim.manual_clock import ManualClock
from hil.sim.virtual_loop import VirtualLoop

NAME = "Ambulance.PatientCompartment.Temperature"


class NotedOutbox(Outbox):
    """Notes what is staged."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        super().__init__(Store(directory=folder), clock, InlineWorker(), HealthBoard())
        self.staged: list[dict[str, object]] = []

    def stage(self, draft: Draft) -> None:
        if isinstance(draft.body, Telemetry):
            self.staged.append(dict(draft.body.signals))


class Bench:
    """A signal path alone; time is the loop's."""

    def __init__(self, folder: Path, stale_after_s: float = 60) -> None:
        self.clock = ManualClock.of_loop("ab" * 16, 0)
        self.outbox = NotedOutbox(folder, self.clock)
        self.states: list[VehicleState] = []
        self.switched: list[bool] = []
        self.path = SignalPath(
            TelemetryPolicy(interval_s=5, stale_after_s_of={NAME: stale_after_s, IGNITION: 10_000}),
            self.clock,
            TimeBase(),
            outbox=self.outbox,
            states=self,
            on_ignition=self.switched.append,
        )

    def set_state(self, state: State) -> None:
        assert isinstance(state, VehicleState)
        self.states.append(state)

    def hear(self, value: float | str, name: str = NAME) -> None:
        self.path.on_signals([Signal(name, value, self.clock.boottime_ns())])

    async def run(self, act: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self.path.run(lambda: None))
        await asyncio.sleep(0)
        await act()
        task.cancel()
        await asyncio.wait([task])


def on_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_reading_reaches_record_and_state_without_a_bus(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)

        async def act() -> None:
            bench.hear(21.5)
            await asyncio.sleep(6)

        await bench.run(act)
        assert bench.outbox.staged == [{NAME: 21.5}]
        assert dict(bench.states[-1].signals) == {NAME: 21.5}
        assert bench.path.snapshot() == {NAME: 21.5}

    on_virtual_time(main)


def test_what_does_not_change_is_told_once(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)

        async def act() -> None:
            for _ in range(30):
                bench.hear(21.5)
                await asyncio.sleep(1)

        await bench.run(act)
        assert bench.outbox.staged == [{NAME: 21.5}]
        assert len({state.signals for state in bench.states}) == 1

    on_virtual_time(main)


def test_a_value_that_is_not_heard_for_its_age_is_unknown(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path, stale_after_s=20)

        async def act() -> None:
            bench.hear(21.5)
            await asyncio.sleep(15)
            assert bench.path.snapshot() == {NAME: 21.5}
            await asyncio.sleep(15)

        await bench.run(act)
        assert bench.outbox.staged == [{NAME: 21.5}, {NAME: None}]
        assert dict(bench.states[-1].signals) == {NAME: None}

    on_virtual_time(main)


def test_what_is_not_yet_due_is_recorded_at_the_stop(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)

        async def act() -> None:
            bench.hear(21.5)
            await asyncio.sleep(6)
            bench.hear(22.5)
            await asyncio.sleep(0.1)

        await bench.run(act)
        assert bench.outbox.staged[-1] == {NAME: 22.5}

    on_virtual_time(main)


def test_a_switched_ignition_is_told_after_what_was_true_is_recorded(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)

        async def act() -> None:
            bench.hear("ON", IGNITION)
            assert bench.switched == []  # nobody knows that it was off before
            await asyncio.sleep(6)
            bench.hear(30.0)
            bench.hear("OFF", IGNITION)
            assert bench.switched == [False]
            recorded = {name: value for record in bench.outbox.staged for name, value in record.items()}
            assert recorded == {NAME: 30.0, IGNITION: "OFF"}
            bench.hear("START", IGNITION)

        await bench.run(act)
        assert bench.switched == [False, True]

    on_virtual_time(main)


def test_the_live_state_tells_changes_at_intervals_and_the_whole_picture_now_and_then(tmp_path: Path) -> None:
    """[MDT-S-04]"""

    async def main() -> None:
        bench = Bench(tmp_path, stale_after_s=10_000)

        async def act() -> None:
            bench.hear("ON", IGNITION)
            for second in range(700):
                bench.hear(float(min(second, 320)))
                await asyncio.sleep(1)

        await bench.run(act)
        whole = [state for state in bench.states if state.complete]
        changes = [state for state in bench.states if state.complete is False]
        assert all({name for name, _ in state.signals} == {NAME, IGNITION} for state in whole)
        assert all({name for name, _ in state.signals} == {NAME} for state in changes)
        assert len(whole) == 3, "at the beginning, after five minutes, and once more what changed since"
        assert 30 <= len(changes) <= 34, "every ten seconds while it changes"
        picture = bench.states[0]
        for state in bench.states[1:]:
            picture = state.over(picture)
        assert dict(picture.signals) == {NAME: 320.0, IGNITION: "ON"}

    on_virtual_time(main)


def test_ignition_that_flaps_does_not_wear_the_card_and_ends_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)

        async def act() -> None:
            for n in range(300):
                bench.hear("OFF" if n % 2 else "ON", IGNITION)
                await asyncio.sleep(0.1)
            assert bench.switched.count(False) <= 4, "one in ten seconds"
            assert len(bench.outbox.staged) < 60
            bench.hear("OFF", IGNITION)
            await asyncio.sleep(11)
            assert bench.switched[-1] is False

        await bench.run(act)

    on_virtual_time(main)
