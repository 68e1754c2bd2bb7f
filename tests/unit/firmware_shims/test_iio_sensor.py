"""Analogue inputs and accelerometers out of the kernel's files, also broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.app import devices
from agent.config import ConfigError
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from firmware_shims.iio_sensor import Accelerometer, AccelerometerIio, AnalogIio, AnalogInput
from firmware_shims.system_clock import SystemClock

OXYGEN = "Ambulance.Oxygen.Pressure"


def analog(file: Path, **more: float) -> AnalogInput:
    settings = AnalogIio.model_validate(
        {
            "name": "oxygen",
            "path": str(file),
            "signal": OXYGEN,
            "unit": "kPa",
            "scale": 10,
            "offset": -500,
            **more,
        }
    )
    return AnalogInput(settings, SystemClock())


def test_a_raw_value_becomes_one_in_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "in_voltage0_raw"
    file.write_text("1550\n")
    (sample,) = analog(file).take()
    assert (sample.signal, sample.value, sample.unit) == (OXYGEN, 15_000, "kPa")


@pytest.mark.parametrize(("raw", "value"), [("0", None), ("4095", None), ("1000", 9500)])
def test_a_broken_or_shorted_wire_is_no_value(tmp_path: Path, raw: str, value: float | None) -> None:
    file = tmp_path / "in_voltage0_raw"
    file.write_text(raw)
    (sample,) = analog(file, lowest=0, highest=25_000).take()
    assert sample.value == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "what", "\xff\xfe", "1e999"])
def test_what_is_no_number_is_no_reading(tmp_path: Path, text: str) -> None:
    file = tmp_path / "in_voltage0_raw"
    file.write_text(text, encoding="latin-1")
    assert analog(file).take() == ()


def test_an_input_that_is_not_there_or_not_the_only_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFoundError, match="no such input"):
        analog(tmp_path / "in_voltage0_raw").take()
    for number in (0, 1):
        (tmp_path / f"in_voltage{number}_raw").write_text("1")
    with pytest.raises(DeviceNotFoundError, match="2 fit; name one"):
        analog(tmp_path / "in_voltage*_raw").take()


def accelerometer(folder: Path, **more: str) -> Accelerometer:
    settings = AccelerometerIio.model_validate({"directory": str(folder), **more})
    return Accelerometer(settings, SystemClock())


def test_both_axes_are_read_in_the_vehicles_own_directions(tmp_path: Path) -> None:
    for axis, raw in (("x", 100), ("y", -200), ("z", 980)):
        (tmp_path / f"in_accel_{axis}_raw").write_text(str(raw))
    (tmp_path / "in_accel_scale").write_text("0.01")
    along, across = accelerometer(tmp_path, ahead="-y", left="x").take()
    assert (along.signal, along.value) == ("Acceleration.Longitudinal", 2.0)
    assert (across.signal, across.value) == ("Acceleration.Lateral", 1.0)


def test_an_accelerometer_that_goes_away_is_lost(tmp_path: Path) -> None:
    (tmp_path / "in_accel_scale").write_text("0.01")
    with pytest.raises(DeviceLostError):
        accelerometer(tmp_path).take()


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"kind": "accelerometer_iio", "ahead": "x", "left": "-x"}, "ahead and left are the same axis"),
        ({"kind": "analog_iio", "name": "a", "signal": OXYGEN, "scale": 0}, "every value would be the same"),
        (
            {"kind": "analog_iio", "name": "a", "signal": OXYGEN, "scale": 1, "lowest": 3, "highest": 3},
            "lowest must be",
        ),
    ],
)
def test_a_block_that_can_not_be_right_is_refused(
    tmp_path: Path, block: dict[str, object], words: str
) -> None:
    table = {
        "unit": {"agency": "test", "unit": "A1"},
        "uplink": {"brokers": [{"host": "b.example.org", "port": 1883, "allow_plaintext": True}]},
        "device": [block],
    }
    with pytest.raises(ConfigError, match=words):
        devices.validate(table, tmp_path / "agent.toml")
