"""The runs' times, read from a real store: withdrawn, amended, corrected, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent.cli.run_times import table
from agent.config import Store
from agent.domain.health import HealthBoard
from agent.domain.record import (
    Amendment,
    Body,
    CallRecord,
    ClockCorrection,
    Draft,
    EvidenceRecord,
    StatusChange,
    Withdrawal,
)
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.domain.time_base import TimeBase
from agent.outbox.outbox import Outbox
from agent.paths import run_log
from agent.paths.run_log import RunLog
from hil.sim.inline_worker import InlineWorker
from hil.sim.manual_clock import ManualClock

S = 1_000_000_000
T0 = 1_789_387_200_000  # 2026-09-14T12:00:00Z


class Bench:
    def __init__(self, folder: Path) -> None:
        clock = ManualClock(lambda: 100 * S, boot_id="ab" * 16, unix_ms=T0)
        self.outbox = Outbox(Store(directory=folder), clock, InlineWorker(), HealthBoard())
        self.log = RunLog(self.outbox, TimeBase(), {"en_route": "3"})

    async def put(self, minute: int, body: Body, *, timed: bool = True) -> int:
        utc = Utc(T0 + minute * 60_000, UtcSource.GNSS, 20) if timed else None
        return await self.outbox.put(Draft(Stamp(minute * 60 * S, utc), body))

    async def press(self, minute: int, status: str, incident: str | None = "I-1", **more: Any) -> int:
        evidence = EvidenceRecord(odometer_m=100_000 + minute * 1000)
        body = StatusChange(status, None, status, None, incident=incident, evidence=evidence)
        return await self.put(minute, body, **more)


def at(folder: Path, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(folder)
        await bench.outbox.open()
        try:
            await scenario(bench)
        finally:
            await bench.outbox.close()

    asyncio.run(main())


def when(run: dict[str, Any]) -> dict[str, str | None]:
    return {time["status"]: time["utc"] and time["utc"][11:16] for time in run["times"]}


def test_a_call_gives_the_times_that_nobody_presses_and_the_response_mode(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.put(0, CallRecord("received", "I-1", response_mode="lights_and_siren"))
        await bench.put(1, CallRecord("acknowledged", "I-1"))
        await bench.press(2, "en_route")
        await bench.put(4, CallRecord("updated", "I-1", response_mode="normal"))
        await bench.press(9, "on_scene")
        await bench.press(20, "available")
        (run,) = (await bench.log.snapshot())["runs"]
        assert when(run) == {
            "dispatched": "12:00",
            "acknowledged": "12:01",
            "en_route": "12:02",
            "on_scene": "12:09",
            "available": "12:20",
        }
        assert run["nemsis"]["eTimes.03"] == "2026-09-14T12:00:00+00:00"
        assert run["nemsis"]["eResponse.23"] == "2223003"
        assert run["times"][2]["code"] == "3"
        assert {leg["name"]: (leg["seconds"], leg["km"]) for leg in run["legs"]} == {
            "turnout": (120, None),
            "response": (420, 7),
        }

    at(tmp_path, scenario)


def test_what_was_taken_back_is_no_time_and_what_was_amended_has_its_new_one(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.press(2, "en_route")
        mistaken = await bench.press(3, "on_scene")
        await bench.put(4, Withdrawal(mistaken, "status"))
        late = await bench.press(9, "transporting")
        await bench.put(10, Amendment(late, "status", "status", "transporting", "on_scene"))
        await bench.put(11, Amendment(late, "status", "utc", None, "2026-09-14T12:07:00.000Z"))
        said = await bench.log.snapshot()
        (run,) = said["runs"]
        assert when(run) == {"en_route": "12:02", "on_scene": "12:07"}
        assert run["times"][1]["amended"]
        assert (said["amendments"], said["withdrawals"]) == (2, 1)
        text = "\n".join(table(said))
        assert "on_scene         2026-09-14T12:07:00.000+00:00" in text
        assert "amended" in text
        assert "0:05:00" in text
        assert "1 runs; 2 amended, 1 taken back" in text

    at(tmp_path, scenario)


def test_a_diversion_and_a_cancellation_keep_both_clocks(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.put(0, CallRecord("received", "I-1"))
        await bench.press(2, "en_route")
        await bench.put(5, CallRecord("diverted", "I-1"))
        await bench.put(5, CallRecord("received", "I-2", diverted_from="I-1"))
        await bench.put(6, CallRecord("cancelled", "I-1"))
        await bench.press(7, "en_route", "I-2")
        await bench.put(8, CallRecord("cancelled", "I-2"))
        first, second = (await bench.log.snapshot())["runs"]
        assert (first["incident"], when(first)) == ("I-1", {"dispatched": "12:00", "en_route": "12:02"})
        assert not first["closed"]
        assert when(second) == {"dispatched": "12:05", "en_route": "12:07", "cancelled": "12:08"}
        assert second["closed"]

    at(tmp_path, scenario)


def test_a_press_without_a_time_gets_it_from_the_clock_record_of_its_boot(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.press(2, "en_route", timed=False)
        (run,) = (await bench.log.snapshot())["runs"]
        assert when(run) == {"en_route": None}
        assert run["nemsis"] == {"eResponse.03": "I-1", "eResponse.19": "63.38"}
        boot = bench.outbox.boot
        await bench.put(3, ClockCorrection(boot, 0, 10_000_000, T0, int(UtcSource.GNSS), 20))
        (run,) = (await bench.log.snapshot())["runs"]
        assert when(run) == {"en_route": "12:02"}

    at(tmp_path, scenario)


def test_only_the_newest_records_are_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(run_log, "MOST_RECORDS", 300)
    monkeypatch.setattr(run_log, "MOST_RUNS", 20)

    async def scenario(bench: Bench) -> None:
        for run in range(200):
            await bench.press(run, "en_route", f"I-{run}")
            await bench.press(run, "available", f"I-{run}")
        said = await bench.log.snapshot()
        assert said["from_seq"] == 101
        assert [run["incident"] for run in said["runs"]] == [f"I-{number}" for number in range(180, 200)]

    at(tmp_path, scenario)
