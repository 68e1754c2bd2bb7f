"""Signals that need no DBC: J1939 by SPN or by group and bits, OBD-II by mode and PID."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.config import ConfigError
from agent.hal.can import CanFrame
from agent.runtime.absent_library import absent
from agent.sources.can import vss
from agent.sources.can.can_decoder import CanDecoder
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.decoder_json import from_json, to_json
from agent.sources.can.j1939_catalogue import SPNS
from agent.sources.can.obd_catalogue import PIDS
from agent.sources.can.vehicle_file import VehicleFile, load_vehicle_file

VEHICLES = Path(__file__).resolve().parents[4] / "config" / "vehicles"
DBC = Path(__file__).resolve().parents[5] / "shared" / "feeds" / "dbc"


def decoder(*signals: dict[str, Any], **more: Any) -> CanDecoder:
    made = compile_decoder(VehicleFile.model_validate({"signals": signals, **more}), Path("vehicle.toml"))
    again = from_json(to_json(made))
    assert again.messages == made.messages
    return again


def shipped(name: str) -> CanDecoder:
    path = VEHICLES / f"{name}.toml"
    return compile_decoder(load_vehicle_file(path), path)


def values(made: CanDecoder, can_id: int, data: str, *, extended: bool = True) -> dict[str, Any]:
    frame = CanFrame(can_id, extended, bytes.fromhex(data), 0)
    return {signal.name: signal.value for signal in made.decode(frame)}


@pytest.mark.parametrize(
    ("can_id", "data", "expected"),
    [
        (0x18FEF100, "F7 0032 FF 03 FF FF FF", {"Speed": 50, "Chassis.ParkingBrake.IsEngaged": True}),
        (0x18FEF117, "F3 FFFF CF FF FF E5 FF",
         {"Speed": None, "Chassis.ParkingBrake.IsEngaged": False, "Ambulance.BrakePedal.IsPressed": False,
          "Ambulance.HighIdle.IsActive": True}),
        (0x0CF00400, "F1 9F 7D 4038 00 F6 7D", {"Powertrain.CombustionEngine.Speed": 1800}),
        (0x18FEEE00, "82 FF E02E FF FF FF FF",
         {"Powertrain.CombustionEngine.EngineCoolant.Temperature": 90,
          "Powertrain.CombustionEngine.EngineOil.Temperature": 102}),
        (0x18FEF700, "FF FF FF FF 1801 1801",
         {"LowVoltageBattery.CurrentVoltage": 14, "LowVoltageSystemState": "ON"}),
        (0x18FEF700, "FF FF FF FF 1801 0200", {"LowVoltageSystemState": "OFF"}),
        (0x18FEF700, "FF FF FF FF FFFF FEFF",
         {"LowVoltageBattery.CurrentVoltage": None, "LowVoltageSystemState": None}),
        (0x18FEC1EE, "40420F00 FFFFFFFF", {"TraveledDistance": 5_000_000}),
        (0x18FEE500, "A0860100 FFFFFFFF", {"Powertrain.CombustionEngine.EngineHours": 5000}),
        (0x18FEFC27, "FF 7D FF FF FF FF FF FF", {"Powertrain.FuelSystem.RelativeLevel": 50}),
        (0x18FEF521, "FF FF FF 6024 FF FF FF", {"Exterior.AirTemperature": 18}),
        (0x18F00503, "FF FF FF FB FF FF FF FF", {"Powertrain.Transmission.CurrentGear": 126}),
        (0x18F00503, "FF FF FF 7C FF FF FF FF", {"Powertrain.Transmission.CurrentGear": -1}),
        (0x18FE4E31, "F2 FF FF FF FF FF FF FF", {"Cabin.Door.Row1.DriverSide.IsOpen": False}),
        (0x18FE4E31, "F0 FF FF FF FF FF FF FF", {"Cabin.Door.Row1.DriverSide.IsOpen": True}),
        (0x18FE4E31, "FE FF FF FF FF FF FF FF", {"Cabin.Door.Row1.DriverSide.IsOpen": None}),
        (0x0CF0010B, "FF FF FF FF FF FF FF FF", {"ADAS.ABS.IsEngaged": None}),
        (0x0CF0010B, "D0 FF FF FF FF FF FF FF", {"ADAS.ABS.IsEngaged": True}),
        (0x18FEEF00, "FF FF FF 64 FF FF FF FF", {"Powertrain.CombustionEngine.EOP": 400}),
    ],
)  # fmt: skip
def test_a_j1939_chassis_says_what_the_standard_means(
    can_id: int, data: str, expected: dict[str, Any]
) -> None:
    found = values(shipped("j1939_chassis"), can_id, data)
    assert {name: found[name] for name in expected} == expected


def test_spns_lie_where_a_dbc_of_others_has_them() -> None:
    if not DBC.is_dir():
        pytest.skip("the recorded feeds are not on this machine")
    with absent("asammdf"):
        import cantools
    database: Any = cantools.database.load_file(DBC / "css_j1939_demo.dbc", strict=False)
    theirs = {
        (message.name, signal.name): (message, signal)
        for message in database.messages
        for signal in message.signals
    }
    for (message_name, signal_name), spn in {
        ("EEC1", "EngineSpeed"): 190,
        ("CCVS1", "WheelBasedVehicleSpeed"): 84,
    }.items():
        message, signal = theirs[message_name, signal_name]
        known = SPNS[spn]
        assert (message.frame_id >> 8) & 0x3FFFF == known.pgn
        assert (signal.start, signal.length) == (known.start_bit, known.bits)
        assert (signal.scale, signal.offset) == (known.scale, known.offset)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("03410D3C00000000", {"Speed": 60}),
        ("03410D3CAAAAAAAA", {"Speed": 60}),
        ("04410C1AF8555555", {"Powertrain.CombustionEngine.Speed": 1726}),
        ("0341057B00000000", {"Powertrain.CombustionEngine.EngineCoolant.Temperature": 83}),
        ("0641A600012EF8AA", {"TraveledDistance": 7_756_000}),
        ("04414236B0AAAAAA", {"LowVoltageBattery.CurrentVoltage": 14}),
        ("0641018307E10000", {"Ambulance.Chassis.MalfunctionLamp.IsOn": True}),
        ("0641010307E10000", {"Ambulance.Chassis.MalfunctionLamp.IsOn": False}),
        ("03411E0100000000", {"Ambulance.HighIdle.IsActive": True}),
        ("02010D0000000000", {}),  # a question
        ("037F010D12000000", {}),  # refused
        ("02410D3C00000000", {}),  # says that it is shorter than what it holds
        ("10 14 49 02 01 31 46 44", {}),  # the first of several frames
        ("03410D", {}),  # cut off
        ("03420D3C00000000", {}),  # another mode
    ],
)
def test_an_obd_answer_gives_the_value_of_its_pid(data: str, expected: dict[str, Any]) -> None:
    made = shipped("obd2_van")
    assert values(made, 0x7E8, data, extended=False) == expected
    assert values(made, 0x7E9, data, extended=False) == {}  # another control unit


def test_an_answer_may_come_with_another_identifier() -> None:
    made = decoder({"pid": "01-0D", "name": "Speed", "answer_id": 0x18DAF110})
    assert values(made, 0x18DAF110, "03410D3C00000000") == {"Speed": 60}


def test_a_group_can_be_described_by_its_bits() -> None:
    made = decoder(
        {"pgn": 65_313, "start_bit": 8, "bits": 16, "scale": 0.1, "offset": -40,
         "name": "Own.Heat", "unit": "celsius"},
        {"pgn": 65_313, "start_bit": 0, "bits": 2, "name": "Ambulance.Siren.IsOn"},
        protocol="j1939",
    )  # fmt: skip
    assert values(made, 0x18FF2127, "01 F401") == {"Own.Heat": 10, "Ambulance.Siren.IsOn": True}
    assert values(made, 0x18FF2127, "03 FFFF FFFFFFFFFF") == {"Own.Heat": None, "Ambulance.Siren.IsOn": None}


def test_a_dbc_and_the_catalogue_may_describe_the_same_group(tmp_path: Path) -> None:
    (tmp_path / "v.dbc").write_text(
        f'VERSION ""\nBU_: E\nBO_ {0x98FEF1FE} CCVS1: 8 E\n SG_ Cruise : 40|8@1+ (1,0) [0|0] "km/h" E\n',
        encoding="utf-8",
    )
    made = decoder(
        {"message": "CCVS1", "signal": "Cruise", "name": "Own.Cruise", "unit": "km/h"},
        {"spn": 84, "name": "Speed"},
        protocol="j1939",
        dbc=tmp_path / "v.dbc",
    )
    assert values(made, 0x18FEF100, "FF0032FFFF50FFFF") == {"Own.Cruise": 80, "Speed": 50}


def test_every_row_of_the_catalogues_can_be_used() -> None:
    for spn, row in SPNS.items():
        signal: dict[str, Any] = {"spn": spn, "name": "Own.Signal"}
        signal |= {"unit": vss.unit_token(row.unit)} if row.unit else {"map": {"0": 0, "1": 1}}
        (message,) = decoder(signal, protocol="j1939").messages
        assert message.length == 8
    for pid, known in PIDS.items():
        signal = {"pid": pid, "name": "Own.Signal"}
        signal |= {"unit": vss.unit_token(known.unit)} if known.unit else {"map": {"0": False, "1": True}}
        assert decoder(signal).messages[0].can_id == 0x7E8


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        ({"name": "Speed"}, "one source is needed"),
        ({"name": "Speed", "spn": 84, "pid": "01-0D"}, "given: spn and pid"),
        ({"name": "Speed", "message": "M"}, "signal: missing"),
        ({"name": "Speed", "pgn": 65265}, "start_bit and bits are needed"),
        ({"name": "Speed", "spn": 99_999}, "its place is not known"),
        ({"name": "Speed", "spn": 84, "pgn": 65_000}, "SPN 84 is in group 65265"),
        ({"name": "Speed", "pid": "01-FF"}, "not known; there are 01-01"),
        ({"name": "Speed", "pid": "0D"}, "pid"),
        ({"name": "Sped", "pid": "01-0D"}, "did you mean 'Speed'?"),
        ({"name": "Ambulance.Sirn.IsOn", "pid": "01-1E"}, "did you mean 'Ambulance.Siren.IsOn'?"),
        ({"name": "Cabin.Door.Row1.DriverSide.ISOpen", "pid": "01-1E"}, "did you mean"),
        ({"name": "LowVoltageSystemState", "spn": 158, "steps": {"0": "GO"}}, "steps.0 = 'GO'"),
        ({"name": "LowVoltageSystemState", "spn": 158, "steps": {"x": "ON"}}, "steps.x: not a number"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(signal: dict[str, Any], said: str) -> None:
    from agent.config import validate

    with pytest.raises(ConfigError) as caught:
        validate(VehicleFile, {"protocol": "j1939", "signals": [signal]}, Path("v.toml"))
    assert said in str(caught.value)


def test_an_spn_needs_the_protocol() -> None:
    from agent.config import validate

    with pytest.raises(ConfigError, match=r"signals\[0\].spn: only with protocol"):
        validate(VehicleFile, {"signals": [{"spn": 84, "name": "Speed"}]}, Path("v.toml"))
    with pytest.raises(ConfigError, match="dbc: missing"):
        validate(VehicleFile, {"signals": [{"message": "M", "signal": "S", "name": "Speed"}]}, Path("v.toml"))


@pytest.mark.parametrize(
    "name",
    [
        "Chassis.Axle.Row3.Wheel.Left.Speed",
        "Cabin.Seat.Row1.DriverSide.IsHeated",
        "CurrentLocation.Latitude",
        "Own.X",
    ],
)
def test_a_vss_name_that_is_only_not_known_here_is_taken(name: str) -> None:
    assert vss.near_miss(name) is None


def test_speeds_of_the_shipped_files_are_what_their_units_say() -> None:
    for name in ("j1939_chassis", "obd2_van", "demo_ambulance"):
        for signal in shipped(name).signals:
            assert signal.name in vss.SIGNALS, signal.name
            assert signal.unit == vss.SIGNALS[signal.name].unit
