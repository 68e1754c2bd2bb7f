"""Vehicle files: what is wrong is said with file, key and value, everything at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config import ConfigError
from agent.sources.can import vss
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.vehicle_file import load_vehicle_file

DBC = """VERSION ""
BU_: ECU
BO_ 1 MOTION: 4 ECU
 SG_ VehicleSpeed : 0|16@1+ (0.01,0) [0|0] "km/h" ECU
 SG_ Gear : 16|4@1+ (1,0) [0|0] "" ECU
 SG_ Beyond : 24|16@1+ (1,0) [0|0] "km/h" ECU
 SG_ Strange : 20|4@1+ (1,0) [0|0] "furlong" ECU
VAL_ 1 Gear 0 "P" 1 "D" ;
"""


def problems(tmp_path: Path, toml: str) -> list[str]:
    (tmp_path / "v.dbc").write_text(DBC, encoding="utf-8")
    path = tmp_path / "vehicle.toml"
    path.write_text(toml, encoding="utf-8")
    try:
        compile_decoder(load_vehicle_file(path), path)
    except ConfigError as error:
        found = error.problems
    else:
        found = []
    where = re.compile(rf"{re.escape(str(path))}(:\d+)?: ")
    assert all(where.match(problem) for problem in found)
    return [where.sub("", problem, count=1) for problem in found]


def entry(message: str = "MOTION", signal: str = "VehicleSpeed", name: str = "Speed", more: str = "") -> str:
    return f'[[signals]]\nmessage = "{message}"\nsignal = "{signal}"\nname = "{name}"\n{more}\n'


def test_a_good_file(tmp_path: Path) -> None:
    assert problems(tmp_path, 'dbc = "v.dbc"\n' + entry()) == []


def test_unknown_names_come_with_the_closest_all_at_once(tmp_path: Path) -> None:
    toml = (
        'dbc = "v.dbc"\n'
        + entry(message="MOTON")
        + entry(signal="vehiclespeed", name="Exterior.AirTemperature")
    )
    first, second = problems(tmp_path, toml)
    assert first == "signals[0].message = 'MOTON': no such message in v.dbc; did you mean 'MOTION'?"
    assert second == (
        "signals[1].signal = 'vehiclespeed': no such signal in MOTION; did you mean 'VehicleSpeed'?"
    )


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('dbc = "v.dbc"\n', "signals: missing"),
        ('dbc = "no.dbc"\n' + entry(), "can not be read: No such file or directory"),
        ('dbc = "v.dbc"\nspeed = 1\n' + entry(), "speed = 1: no such key"),
        ('dbc = "v.dbc"\n' + entry(name="speed"), "signals[0].name = 'speed'"),
        ('dbc = "v.dbc"\n' + entry() + entry(), "signals[1].name = 'Speed': given twice"),
        ('dbc = "v.dbc"\n' + entry(more='unit = "mph"'), "unit = 'mph': VSS gives Speed in km/h"),
        ('dbc = "v.dbc"\n' + entry(more="scale = 0"), "scale = 0"),
        ('dbc = "v.dbc"\n' + entry(more="source_address = 3"), "only with protocol"),
        ('dbc = "v.dbc"\n' + entry(signal="Beyond"), "Beyond does not fit in the 4 bytes"),
        (
            'dbc = "v.dbc"\n' + entry(signal="Strange"),
            "the DBC gives 'furlong', which is not known to convert",
        ),
        (
            'dbc = "v.dbc"\n' + entry(signal="Strange", name="Own.Thing"),
            "unit: missing: the DBC gives 'furlong'",
        ),
        (
            'dbc = "v.dbc"\n' + entry(signal="Gear", name="Powertrain.Transmission.SelectedGear"),
            "map: missing: the DBC names the values of Gear",
        ),
        (
            'dbc = "v.dbc"\n' + entry(signal="Gear", name="Body.Trunk.Rear.IsOpen"),
            "map: missing: which raw values are true",
        ),
        (
            'dbc = "v.dbc"\n'
            + entry(signal="Gear", name="Powertrain.Transmission.SelectedGear", more="map = { P = true }"),
            "map.P = True: Powertrain.Transmission.SelectedGear is a number",
        ),
        (
            'dbc = "v.dbc"\n'
            + entry(
                signal="Gear", name="Powertrain.Transmission.SelectedGear", more="map = { Parked = 126 }"
            ),
            "map.Parked: neither a number nor a label of Gear",
        ),
        (
            'dbc = "v.dbc"\n'
            + entry(signal="Gear", name="Powertrain.Transmission.SelectedGear", more="map = { 16 = 126 }"),
            "map.16: Gear has 4 bits",
        ),
        (
            'dbc = "v.dbc"\n' + entry(signal="Gear", name="LowVoltageSystemState", more='map = { P = "GO" }'),
            "map.P = 'GO': LowVoltageSystemState is one of UNDEFINED, LOCK",
        ),
        ("dbc = ", "not TOML"),
        ('dbc = "v.dbc"\n' + entry(more="scale = 1e400"), "signals[0].scale = inf"),
        ('dbc = "v.dbc"\n' + entry(more="offset = nan"), "signals[0].offset = nan"),
        (
            'dbc = "v.dbc"\n' + entry(more="not_available = [99999999999999999999]"),
            "signals[0].not_available[0]",
        ),
        ('dbc = "v.dbc"\n' + entry(more="plausible = [250, 0]"), "the lowest must stand first"),
        ("a = " + "[" * 100_000, "not TOML"),
        ('dbc = "v.dbc"\n' + entry(more=f"scale = {'9' * 5000}"), "too long"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, toml: str, said: str) -> None:
    found = problems(tmp_path, toml)
    assert len(found) == 1
    assert said in found[0]


def test_labels_of_a_name_that_vss_does_not_have_are_words(tmp_path: Path) -> None:
    (tmp_path / "v.dbc").write_text(DBC, encoding="utf-8")
    path = tmp_path / "vehicle.toml"
    path.write_text('dbc = "v.dbc"\n' + entry(signal="Gear", name="Own.Lever"), encoding="utf-8")
    (signal,) = compile_decoder(load_vehicle_file(path), path).signals
    assert [signal.value(raw) for raw in range(3)] == ["P", "D", None]


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    assert problems(tmp_path, '\ufeffdbc = "v.dbc"\n' + entry()) == []


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can not be read: No such file"):
        load_vehicle_file(tmp_path / "none.toml")


def test_another_dbc_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "other.dbc").write_text(DBC, encoding="utf-8")
    path = tmp_path / "vehicle.toml"
    path.write_text('dbc = "absent.dbc"\n' + entry(more="stale_after_s = 60"), encoding="utf-8")
    vehicle = load_vehicle_file(path, dbc=tmp_path / "other.dbc")
    assert [signal.name for signal in compile_decoder(vehicle, path).signals] == ["Speed"]
    assert dict(vehicle.stale_after_s()) == {"Speed": 60}


@pytest.mark.parametrize(
    ("written", "wanted", "value", "expected"),
    [
        ("mph", "km/h", 60, 96.56064),
        ("m/s", "km/h", 10, 36),
        ("km", "m", 1.5, 1500),
        ("miles", "m", 1, 1609.344),
        ("degF", "celsius", 212, 100),
        ("K", "celsius", 273.15, 0),
        ("bar", "kPa", 2, 200),
        ("psi", "kPa", 10, 68.94757293168),
        ("mbar", "kPa", 1013, 101.3),
        ("%", "percent", 40, 40),
        ("Hours", "h", 3, 3),
        ("min", "h", 90, 1.5),
        ("1/min", "rpm", 700, 700),
        ("mV", "V", 12_600, 12.6),
        ("ppm", "ppm", 3, 3),
    ],
)
def test_units_convert(written: str, wanted: str, value: float, expected: float) -> None:
    factors = vss.conversion(written, wanted)
    assert factors is not None
    assert value * factors[0] + factors[1] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("written", "wanted"), [("km/h", "m"), ("", "km/h"), ("furlong", "m"), ("V", "celsius")]
)
def test_units_that_do_not_convert(written: str, wanted: str) -> None:
    assert vss.conversion(written, wanted) is None
