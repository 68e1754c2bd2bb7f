"""The black box beside the agent: what it writes is the vehicle's, and what it can not write is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.app.black_box import BlackBox
from agent.app.devices import validate
from agent.app.vehicle_platform import VehiclePlatform
from agent.config import Config
from agent.domain.health import HealthBoard, HealthReason
from agent.recorder import recorder as recorder_module
from hil.recording.mcap_file import RecordingReader


def configuration(folder: Path, **tables: object) -> Config:
    base = {
        "unit": {"agency": "test", "unit": "T1"},
        "uplink": {"brokers": [{"host": "127.0.0.1", "port": 9, "allow_plaintext": True}]},
    }
    return validate({**base, **tables}, folder / "agent.toml")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_disk_that_refuses_is_a_health_reason_until_it_takes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FLUSH_S", "RETRY_S", "TICK_S"):
        monkeypatch.setattr(recorder_module, name, 0.02)
    in_the_way = tmp_path / "recordings"
    in_the_way.write_text("a file where the folder should be")

    async def main() -> None:
        platform, health = VehiclePlatform(), HealthBoard()
        config = configuration(tmp_path, recorder={"directory": "recordings"})
        box = BlackBox(config, platform, platform.clock(), health)
        running = asyncio.create_task(box.recorder.run(lambda: None))
        await until(lambda: HealthReason.RECORDER_STOPPED in health.reasons())
        assert str(in_the_way) in health.details()[HealthReason.RECORDER_STOPPED]
        in_the_way.unlink()
        await until(lambda: health.reasons() == ())
        running.cancel()
        await asyncio.wait([running])
        await box.close()

    asyncio.run(main())
    (file,) = in_the_way.iterdir()
    reader = RecordingReader(file)
    list(reader.items())
    assert reader.found.metadata["unit"] == "test/T1"
    assert reader.found.damage is None


def test_without_a_table_for_it_there_is_no_black_box(tmp_path: Path) -> None:
    platform = VehiclePlatform()
    with pytest.raises(ValueError, match=r"no \[recorder\]"):
        BlackBox(configuration(tmp_path), platform, platform.clock(), HealthBoard())
