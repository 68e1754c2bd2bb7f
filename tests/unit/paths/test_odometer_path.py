"""The count is on the disk where a power cut would cost something, and the card is spared everywhere else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Draft, SourceSwitch
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.outbox.outbox import Outbox
from agent.paths.odometer_path import OdometerPath
from agent.paths.run_memory import RunMemory
from agent.runtime.worker import ThreadWorker

S = 1_000_000_000


class Bench:
    """An odometer with a disk, second by second."""

    def __init__(self, folder: Path) -> None:
        self.now_ns = 0
        self.staged: list[Draft] = []
        self.health = HealthBoard()
        self.writes: list[int] = []
        memory = RunMemory(
            folder / "odometer.json", ThreadWorker(), self.health, reason=HealthReason.ODOMETER_NOT_KEPT
        )
        keep = memory.keep

        def counted(picture: Any) -> asyncio.Future[None]:
            self.writes.append(self.now_ns // S)
            return keep(picture)

        memory.keep = counted  # type: ignore[method-assign]
        self.path = OdometerPath(cast("Clock", self), TimeBase(), cast("Outbox", self), memory)

    def boottime_ns(self) -> int:
        return self.now_ns

    def stage(self, draft: Draft) -> None:
        self.staged.append(draft)

    def drive(self, seconds: int, speed_mps: float) -> None:
        for _ in range(seconds):
            self.now_ns += S
            self.path.on_wheels(speed_mps, self.now_ns)


def test_the_card_is_written_every_half_minute_under_way_and_at_rest_once(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.path.open()
        bench.drive(600, 10)
        assert len(bench.writes) <= 20
        bench.drive(600, 0)
        assert bench.writes[-1] <= 605
        assert len(bench.writes) <= 21
        await bench.path.close()

    asyncio.run(main())


def test_count_and_scale_go_on_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.path.open()
        bench.path.scale = 1.031
        bench.drive(100, 10)
        told = bench.path.reading()
        assert told is not None
        await bench.path.close()
        again = Bench(tmp_path)
        await again.path.open()
        assert again.path.scale == 1.031
        assert again.path.now() is None
        again.drive(2, 0)
        reading = again.path.now()
        assert reading is not None
        assert told.metres <= reading.metres <= told.metres + 1
        assert [draft.body for draft in again.staged] == [SourceSwitch("odometer", "wheels", None, "counts")]
        await again.path.close()

    asyncio.run(main())


def test_what_was_told_is_on_the_disk_before_a_power_cut(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.path.open()
        bench.drive(69, 10)
        told = bench.path.reading()
        assert told is not None
        file = tmp_path / "odometer.json"
        for _ in range(500):
            if file.exists() and _kept_m(file) >= told.metres:
                break
            await asyncio.sleep(0.01)
        kept_m = _kept_m(file)
        await bench.path.close()
        assert kept_m >= told.metres

    asyncio.run(main())


def _kept_m(file: Path) -> float:
    metres: float = json.loads(file.read_text(encoding="utf-8"))["odometer"]["metres"]
    return metres


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"v": 1}', '{"v": 1, "odometer": 7, "wheel_scale": 1}',
     '{"v": 1, "odometer": {"metres": 5, "source": "wheels", "vehicle": null}, "wheel_scale": "much"}',
     '{"v": 1, "odometer": {"metres": 5, "source": "wheels", "vehicle": null}, "wheel_scale": NaN}'],
)  # fmt: skip
def test_a_mangled_file_costs_what_it_said_and_nothing_else(tmp_path: Path, text: str) -> None:
    async def main() -> None:
        (tmp_path / "odometer.json").write_text(text)
        bench = Bench(tmp_path)
        await bench.path.open()
        assert bench.path.scale == 1.0
        bench.drive(100, 10)
        assert bench.path.now() is not None
        await bench.path.close()

    asyncio.run(main())


def test_a_bus_with_a_loose_plug_does_not_fill_the_journal(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.path.open()
        for second in range(0, 3600, 12):
            if second % 24 == 0:
                for _ in range(4):
                    bench.path.on_vehicle(100_000 + second * 10, bench.now_ns)
            bench.drive(12, 10)
        assert len(bench.staged) <= 61
        await bench.path.close()

    asyncio.run(main())
