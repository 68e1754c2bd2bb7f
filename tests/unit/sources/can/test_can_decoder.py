"""The decoder gives what cantools gives, for every kind of signal, and refuses what it can not know."""

from __future__ import annotations

import math
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.hal.can import CanFrame
from agent.runtime.absent_library import absent
from agent.sources.can.can_decoder import LARGEST_INTEGER, LEAST_INTEGER, CanDecoder, group_number
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.vehicle_file import VehicleFile, WantedSignal
from agent.wire.body import pack_body

with absent("asammdf"):
    import cantools
    from cantools.database.can import Database
    from cantools.database.namedsignalvalue import NamedSignalValue

FEEDS = Path(__file__).resolve().parents[5] / "shared" / "feeds" / "dbc"
CONFIG = Path(__file__).resolve().parents[4] / "config" / "vehicles"

EVERY_KIND = """VERSION ""
BU_: ECU
CM_ "A comment that looks like a message:
BO_ 999 FAKE: 8 ECU
 SG_ Fake : 0|8@1+ (1,0) [0|0] \\"\\" ECU
";
BO_ 256 INTEL: 8 ECU
 SG_ Unsigned12 : 4|12@1+ (0.05,-10) [0|0] "km/h" ECU
 SG_ Signed13 : 17|13@1- (0.1,0) [0|0] "V" ECU
 SG_ Whole : 32|8@1- (2,-7) [0|0] "" ECU
 SG_ Bit : 40|1@1+ (1,0) [0|0] "" ECU
 SG_ Wide : 41|23@1+ (0.00390625,0) [0|0] "" ECU

BO_ 257 MOTOROLA: 8 ECU
 SG_ Unsigned12M : 3|12@0+ (0.05,-10) [0|0] "km/h" ECU
 SG_ Signed13M : 20|13@0- (0.1,0) [0|0] "V" ECU
 SG_ Byte : 39|8@0- (1,0) [0|0] "" ECU
 SG_ Across : 40|17@0+ (0.001,0) [0|0] "" ECU
 SG_ IntelInIt : 56|8@1+ (1,0) [0|0] "" ECU

BO_ 2147484160 LONG: 6 ECU
 SG_ All48 : 7|48@0+ (1,0) [0|0] "" ECU

BO_ 258 FLOATS: 8 ECU
 SG_ FloatIntel : 0|32@1- (1,0) [0|0] "" ECU
 SG_ FloatMotorola : 39|32@0- (0.5,1) [0|0] "" ECU

BO_ 259 DOUBLE: 8 ECU
 SG_ Double : 0|64@1- (1,0) [0|0] "" ECU

BO_ 260 PAGES: 8 ECU
 SG_ Page M : 0|4@1+ (1,0) [0|0] "" ECU
 SG_ First m0 : 8|16@1+ (1,0) [0|0] "" ECU
 SG_ Second m1 : 15|16@0- (0.1,0) [0|0] "" ECU
 SG_ Always : 56|8@1+ (1,0) [0|0] "" ECU

BO_ 261 NESTED: 8 ECU
 SG_ Outer M : 0|8@1+ (1,0) [0|0] "" ECU
 SG_ Inner m1M : 8|8@1+ (1,0) [0|0] "" ECU
 SG_ Deep m2 : 16|16@1+ (1,0) [0|0] "" ECU

BO_ 262 LABELS: 2 ECU
 SG_ Level : 0|8@1+ (0.5,0) [0|100] "%" ECU

SIG_VALTYPE_ 258 FloatIntel : 1;
SIG_VALTYPE_ 258 FloatMotorola : 1;
SIG_VALTYPE_ 259 Double : 2;
SG_MUL_VAL_ 261 Inner Outer 1-1, 3-5;
SG_MUL_VAL_ 261 Deep Inner 2-2, 7-9;
VAL_ 262 Level 254 "error; really" 255 "SNA" ;
"""


