"""Health records and state/health: told once, bounded by the hour, and never silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Draft, Health
from agent.domain.state import HealthState, State
from agent.domain.time_base import TimeBase
from agent.outbox.backlog import Backlog
from agent.paths.health_path import HealthPath
from hil.sim.manual_clock import ManualClock
from hil.sim.virtual_loop import VirtualLoop


class Journal:
    """What the path writes: health records in order, with their times."""

    def __init__(self) -> None:
        self.records: list[Health] = []

    def stage(self, draft: Draft) -> None:
        assert isinstance(draft.body, Health)
        self.records.append(draft.body)

    def backlog(self) -> Backlog:
        return Backlog({}, 0, 0, 0, 0)


class States:
    """The states that are published."""

    def __init__(self) -> None:
        self.told: list[HealthState] = []

    def set_state(self, state: State) -> None:
        assert isinstance(state, HealthState)
        self.told.append(state)


class Bench:
    """A health path in simulated time."""

    def __init__(self) -> None:
        self.board, self.journal, self.states = HealthBoard(), Journal(), States()
        self.path = HealthPath(
            board=self.board,
            clock=ManualClock.of_loop("ab" * 16, 0),
            time_base=TimeBase(),
            outbox=self.journal,  # type: ignore[arg-type]  # the two calls of it that are used
            states=self.states,
            interval_s=60,
        )

    def newest(self) -> HealthState:
        return self.states.told[-1]


def simulate(work: Callable[[Bench], Awaitable[None]]) -> Bench:
    async def main() -> Bench:
        bench = Bench()
        unit = asyncio.get_running_loop().create_task(bench.path.run(lambda: None))
        try:
            await work(bench)
        finally:
            unit.cancel()
            await asyncio.gather(unit, return_exceptions=True)
        return bench

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def test_the_first_record_says_that_all_is_well_and_nothing_follows_while_nothing_changes() -> None:
    bench = simulate(lambda _: asyncio.sleep(600))
    assert bench.journal.records == [Health((), (), ())]
    assert 10 <= len(bench.states.told) <= 12


def test_a_reason_is_recorded_when_it_begins_and_when_it_ends() -> None:
    async def work(bench: Bench) -> None:
        await asyncio.sleep(1)
        bench.board.raise_(HealthReason.GNSS_LOST, "unplugged")
        await asyncio.sleep(0.5)
        assert bench.newest().details == (("gnss_lost", "unplugged"),)
        bench.board.clear(HealthReason.GNSS_LOST)
        await asyncio.sleep(0.5)
        assert bench.newest().reasons == ()

    assert simulate(work).journal.records[1:] == [
        Health(("gnss_lost",), ("gnss_lost",), ()),
        Health((), (), ("gnss_lost",)),
    ]


def test_a_reason_that_flaps_for_an_hour_makes_few_records_and_is_counted() -> None:
    async def work(bench: Bench) -> None:
        for _ in range(3600):
            bench.board.raise_(HealthReason.CAN_SILENT, "no frame")
            await asyncio.sleep(0.5)
            bench.board.clear(HealthReason.CAN_SILENT)
            await asyncio.sleep(0.5)
        # Told steadily all the while, with its count.
        reason, detail = bench.newest().details[0]
        assert reason == "can_silent"
        assert "came and went 35" in detail
        await asyncio.sleep(310)
        assert bench.newest().reasons == ()

    bench = simulate(work)
    assert len(bench.journal.records) <= 6
    assert bench.journal.records[-1] == Health((), (), ("can_silent",))


def test_every_reason_flapping_at_once_stays_below_sixty_records_an_hour() -> None:
    async def work(bench: Bench) -> None:
        for number in range(3600):
            for place, reason in enumerate(HealthReason):
                # Each with its own pace, so that they never change together.
                if (number // (7 + place)) % 2:
                    bench.board.raise_(reason)
                else:
                    bench.board.clear(reason)
            await asyncio.sleep(1)
        await asyncio.sleep(120)
        # What holds is told, whatever the budget left out.
        assert set(bench.newest().reasons) >= {str(reason) for reason in bench.board.reasons()}

    bench = simulate(work)
    assert len(bench.journal.records) <= 60 + 2
    told: set[str] = set()
    for record in bench.journal.records:
        told = (told | set(record.raised)) - set(record.cleared)
        assert told == set(record.reasons), "records follow from each other, also when some waited"


def test_a_reason_raised_while_the_budget_is_spent_is_in_the_live_state_at_once() -> None:
    async def work(bench: Bench) -> None:
        reasons = list(HealthReason)
        for reason in reasons[:12]:
            for act in (bench.board.raise_, bench.board.clear):
                act(reason)
                await asyncio.sleep(0.5)
        written = len(bench.journal.records)
        bench.board.raise_(HealthReason.STORE_FULL, "no space")
        await asyncio.sleep(0.5)
        assert "store_full" in bench.newest().reasons
        assert len(bench.journal.records) == written
        await asyncio.sleep(100)
        assert bench.journal.records[-1].raised == ("store_full",)

    simulate(work)
