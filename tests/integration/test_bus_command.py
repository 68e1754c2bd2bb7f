"""`mdt bus` on a live adapter and over logs, as a technician uses it."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main
from firmware_shims.simulated.slcan_adapter import PtySlcanAdapter

ROOT = Path(__file__).resolve().parents[2]
FEEDS = ROOT.parent / "shared" / "feeds"
DEMO = ROOT / "config" / "vehicles" / "demo_ambulance.toml"
MDT = str(Path(sys.executable).parent / "mdt")
CONFIG = """
unit = {{ agency = "demo", unit = "T1" }}
[[device]]
kind = "can_slcan"
device = "{device}"
bitrate = 500000
vehicle = "{vehicle}"
[[uplink.brokers]]
host = "127.0.0.1"
allow_plaintext = true
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


async def live(folder: Path, *options: str, bit_rate: int = 500_000) -> tuple[int, dict[str, Any], str]:
    """`mdt bus` beside an adapter whose bus is heard at one bit rate only."""
    adapter = PtySlcanAdapter(folder / "slcan0")
    adapter.plug()
    config = folder / "agent.toml"
    config.write_text(CONFIG.format(device=adapter.link, vehicle=DEMO), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        MDT, "bus", "--config", str(config), "--json", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def speak() -> None:
        number = 0
        while True:
            if adapter.firmware.bitrate == bit_rate:
                number += 1
                speed = (1000 + number % 500).to_bytes(2, "little").ljust(8, b"\0")
                adapter.send([(0x120, False, speed), (0x7E0, False, b"\x02\x01\x0d")])
            await asyncio.sleep(0.01)

    speaking = asyncio.create_task(speak())
    try:
        async with asyncio.timeout(55):
            out, err = await process.communicate()
    finally:
        speaking.cancel()
        with suppress(asyncio.CancelledError):
            await speaking
        with suppress(ProcessLookupError):
            process.kill()
        adapter.unplug()
    assert adapter.transmit_requests == []
    assert process.returncode is not None
    return process.returncode, json.loads(out) if out else {}, err.decode()


def test_a_live_bus(folder: Path) -> None:
    code, answer, err = asyncio.run(live(folder, "--for", "1"))
    assert code == 0, err
    bus = answer["buses"]["can0"]
    assert bus["frames"] > 10
    assert [one["id"] for one in bus["identifiers"]] == ["120", "7E0"]
    assert bus["identifiers"][0]["what"] == "Speed"
    assert 10 <= bus["signals"]["Speed"] <= 15
    assert "TraveledDistance" in bus["signals_never_heard"]


def test_the_bit_rate_of_a_live_bus_is_found_by_listening(folder: Path) -> None:
    code, answer, err = asyncio.run(live(folder, "--try-rates", "--for", "0.5", bit_rate=250_000))
    assert code == 0, err
    frames = answer["buses"]["can0"]["frames_at_bit_rate"]
    assert {rate for rate, count in frames.items() if count} == {"250000"}
    assert answer["buses"]["can0"]["frames"]


def test_an_adapter_that_is_not_there_is_told_with_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = folder / "agent.toml"
    config.write_text(CONFIG.format(device=folder / "none", vehicle=DEMO), encoding="utf-8")
    assert main(["bus", "--config", str(config)]) == 69
    err = capsys.readouterr().err
    assert "No such file or directory" in err
    assert "is it plugged in" in err
    assert main(["bus", "--config", str(config), "--device", "can7"]) == 78
    assert "no bus 'can7'" in capsys.readouterr().err


def test_a_foreign_log_names_its_identifiers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = folder / "a.log"
    log.write_text(
        "(1700000000.000000) can0 120#1027\n(1700000000.5(1700000001.000000) can0 18FEF100#FF\n"
        "(1700000001.100000) can1 300#\n",
        encoding="utf-8",
    )
    assert main(["bus", str(log), "--vehicle", str(DEMO)]) == 0
    out, err = capsys.readouterr()
    assert "can0: 2 frames, 2 identifiers" in out
    assert "can1: 1 frames" in out
    assert "18FEF100" in out
    assert "1 of 37 known signals appear" in out
    assert "never: TraveledDistance" in out
    assert "1 lines unreadable" in err
    assert main(["bus", str(log), "--vehicle", str(folder / "no.toml")]) == 78
    assert main(["bus", str(folder / "no.log")]) == 66


def test_the_recorded_car(capsys: pytest.CaptureFixture[str]) -> None:
    if not FEEDS.is_dir():
        pytest.skip("the recorded feeds are not on this machine")
    log = FEEDS / "can" / "comma2k19_rav4_first15s.log"
    vehicle = ROOT / "config" / "vehicles" / "toyota_rav4_2018.toml"
    dbc = FEEDS / "dbc" / "toyota_nodsu_pt_generated.dbc"
    assert main(["bus", str(log), "--vehicle", str(vehicle), "--dbc", str(dbc), "--json"]) == 0
    bus = json.loads(capsys.readouterr().out)["buses"]["can0"]
    assert bus["bit_rate_guess"] == 500_000
    assert bus["signals_never_heard"] == []
    rates = {one["what"]: one["rate_per_s"] for one in bus["identifiers"]}
    assert rates["Speed"] == pytest.approx(41.5, abs=0.5)
    assert "(KINEMATICS)" in rates