def all_signals(dbc: Path, protocol: str = "can") -> tuple[CanDecoder, Database]:
    """A decoder of every signal of a DBC without conversion, and cantools' own database."""
    database = cantools.database.load_file(dbc, strict=False)
    assert isinstance(database, Database)
    wanted = [
        WantedSignal(
            message=message.name, signal=signal.name, name=name_of(message, signal), unit="-", scale=1
        )
        for message in database.messages
        for signal in message.signals
    ]
    vehicle = VehicleFile.model_validate({"dbc": dbc, "protocol": protocol, "signals": wanted})
    return compile_decoder(vehicle, Path("vehicle.toml")), database


def name_of(message: Any, signal: Any) -> str:
    camel = "".join(c if c.isalnum() else "0" for c in f"{message.name}X{signal.name}")
    return f"M{message.frame_id}.S{camel}"


@cache
def every_kind() -> tuple[CanDecoder, Database]:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".dbc") as file:
        file.write(EVERY_KIND)
        file.flush()
        return all_signals(Path(file.name))


def assert_same(decoder: CanDecoder, message: Any, data: bytes) -> None:
    theirs = message.decode(data)
    frame = CanFrame(message.frame_id, message.is_extended_frame, data, 7)
    ours = {signal.name: signal.value for signal in decoder.decode(frame)}
    assert set(ours) == {name_of(message, message.get_signal_by_name(name)) for name in theirs}
    for name, value in theirs.items():
        signal = message.get_signal_by_name(name)
        mine = ours[name_of(message, signal)]
        if isinstance(value, NamedSignalValue) or not LEAST_INTEGER <= value <= LARGEST_INTEGER:
            assert mine is None  # no number, or one that nobody can hold
            continue
        assert isinstance(mine, int | float)
        # Ours is rounded to remove binary noise: far below a step, and far below a float's own precision.
        tolerance = max(abs(value) * 1e-12, 0 if signal.is_float else abs(signal.scale) * 1e-2)
        assert abs(mine - value) <= tolerance
        if isinstance(value, int):
            assert mine == value


@pytest.mark.parametrize("name", [message.name for message in every_kind()[1].messages])
@settings(max_examples=100, deadline=None)
@given(data=st.binary(min_size=8, max_size=8))
def test_decodes_every_kind_as_cantools_does(name: str, data: bytes) -> None:
    decoder, database = every_kind()
    message = database.get_message_by_name(name)
    if message.is_multiplexed():
        data = bytes([data[0] % 8, data[1] % 12]) + data[2:]
        try:
            message.decode(data[: message.length])
        except cantools.database.errors.DecodeError:
            # cantools gives up on a page it does not know; we give what does not depend on it.
            found = decoder.decode(CanFrame(message.frame_id, message.is_extended_frame, data, 7))
            assert all("Deep" not in signal.name for signal in found)
            return
    assert_same(decoder, message, data[: message.length])


@pytest.mark.parametrize(
    "name",
    ["cantools_vehicle", "cantools_signed", "cantools_floating_point", "cantools_socialledge",
     "toyota_nodsu_pt_generated", "mercedes_benz_e350_2010", "ford_cgea1_2_bodycan_2011"],
)  # fmt: skip
def test_decodes_makers_files_as_cantools_does(name: str) -> None:
    if not FEEDS.is_dir():
        pytest.skip("the recorded feeds are not on this machine")
    decoder, database = all_signals(FEEDS / f"{name}.dbc")
    state = 1
    for message in database.messages:
        for _ in range(5):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            data = state.to_bytes(8, "big").ljust(message.length, b"\x5a")[: message.length]
            try:
                message.decode(data)
            except cantools.database.errors.DecodeError:
                continue  # a page that cantools does not know
            assert_same(decoder, message, data)


@pytest.mark.parametrize(
    ("name", "message", "signal"),
    [
        ("chrysler_ram_hd_generated", "ESP_1", None),
        ("gm_global_a_powertrain_generated", "ECMVehicleSpeed", "VehicleSpeed"),
    ],
)
def test_a_faulty_line_elsewhere_does_not_matter(name: str, message: str, signal: str | None) -> None:
    if not FEEDS.is_dir():
        pytest.skip("the recorded feeds are not on this machine")
    from agent.sources.can.dbc_excerpt import read_dbc

    dbc = FEEDS / f"{name}.dbc"
    with pytest.raises(cantools.database.errors.Error):
        cantools.database.load_file(dbc)
    signal = signal or read_dbc(dbc).named(message)[0].signals[0].name
    wanted = WantedSignal(message=message, signal=signal, name="Anything", unit="-", scale=1)
    vehicle = VehicleFile(dbc=dbc, signals=(wanted,))
    assert [one.name for one in compile_decoder(vehicle, dbc).signals] == ["Anything"]


