"""Small inputs of vehicle buses that once failed elsewhere: the right values, through a person's commands."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli.decode_can import decode_can
from agent.hal.can import CanFrame
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.vehicle_file import load_vehicle_file
from firmware_shims.can_bus import CanBus, Slcan
from firmware_shims.simulated.slcan_adapter import PtySlcanAdapter
from firmware_shims.system_clock import SystemClock

CASES = Path(__file__).resolve().parents[3] / "shared" / "feeds" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the recorded feeds are not on this machine")


def decoded(log: str, vehicle: str = "can_motion") -> tuple[list[tuple[str, Any]], str]:
    out, err = io.StringIO(), io.StringIO()
    code = decode_can(CASES / log, CASES / f"{vehicle}.toml", out, err)
    assert code == 0, err.getvalue()
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    return [(row["name"], row["value"]) for row in rows], err.getvalue()


def test_short_frames_give_the_signals_whose_bits_arrived() -> None:
    values, err = decoded("short_frame.log")
    assert values == [("Speed", 100), ("Speed", 100.16)]
    assert "3 frames shorter" in err


def test_a_log_goes_on_behind_a_torn_line() -> None:
    values, err = decoded("power_cut_torn_line.log")
    assert values == [("Speed", 100), ("Speed", 100.32)]
    assert "1 line unreadable" in err


def test_the_form_of_the_screen_is_read() -> None:
    values, err = decoded("candump_view.txt")
    assert values == [("Speed", 100), ("Speed", 100.16)]
    assert "1 error frame of the controller" in err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val_without_semicolon", ("Powertrain.Transmission.SelectedGear", 127)),
        ("long_names", ("Speed", 100)),
        ("unit_that_is_none", ("Cabin.Locks.State", "OPEN")),
    ],
)
def test_what_makers_write_is_understood(name: str, expected: tuple[str, Any]) -> None:
    assert decoded(f"{name}.log", name)[0] == [expected]


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r", b"\r\nSLCAN ready v1.2\r\n"])
def test_an_adapter_with_other_line_ends_and_chatter_costs_no_frame(tmp_path: Path, end: bytes) -> None:
    data = (CASES / "slcan_crlf.bytes").read_bytes().replace(b"\r\n", end)
    vehicle = CASES / "can_motion.toml"
    decoder = compile_decoder(load_vehicle_file(vehicle), vehicle)

    async def script() -> list[CanFrame]:
        adapter = PtySlcanAdapter(tmp_path / "slcan0")
        adapter.plug()
        bus = CanBus(Slcan(device=str(adapter.link), vehicle=vehicle), SystemClock())
        bus.listen_for(decoder.filters())
        frames: list[CanFrame] = []
        async with asyncio.timeout(30):
            await bus.open()
            await adapter.wait_open()
            assert adapter.send_bytes(b"\r" + data)
            while len(frames) < 5:
                frames += await bus.read()
        assert bus.overruns == 0
        await bus.close()
        adapter.unplug()
        return frames

    speeds = [signal.value for frame in asyncio.run(script()) for signal in decoder.decode(frame)]
    assert speeds == [100, 101, 102, 103, 104]
