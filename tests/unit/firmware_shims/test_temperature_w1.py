"""The 1-wire probe: what is no measurement is never given as one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from agent.hal.samples import Sample
from firmware_shims.system_clock import SystemClock
from firmware_shims.temperature_w1 import TemperatureW1, W1Probe


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "28-0000074f5b2a"
    folder.mkdir()
    return folder / "temperature"


def probe(tmp_path: Path) -> W1Probe:
    return W1Probe(TemperatureW1(path=str(tmp_path / "*" / "temperature")), SystemClock())


def values(samples: tuple[Sample, ...]) -> list[object]:
    return [sample.value for sample in samples]


@pytest.mark.parametrize(
    ("text", "value"),
    [("21437\n", 21.437), ("-2062\n", -2.062), ("0\n", 0.0), ("125000\n", 125.0), ("-55000\n", -55.0)],
)
def test_millidegrees_become_degrees(tmp_path: Path, file: Path, text: str, value: float) -> None:
    file.write_text(text)
    (sample,) = probe(tmp_path).take()
    assert (sample.signal, sample.value, sample.unit) == (
        "Ambulance.PatientCompartment.Temperature",
        value,
        "celsius",
    )


@pytest.mark.parametrize("text", ["85000\n", "125001", "-55001", "", "\n", "nan", "21,4", "\xff", "1" * 5000])
def test_what_is_no_measurement_is_no_sample(tmp_path: Path, file: Path, text: str) -> None:
    file.write_text(text, encoding="latin-1")
    assert not probe(tmp_path).take()


def test_a_missing_probe_is_lost_and_never_zero(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFoundError, match="no such probe"):
        probe(tmp_path).take()


def test_two_probes_under_one_pattern_are_not_mixed(tmp_path: Path, file: Path) -> None:
    file.write_text("20000")
    second = tmp_path / "28-1" / "temperature"
    second.parent.mkdir()
    second.write_text("30000")
    with pytest.raises(DeviceNotFoundError, match="2 probes; name one"):
        probe(tmp_path).take()


def test_a_probe_is_read_until_it_is_unplugged(tmp_path: Path, file: Path) -> None:
    file.write_text("19500")

    async def main() -> None:
        feed = probe(tmp_path)
        feed._interval_s = 0.01
        with pytest.raises(DeviceLostError, match="not open"):
            await feed.read()
        await feed.open()
        assert values(tuple(await feed.read())) == [19.5]
        file.write_text("85000")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await feed.read()
        file.write_text("20000")
        async with asyncio.timeout(20):
            assert values(tuple(await feed.read())) == [20.0]
        file.unlink()
        with pytest.raises(DeviceNotFoundError):
            async with asyncio.timeout(20):
                await feed.read()
        await feed.close()
        await feed.close()

    asyncio.run(main())


def test_a_reading_under_way_survives_a_cancelled_read(tmp_path: Path, file: Path) -> None:
    file.write_text("19500")

    async def main() -> None:
        feed = probe(tmp_path)
        await feed.open()
        waiting = asyncio.create_task(feed.read())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with asyncio.timeout(20):
            assert values(tuple(await feed.read())) == [19.5]
        await feed.close()

    asyncio.run(main())