def decoder_of(tmp_path: Path, dbc: str, *signals: WantedSignal, protocol: str = "can") -> CanDecoder:
    path = tmp_path / "test.dbc"
    path.write_text(f'VERSION ""\nBU_: ECU\n{dbc}', encoding="utf-8")
    vehicle = VehicleFile.model_validate({"dbc": path, "protocol": protocol, "signals": signals})
    return compile_decoder(vehicle, tmp_path / "vehicle.toml")


def value_of(decoder: CanDecoder, can_id: int, data: bytes, *, extended: bool = False) -> Any:
    (signal,) = decoder.decode(CanFrame(can_id, extended, data, 5))
    assert signal.received_boottime_ns == 5
    return signal.value


SPEED = WantedSignal(message="M", signal="V", name="Speed")


def test_a_short_frame_gives_the_signals_whose_bits_arrived(tmp_path: Path) -> None:
    dbc = (
        "BO_ 1 M: 4 ECU\n"
        ' SG_ V : 0|16@1+ (1,0) [0|0] "km/h" ECU\n'
        ' SG_ B : 23|12@0+ (1,0) [0|0] "celsius" ECU\n'
        ' SG_ L : 24|8@1+ (1,0) [0|0] "%" ECU\n'
    )
    wanted = (
        SPEED,
        WantedSignal(message="M", signal="B", name="Exterior.AirTemperature"),
        WantedSignal(message="M", signal="L", name="Powertrain.FuelSystem.RelativeLevel"),
    )
    decoder = decoder_of(tmp_path, dbc, *wanted)

    def values(data: bytes) -> list[Any]:
        return [signal.value for signal in decoder.decode(CanFrame(1, False, data, 0))]

    whole = b"\x11\x01\x12\x34"
    assert values(whole) == [0x111, 0x123, 0x34]
    assert decoder.counts.short == 0
    assert [values(whole[:length]) for length in range(4)] == [[], [], [0x111], [0x111]]
    assert decoder.counts.short == 4
    assert values(whole + b"\xff\xff") == [0x111, 0x123, 0x34]  # a longer one is the message and more
    assert decoder.counts.short == 4


def test_a_page_whose_selector_did_not_arrive_is_not_guessed(tmp_path: Path) -> None:
    dbc = 'BO_ 1 M: 3 ECU\n SG_ P M : 16|8@1+ (1,0) [0|0] "" ECU\n SG_ V m0 : 0|8@1+ (1,0) [0|0] "km/h" ECU\n'
    decoder = decoder_of(tmp_path, dbc, SPEED)
    assert decoder.decode(CanFrame(1, False, b"\x11\x00", 0)) == []
    assert value_of(decoder, 1, b"\x11\x00\x00") == 0x11


@pytest.mark.parametrize(
    ("signal", "data"),
    [
        ("0|64@1+ (2,0)", b"\xff" * 8),
        ("0|64@1- (1000,0)", b"\xff" * 7 + b"\x80"),
        ("0|64@1+ (1,1)", b"\xff" * 8),
        ("0|64@1+ (1e300,0)", b"\xff" * 8),
        ("0|128@1+ (1,0)", b"\xff" * 16),
        ("0|512@1+ (0.5,0)", b"\xff" * 64),
        ("0|512@1+ (1e200,0)", b"\xff" * 64),
    ],
)
def test_what_no_reader_can_hold_is_no_value_and_counted(tmp_path: Path, signal: str, data: bytes) -> None:
    from agent.domain.record import Telemetry
    from agent.sources.can.signal_changes import SignalChanges

    decoder = decoder_of(tmp_path, f'BO_ 1 M: 64 ECU\n SG_ V : {signal} [0|0] "km/h" ECU\n', SPEED)
    frame = CanFrame(1, False, data, 5)
    changes = SignalChanges(decoder)
    (told,) = changes.take([frame])
    assert told.value is None
    assert decoder.counts.unusable == 1
    pack_body(Telemetry(signals=((told.name, told.value),)))  # the store and the wire can take it


