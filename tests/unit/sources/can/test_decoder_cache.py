"""Kept decoders: the same as made ones, made again whenever anything they come from is another."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import ConfigError
from agent.runtime.worker import ThreadWorker
from agent.sources.can import decoder_cache
from agent.sources.can.can_decoder import CanDecoder
from agent.sources.can.decoder_cache import DecoderCache
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.decoder_json import from_json, to_json
from agent.sources.can.vehicle_file import load_vehicle_file

VEHICLES = sorted((Path(__file__).resolve().parents[4] / "config" / "vehicles").glob("*.toml"))
DBC = """VERSION ""
BU_: ECU
BO_ 1 MOTION: 8 ECU
 SG_ VehicleSpeed : 0|16@1+ (0.01,0) [0|0] "km/h" ECU
 SG_ Gear m1 : 16|4@1+ (1,0) [0|0] "" ECU
 SG_ Selector M : 20|4@1+ (1,0) [0|0] "" ECU
 SG_ Angle : 39|16@0- (0.1,0) [0|0] "degree" ECU
 SG_ Level : 48|16@1- (1,0) [0|0] "percent" ECU
VAL_ 1 Gear 0 "P" 1 "D" ;
SIG_VALTYPE_ 1 Level : 0;
"""
VEHICLE = """dbc = "v.dbc"
[[signals]]
message = "MOTION"
signal = "VehicleSpeed"
name = "Speed"
not_available = [65535]
deadband = 0.5
[[signals]]
message = "MOTION"
signal = "Gear"
name = "Own.Gear"
min_interval_s = 0.1
[signals.map]
P = "park"
D = true
[[signals]]
message = "MOTION"
signal = "Angle"
name = "Own.Angle"
unit = "degrees"
scale = 1
"""


@pytest.fixture
def vehicle(tmp_path: Path) -> Path:
    (tmp_path / "v.dbc").write_text(DBC, encoding="utf-8")
    path = tmp_path / "vehicle.toml"
    path.write_text(VEHICLE, encoding="utf-8")
    return path


class Bench:
    """A cache with its compilations counted; compiles in this process, which has cantools already."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.troubles: list[str] = []
        self.compiled = 0
        inner = DecoderCache._compiled

        def counted(*args: object) -> CanDecoder:
            self.compiled += 1
            return inner(*args)  # type: ignore[arg-type]  # handed through

        monkeypatch.setattr(DecoderCache, "_compiled", counted)

    def decoder(self, path: Path) -> CanDecoder:
        return DecoderCache(self.folder, self.troubles.append).decoder(load_vehicle_file(path), path)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    import cantools  # noqa: F401  # so that no process is started

    return Bench(tmp_path / "store" / "decoders", monkeypatch)


def same(one: CanDecoder, other: CanDecoder) -> bool:
    # repr, because 1 == 1.0 == True, and reported values must not turn from one into another.
    return repr(one.messages) == repr(other.messages) and one.protocol == other.protocol


def test_a_decoder_survives_json(vehicle: Path) -> None:
    made = compile_decoder(load_vehicle_file(vehicle), vehicle)
    again = from_json(to_json(made))
    assert same(made, again)
    assert again.messages == made.messages
    assert again.filters() == made.filters()


@pytest.mark.parametrize("path", VEHICLES, ids=lambda path: path.stem)
def test_the_shipped_vehicles_survive_json(path: Path) -> None:
    file = load_vehicle_file(path)
    if file.dbc is not None and not file.dbc.exists():
        pytest.skip("its DBC is not shipped")
    made = compile_decoder(file, path)
    assert same(made, from_json(to_json(made)))


def test_the_second_start_compiles_nothing(bench: Bench, vehicle: Path) -> None:
    first, second = bench.decoder(vehicle), bench.decoder(vehicle)
    assert same(first, second)
    assert bench.compiled == 1
    assert [file.suffix for file in bench.folder.iterdir()] == [".json"]


def test_another_vehicle_file_dbc_or_cantools_compiles_again(
    bench: Bench, vehicle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.decoder(vehicle)
    vehicle.write_text(VEHICLE.replace("deadband = 0.5", "deadband = 0.25"), encoding="utf-8")
    assert bench.decoder(vehicle).signals[0].deadband == 0.25
    dbc = vehicle.with_name("v.dbc")
    dbc.write_text(DBC.replace("(0.01,0)", "(0.02,0)"), encoding="utf-8")
    assert bench.decoder(vehicle).signals[0].scale == 0.02
    assert bench.compiled == 3
    monkeypatch.setattr(decoder_cache, "find_spec", lambda _: None)
    bench.decoder(vehicle)
    assert bench.compiled == 4
    assert len(list(bench.folder.iterdir())) == 1


def test_two_vehicle_files_are_kept_side_by_side(bench: Bench, vehicle: Path) -> None:
    other = vehicle.with_name("other.toml")
    other.write_text(VEHICLE.replace("Own.Gear", "Own.Lever"), encoding="utf-8")
    for path in (vehicle, other, vehicle, other):
        bench.decoder(path)
    assert bench.compiled == 2


@pytest.mark.parametrize("cut", [0, 1, 64, 130, 400, -1, -2])
def test_a_damaged_file_is_made_again(bench: Bench, vehicle: Path, cut: int) -> None:
    made = bench.decoder(vehicle)
    (file,) = bench.folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:cut])
    assert same(bench.decoder(vehicle), made)
    flipped = bytearray(whole)
    flipped[cut] ^= 0x81
    file.write_bytes(flipped)
    assert same(bench.decoder(vehicle), made)
    assert bench.compiled == 3
    assert file.read_bytes() == whole


