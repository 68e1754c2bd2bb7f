"""OBD-II over ISO-TP where the kernel has none: whole answers, hostile ones, and a line that is not there."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.app import devices
from agent.app.recording import Recorded, record
from agent.app.vehicle_platform import VehiclePlatform
from agent.config import ConfigError
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from firmware_shims.obd_line import FrameLine, ObdIsotp, ObdLine
from firmware_shims.simulated.obd_ecu import PlayedEcu, PlayedFrames
from firmware_shims.system_clock import SystemClock

SETTINGS = ObdIsotp(channel="can1", vehicle=Path("van.toml"))
VIN = b"1FDXE4FS8HDC12345"


def asked(ecu: PlayedEcu, request: bytes, timeout_s: float = 5) -> bytes | None:
    async def main() -> bytes | None:
        line = ObdLine(SETTINGS, SystemClock(), open_frames=lambda *_: PlayedFrames(ecu), by_kernel=False)
        await line.open()
        try:
            return await line.ask(ecu.listens, request, timeout_s)
        finally:
            await line.close()

    return asyncio.run(main())


def test_an_answer_of_several_frames_is_put_together() -> None:
    ecu = PlayedEcu({b"\x09\x02": b"\x49\x02\x01" + VIN})
    assert asked(ecu, b"\x09\x02") == b"\x49\x02\x01" + VIN
    assert ecu.requests == [b"\x09\x02"]
    assert ecu.padded


def test_a_long_list_of_codes_needs_several_flow_controls() -> None:
    answer = bytes([0x43, 100]) + bytes(range(1, 201))
    assert asked(PlayedEcu({b"\x03": answer}), b"\x03") == answer


def test_silence_is_no_answer() -> None:
    assert asked(PlayedEcu({}), b"\x03", timeout_s=0.1) is None


class Babble(PlayedEcu):
    """A control unit that says whatever it likes."""

    def __init__(self, said: list[bytes]) -> None:
        super().__init__({})
        self.said = said

    def take(self, can_id: int, data: bytes) -> None:
        del can_id, data
        self.frames.extend((0x7E8, one) for one in self.said)
        self.said = []


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=8), max_size=12))
def test_whatever_is_answered_the_line_goes_on(said: list[bytes]) -> None:
    answer = asked(Babble(said), b"\x03", timeout_s=0.05)
    assert answer is None or len(answer) <= 4095


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENODEV, DeviceNotFoundError), (errno.EPERM, DeviceNotFoundError), (errno.EIO, DeviceLostError)],
)
def test_a_line_that_fails_is_told_in_words(number: int, kind: type[Exception]) -> None:
    def broken(channel: str, answer_id: int) -> FrameLine:
        raise OSError(number, "as the kernel says")

    async def main() -> None:
        line = ObdLine(SETTINGS, SystemClock(), open_frames=broken, by_kernel=False)
        try:
            await line.open()
        finally:
            await line.close()

    with pytest.raises(kind):
        asyncio.run(main())


def test_the_interface_that_is_listened_on_can_not_be_asked_on(tmp_path: Path) -> None:
    vehicle = Path(__file__).parents[3] / "config" / "vehicles" / "obd2_van.toml"
    blocks = [
        {"kind": kind, "channel": "can0", "vehicle": str(vehicle)} for kind in ("can_socketcan", "obd_isotp")
    ]
    table = {
        "unit": {"agency": "test", "unit": "A1"},
        "uplink": {"brokers": [{"host": "b.example.org", "port": 1883, "allow_plaintext": True}]},
        "device": blocks,
    }
    with pytest.raises(ConfigError, match="interface can0 is used twice"):
        devices.validate(table, tmp_path / "agent.toml")


def test_a_recording_leaves_out_what_must_be_asked(tmp_path: Path) -> None:
    """`mdt record` only listens, and nothing is sent because somebody records."""
    vehicle = Path(__file__).parents[3] / "config" / "vehicles" / "obd2_van.toml"
    table = {
        "unit": {"agency": "test", "unit": "A1"},
        "uplink": {"brokers": [{"host": "b.example.org", "port": 1883, "allow_plaintext": True}]},
        "device": [{"kind": "obd_isotp", "channel": "can7", "vehicle": str(vehicle)}],
    }
    config = devices.validate(table, tmp_path / "agent.toml")

    async def main() -> Recorded:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, stop.set)
        return await record(config, VehiclePlatform(), tmp_path / "out.mcap", stop)

    assert asyncio.run(main()) == Recorded(None, (), {})