def test_a_float_that_is_finite_and_beyond_anything_is_no_value_and_counted(tmp_path: Path) -> None:
    from agent.sources.can.signal_changes import SignalChanges

    dbc = 'BO_ 1 M: 8 ECU\n SG_ V : 0|64@1- (1,0) [0|0] "km/h" ECU\n\nSIG_VALTYPE_ 1 V : 2;\n'
    decoder = decoder_of(tmp_path, dbc, SPEED)
    assert value_of(decoder, 1, struct.pack("<d", 88.5)) == 88.5
    changes = SignalChanges(decoder)
    for second, mad in enumerate((1e300, -1e300, 1e20)):
        told = changes.take([CanFrame(1, False, struct.pack("<d", mad), second * 10**9)])
        assert [signal.value for signal in told] in ([None], [])
    assert decoder.counts.unusable == 3


def test_what_lies_outside_the_plausible_range_is_no_value(tmp_path: Path) -> None:
    wanted = WantedSignal(message="M", signal="V", name="Speed", plausible=(0, 250))
    decoder = decoder_of(tmp_path, 'BO_ 1 M: 2 ECU\n SG_ V : 0|16@1- (0.1,0) [0|0] "km/h" ECU\n', wanted)
    assert [
        value_of(decoder, 1, raw.to_bytes(2, "little", signed=True)) for raw in (0, 2500, 2501, -1, 32767)
    ] == [0, 250, None, None, None]


def test_other_frames_are_dropped(tmp_path: Path) -> None:
    decoder = decoder_of(tmp_path, 'BO_ 1 M: 1 ECU\n SG_ V : 0|8@1+ (1,0) [0|0] "km/h" ECU\n', SPEED)
    assert decoder.decode(CanFrame(2, False, b"\0", 0)) == []
    assert decoder.decode(CanFrame(1, True, b"\0", 0)) == []  # 29 bits: another identifier
    assert decoder.counts.unwanted == 2
    assert decoder.filters() == [(1, 0x7FF, False)]


def test_identifiers_of_a_hostile_bus_take_no_memory(tmp_path: Path) -> None:
    decoder = decoder_of(tmp_path, J1939, ccvs(), protocol="j1939")
    for can_id in range(0, 0x1FFFFFFF, 0xFFFF):
        decoder.decode(CanFrame(can_id, True, bytes(8), 0))
    assert len(decoder._known) <= 4096
    assert value_of(decoder, 0x18FEF100, bytes(8), extended=True) == 0


def test_units_are_converted_without_binary_noise(tmp_path: Path) -> None:
    for unit, raw, expected in (
        ("km/h", 5530, 55.3),
        ("mph", 5530, 88.9967232),
        ("m/s", 1000, 36),
        ("MPH", 0, 0),
    ):
        dbc = f'BO_ 1 M: 2 ECU\n SG_ V : 0|16@1+ (0.01,0) [0|0] "{unit}" ECU\n'
        value = value_of(decoder_of(tmp_path, dbc, SPEED), 1, raw.to_bytes(2, "little"))
        assert value == pytest.approx(expected)
        assert len(repr(value)) <= len("88.99672320")
    wanted = WantedSignal(message="M", signal="V", name="Exterior.AirTemperature")
    decoder = decoder_of(tmp_path, 'BO_ 1 M: 1 ECU\n SG_ V : 0|8@1+ (1,-40) [0|0] "°F" ECU\n', wanted)
    assert value_of(decoder, 1, b"\x48") == 0
    assert value_of(decoder, 1, b"\xfc") == 100
    wanted = WantedSignal(message="M", signal="V", name="TraveledDistance")
    decoder = decoder_of(tmp_path, 'BO_ 1 M: 3 ECU\n SG_ V : 0|24@1+ (0.1,0) [0|0] "km" ECU\n', wanted)
    value = value_of(decoder, 1, (123456).to_bytes(3, "little"))
    assert (value, type(value)) == (12_345_600, int)