def test_a_sealed_file_of_another_form_is_made_again(bench: Bench, vehicle: Path) -> None:
    bench.decoder(vehicle)
    (file,) = bench.folder.iterdir()
    digest = decoder_cache._digest(load_vehicle_file(vehicle))
    for text in (
        "[]",
        "{}",
        '{"protocol":"can","messages":[{"signals":[]}]}',
        '{"protocol":"can","messages":[3]}',
    ):
        file.write_text(decoder_cache._sealed(digest, text), encoding="utf-8")
        assert bench.decoder(vehicle).signals[0].name == "Speed"


def test_a_folder_that_can_not_be_made_only_keeps_nothing(bench: Bench, vehicle: Path) -> None:
    bench.folder = vehicle / "decoders"  # below a file
    assert bench.decoder(vehicle).signals[0].name == "Speed"
    (trouble,) = bench.troubles
    assert trouble.startswith(str(bench.folder))
    assert trouble.endswith(": not kept: Not a directory")


def test_what_is_wrong_is_said_as_by_the_compiler_and_not_kept(bench: Bench, vehicle: Path) -> None:
    vehicle.write_text(VEHICLE.replace('"VehicleSpeed"', '"Speed"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"vehicle.toml: signals\[0\].signal = 'Speed': no such signal"):
        bench.decoder(vehicle)
    vehicle.with_name("v.dbc").unlink()
    with pytest.raises(ConfigError, match=r"vehicle.toml: dbc = .*v.dbc'\S?: can not be read: No such file"):
        bench.decoder(vehicle)
    assert not bench.folder.exists()


def start(code: str, *args: Path) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, which has not loaded cantools."""
    program = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(program, capture_output=True, encoding="utf-8", timeout=50, check=True)


START = """
import sys
from pathlib import Path
from agent.config import ConfigError
from agent.runtime.worker import ThreadWorker
from agent.sources.can.decoder_cache import DecoderCache
from agent.sources.can.vehicle_file import load_vehicle_file
path = Path(sys.argv[1])
try:
    decoder = DecoderCache(Path(sys.argv[2]), print).decoder(load_vehicle_file(path), path)
    print(repr((decoder.messages, decoder.protocol)))
except ConfigError as error:
    print(error.problems)
assert "cantools" not in sys.modules
"""


def test_a_process_of_its_own_compiles_the_same_and_cantools_stays_out(vehicle: Path, tmp_path: Path) -> None:
    made = compile_decoder(load_vehicle_file(vehicle), vehicle)
    assert start(START, vehicle, tmp_path / "kept").stdout == f"{(made.messages, made.protocol)!r}\n"
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_a_process_of_its_own_says_the_same_problems(vehicle: Path, tmp_path: Path) -> None:
    vehicle.write_text(VEHICLE.replace('"degrees"', '"furlong"').replace("Gear", "Gaer"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        compile_decoder(load_vehicle_file(vehicle), vehicle)
    assert start(START, vehicle, tmp_path / "kept").stdout == f"{caught.value.problems}\n"
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true", "/nowhere/python", None])
def test_without_a_process_of_its_own_it_compiles_here(
    vehicle: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    monkeypatch.delitem(sys.modules, "cantools", raising=False)
    monkeypatch.setattr(sys, "executable", program)
    troubles: list[str] = []
    decoder = DecoderCache(vehicle / "no", troubles.append).decoder(load_vehicle_file(vehicle), vehicle)
    assert decoder.signals[0].name == "Speed"
    assert "process of its own" in troubles[0]


def test_a_stop_does_not_wait_for_the_compiler(
    vehicle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text(f"#!/bin/sh\ntouch {tmp_path}/begun\nexec sleep 1000\n", encoding="utf-8")
    sleeper.chmod(0o755)
    monkeypatch.delitem(sys.modules, "cantools", raising=False)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    troubles: list[str] = []

    async def script() -> None:
        cache = DecoderCache(tmp_path / "kept", troubles.append)
        file = load_vehicle_file(vehicle)
        making = asyncio.ensure_future(cache.decoder_by(ThreadWorker("decoder"), file, vehicle))
        turns = 0
        while not (tmp_path / "begun").exists():
            turns += 1  # the loop goes on
            await asyncio.sleep(0.01)
        assert turns
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making

    asyncio.run(asyncio.wait_for(script(), 30))
    assert troubles == []


def test_a_vehicle_file_without_a_dbc_needs_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cantools", raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    path = tmp_path / "truck.toml"
    path.write_text('protocol = "j1939"\n[[signals]]\nspn = 84\nname = "Speed"\n', encoding="utf-8")
    troubles: list[str] = []
    decoder = DecoderCache(tmp_path / "kept", troubles.append).decoder(load_vehicle_file(path), path)
    assert [signal.name for signal in decoder.signals] == ["Speed"]
    assert troubles == []
    assert "cantools" not in sys.modules