def test_words_and_truths(tmp_path: Path) -> None:
    dbc = (
        'BO_ 1 M: 1 ECU\n SG_ V : 0|2@1+ (1,0) [0|0] "" ECU\n SG_ I : 2|3@1+ (1,0) [0|0] "" ECU\n'
        ' SG_ G : 5|3@1- (1,0) [0|0] "" ECU\nVAL_ 1 I 0 "OFF" 2 "ON" 7 "SNA" ;\n'
    )
    decoder = decoder_of(
        tmp_path,
        dbc,
        WantedSignal(message="M", signal="V", name="Body.Trunk.Rear.IsOpen"),
        WantedSignal(message="M", signal="I", name="LowVoltageSystemState"),
        WantedSignal(
            message="M",
            signal="G",
            name="Powertrain.Transmission.SelectedGear",
            map={"-1": -1, "0": 0, "1": 1},
        ),
    )

    def values(byte: int) -> list[Any]:
        return [signal.value for signal in decoder.decode(CanFrame(1, False, bytes([byte]), 0))]

    assert values(0b000_000_00) == [False, "OFF", 0]
    assert values(0b001_010_01) == [True, "ON", 1]
    assert values(0b111_111_10) == [None, None, -1]
    assert values(0b011_001_11) == [None, None, None]
    assert isinstance(values(0)[0], bool)


def test_not_available_is_none(tmp_path: Path) -> None:
    wanted = WantedSignal(message="M", signal="V", name="Speed", not_available=(255, -2))
    decoder = decoder_of(tmp_path, 'BO_ 1 M: 1 ECU\n SG_ V : 0|8@1- (1,0) [0|0] "km/h" ECU\n', wanted)
    assert value_of(decoder, 1, b"\xff") is None
    assert value_of(decoder, 1, b"\xfe") is None
    assert value_of(decoder, 1, b"\xfd") == -3


J1939 = (
    f"BO_ {0x98FEF1FE} CCVS1: 8 ECU\n"
    ' SG_ WheelBasedVehicleSpeed : 8|16@1+ (0.00390625,0) [0|250] "km/h" ECU\n'
    ' SG_ ParkingBrakeSwitch : 2|2@1+ (1,0) [0|3] "" ECU\n'
    f'BO_ {0x8C0000FE} TSC1: 8 ECU\n SG_ EngRqedSpeed : 8|16@1+ (0.125,0) [0|8031] "rpm" ECU\n'
    f'BO_ {0x98F005FE} ETC2: 8 ECU\n SG_ TransCurrentGear : 24|8@1+ (1,-125) [-125|125] "" ECU\n'
)


def ccvs(**options: Any) -> WantedSignal:
    return WantedSignal(message="CCVS1", signal="WheelBasedVehicleSpeed", name="Speed", **options)


def test_j1939_messages_are_found_by_their_group(tmp_path: Path) -> None:
    decoder = decoder_of(tmp_path, J1939, ccvs(), protocol="j1939")
    data = b"\xff\x00\x32\xff\xff\xff\xff\xff"
    for can_id in (0x18FEF100, 0x0CFEF10B, 0x1CFEF1FE):
        assert value_of(decoder, can_id, data, extended=True) == 50
    assert decoder.decode(CanFrame(0x18FEF200, True, data, 0)) == []
    assert decoder.decode(CanFrame(0x0FEF1, False, data, 0)) == []
    ((can_id, mask, extended),) = decoder.filters()
    assert (can_id, mask, extended) == (0x00FEF100, 0x03FFFF00, True)
    assert 0x18FEF10B & mask == can_id


def test_j1939_a_destination_is_no_part_of_the_group(tmp_path: Path) -> None:
    wanted = WantedSignal(message="TSC1", signal="EngRqedSpeed", name="Any", unit="rpm")
    decoder = decoder_of(tmp_path, J1939, wanted, protocol="j1939")
    for can_id in (0x0C000003, 0x0C00FF27):
        assert value_of(decoder, can_id, bytes(8), extended=True) == 0
        ((wanted_id, mask, _),) = decoder.filters()
        assert can_id & mask == wanted_id
    assert group_number(0x0C000003) == 0


def test_j1939_a_source_can_be_asked_for(tmp_path: Path) -> None:
    decoder = decoder_of(tmp_path, J1939, ccvs(source_address=0x0B), protocol="j1939")
    assert decoder.decode(CanFrame(0x18FEF100, True, bytes(8), 0)) == []
    assert value_of(decoder, 0x18FEF10B, bytes(8), extended=True) == 0
    assert decoder.filters() == [(0x00FEF10B, 0x03FFFFFF, True)]


def test_j1939_all_ones_and_errors_are_not_available(tmp_path: Path) -> None:
    decoder = decoder_of(
        tmp_path,
        J1939,
        ccvs(),
        WantedSignal(message="CCVS1", signal="ParkingBrakeSwitch", name="Chassis.ParkingBrake.IsEngaged"),
        WantedSignal(
            message="ETC2", signal="TransCurrentGear", name="Powertrain.Transmission.SelectedGear",
            map={"251": 126, "125": 0, "126": 1, "124": -1},
        ),
        protocol="j1939",
    )  # fmt: skip

    def values(can_id: int, data: bytes) -> list[Any]:
        return [signal.value for signal in decoder.decode(CanFrame(can_id, True, data, 0))]

    assert values(0x18FEF100, b"\x0f\xff\xff" + bytes(5)) == [None, None]
    assert values(0x18FEF100, b"\x08\x00\xfe" + bytes(5)) == [None, None]
    assert values(0x18FEF100, b"\x04\xff\xfa" + bytes(5)) == [0xFAFF / 256, True]
    assert values(0x18FEF100, b"\x00\x00\xfb" + bytes(5)) == [None, False]
    assert values(0x18F00500, bytes([0, 0, 0, 251, 0, 0, 0, 0])) == [126]  # reserved, but given a meaning
    assert values(0x18F00500, bytes([0, 0, 0, 255, 0, 0, 0, 0])) == [None]


@settings(max_examples=200, deadline=None)
@given(
    can_id=st.integers(0, 0x1FFFFFFF),
    extended=st.booleans(),
    data=st.binary(max_size=64),
    wanted=st.booleans(),
)
def test_no_frame_raises(can_id: int, extended: bool, data: bytes, wanted: bool) -> None:
    decoder, database = every_kind()
    if wanted:
        can_id = database.messages[can_id % len(database.messages)].frame_id
    for signal in decoder.decode(CanFrame(can_id, extended, data, 0)):
        assert signal.value is None or isinstance(signal.value, bool | int | float | str)
        assert not isinstance(signal.value, float) or math.isfinite(signal.value)


def test_the_shipped_files_compile() -> None:
    from agent.sources.can.vehicle_file import load_vehicle_file

    path = CONFIG / "demo_ambulance.toml"
    decoder = compile_decoder(load_vehicle_file(path), path)
    assert len(decoder.signals) == 37
    dbc = FEEDS / "toyota_nodsu_pt_generated.dbc"
    if dbc.is_file():
        path = CONFIG / "toyota_rav4_2018.toml"
        assert len(compile_decoder(load_vehicle_file(path, dbc=dbc), path).signals) == 15


def test_the_demo_bus_says_what_was_encoded() -> None:
    from agent.sources.can.vehicle_file import load_vehicle_file

    path = CONFIG / "demo_ambulance.toml"
    decoder = compile_decoder(load_vehicle_file(path), path)
    database = cantools.database.load_file(CONFIG / "demo_ambulance.dbc")
    assert isinstance(database, Database)
    assert sum(1000 / (message.cycle_time or 1) for message in database.messages) == pytest.approx(74)
    encoded: dict[str, dict[str, Any]] = {
        "VEHICLE_MOTION": {"VehicleSpeed": 83.27, "MotionCounter": 3},
        "PEDALS": {"BrakePedal": "pressed", "AntilockBraking": 0, "AcceleratorPedal": 40},
        "ENGINE": {
            "EngineSpeed": 1850.25,
            "CoolantTemperature": -12,
            "EngineRunning": 1,
            "EngineCounter": 15,
        },
        "TRANSMISSION": {"GearSelected": "D", "ParkingBrake": "released"},
        "BODY": {
            "IgnitionState": "ON",
            "DriverDoor": "closed",
            "RearDoors": "open",
            "PatientDoor": "SNA",
            "DriverBelt": "fastened",
        },
        "AMBULANCE": {
            "EmergencyLights": "on",
            "Siren": 0,
            "ShorePower": 0,
            "HighIdle": 1,
            "SirenMode": "WAIL",
            "Inverter": 3,
            "PatientTemperature": -3.5,
        },
        "OCCUPANTS": {
            "PassengerSeat": "occupied",
            "PassengerBelt": "open",
            "AttendantSeat": "occupied",
            "AttendantBelt": "fastened",
            "BenchSeat": "free",
            "BenchBelt": "SNA",
            "CprSeat": "free",
            "CprBelt": "error",
            "CotLock": "locked",
        },
        "STORES": {
            "OxygenPressure": 13_700,
            "DrugStoreTemperature": 21.4,
            "FridgeTemperature": -3276.8,
            "AuxiliaryBattery": 12.75,
        },
        "CLUSTER_STATUS": {"Odometer": 48_213.7, "FuelLevel": 62.5, "BatteryVoltage": 14.12},
    }
    told: dict[str, Any] = {}
    for name, values in encoded.items():
        message = database.get_message_by_name(name)
        frame = CanFrame(message.frame_id, False, bytes(message.encode(values, strict=False)), 0)
        told |= {signal.name: signal.value for signal in decoder.decode(frame)}
    assert told == {
        "Speed": 83.27,
        "Powertrain.CombustionEngine.Speed": 1850.25,
        "Powertrain.CombustionEngine.EngineCoolant.Temperature": -12,
        "Powertrain.CombustionEngine.IsRunning": True,
        "Powertrain.Transmission.SelectedGear": 127,
        "Chassis.ParkingBrake.IsEngaged": False,
        "LowVoltageSystemState": "ON",
        "Cabin.Door.Row1.DriverSide.IsOpen": False,
        "Body.Trunk.Rear.IsOpen": True,
        "Ambulance.PatientCompartment.Door.IsOpen": None,
        "Cabin.Seat.Row1.DriverSide.IsBelted": True,
        "Ambulance.EmergencyLights.IsOn": True,
        "Ambulance.Siren.IsOn": False,
        "Ambulance.ShorePower.IsConnected": False,
        "Ambulance.PatientCompartment.Temperature": -3.5,
        "TraveledDistance": 48_213_700,
        "Ambulance.BrakePedal.IsPressed": True,
        "ADAS.ABS.IsEngaged": False,
        "Chassis.Accelerator.PedalPosition": 40,
        "Ambulance.HighIdle.IsActive": True,
        "Ambulance.Siren.Mode": "WAIL",
        "Ambulance.Inverter.IsOn": None,
        "Cabin.Seat.Row1.PassengerSide.IsOccupied": True,
        "Cabin.Seat.Row1.PassengerSide.IsBelted": False,
        "Ambulance.PatientCompartment.Seat.Attendant.IsOccupied": True,
        "Ambulance.PatientCompartment.Seat.Attendant.IsBelted": True,
        "Ambulance.PatientCompartment.Seat.Bench1.IsOccupied": False,
        "Ambulance.PatientCompartment.Seat.Bench1.IsBelted": None,
        "Ambulance.PatientCompartment.Seat.Cpr.IsOccupied": False,
        "Ambulance.PatientCompartment.Seat.Cpr.IsBelted": None,
        "Ambulance.Cot.IsLocked": True,
        "Ambulance.Oxygen.Pressure": 13_700,
        "Ambulance.DrugStore.Temperature": 21.4,
        "Ambulance.DrugFridge.Temperature": None,
        "Ambulance.AuxiliaryBattery.Voltage": 12.75,
        "Powertrain.FuelSystem.RelativeLevel": 62.5,
        "LowVoltageBattery.CurrentVoltage": 14.12,
    }
