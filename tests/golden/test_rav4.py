"""Recorded vehicles, decoded by `mdt decode can`, held against the physics in their own logs."""

from __future__ import annotations

import io
import json
import math
import re
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from agent.cli.decode_can import decode_can

CHECKOUT = Path(__file__).resolve().parents[2]
FEEDS = CHECKOUT.parent / "shared" / "feeds"
pytestmark = pytest.mark.skipif(not FEEDS.is_dir(), reason="the recorded feeds are not on this machine")

Series = list[tuple[float, float]]
WHEELS = tuple(f"Chassis.Axle.Row{row}.Wheel.{side}.Speed" for row in (1, 2) for side in ("Left", "Right"))


def decoded(log: Path, vehicle: Path, dbc: Path | None = None) -> dict[str, Series]:
    """(Unix seconds, value) of each signal."""
    out, err = io.StringIO(), io.StringIO()
    assert decode_can(log, vehicle, out, err, dbc=dbc) == 0, err.getvalue()
    series: dict[str, Series] = {}
    for line in out.getvalue().splitlines():
        row = json.loads(line)
        assert set(row) == {"time", "bus", "name", "value", "unit"}
        assert row["time"].endswith("+00:00")
        at_s = datetime.fromisoformat(row["time"]).timestamp()
        series.setdefault(row["name"], []).append((at_s, row["value"]))
    return series


@cache
def rav4() -> dict[str, Series]:
    return decoded(
        FEEDS / "can" / "comma2k19_rav4_first15s.log",
        CHECKOUT / "config" / "vehicles" / "toyota_rav4_2018.toml",
        FEEDS / "dbc" / "toyota_nodsu_pt_generated.dbc",
    )


def at(series: Series, moment_s: float) -> float:
    return next(value for at_s, value in reversed(series) if at_s <= moment_s)


def test_speed_is_in_range_and_sampled_as_sent() -> None:
    speed = rav4()["Speed"]
    assert all(0 <= value < 90 for _, value in speed)
    assert 590 <= len(speed) <= 622  # 622 frames at 41.5 a second, of which a few repeat the one before
    assert median(b[0] - a[0] for a, b in pairwise(speed)) == pytest.approx(0.024, abs=0.004)
    assert max(b[0] - a[0] for a, b in pairwise(speed)) < 0.2


def test_speed_is_continuous() -> None:
    speed = rav4()["Speed"]
    for (_, before), (_, after) in pairwise(speed):
        assert abs(after - before) < 1.5  # km/h between frames
    for start in range(0, len(speed) - 20, 5):
        (at_s, before), (later_s, after) = speed[start], speed[start + 20]
        acceleration = (after - before) / 3.6 / (later_s - at_s)
        assert -4 < acceleration < 4  # m/s^2 over half a second: a car with its tyres on the road


def test_speed_agrees_with_each_wheel() -> None:
    signals = rav4()
    for at_s, speed in signals["Speed"][10::10]:
        for wheel in WHEELS:
            assert at(signals[wheel], at_s) == pytest.approx(speed, rel=0.05, abs=2), wheel


def test_the_rest_is_what_a_driving_car_says() -> None:
    signals = rav4()
    assert all(600 < rpm < 6500 for _, rpm in signals["Powertrain.CombustionEngine.Speed"])
    final = {name: series[-1][1] for name, series in signals.items()}
    assert final["Powertrain.CombustionEngine.IsRunning"]
    assert final["Powertrain.Transmission.SelectedGear"] == 127
    assert not final["Chassis.ParkingBrake.IsEngaged"]
    assert final["Cabin.Seat.Row1.DriverSide.IsBelted"]
    assert not any(value for name, value in final.items() if name.endswith((".IsOpen", ".IsSignaling")))
    assert {name for name in final if name.startswith("Cabin.Door")} == {
        f"Cabin.Door.Row{row}.{side}Side.IsOpen" for row in (1, 2) for side in ("Driver", "Passenger")
    }


GNSS_VEHICLE = """
dbc = "{dbc}"
[[signals]]
message = "gnss_pos"
signal = "Latitude"
name = "CurrentLocation.Latitude"
unit = "degrees"
[[signals]]
message = "gnss_pos"
signal = "Longitude"
name = "CurrentLocation.Longitude"
unit = "degrees"
[[signals]]
message = "gnss_speed"
signal = "Speed"
name = "Speed"
"""


def test_a_canedge_mf4_of_a_gnss_module(tmp_path: Path) -> None:
    pytest.importorskip("asammdf", reason="MF4 needs asammdf")
    vehicle = tmp_path / "gnss.toml"
    vehicle.write_text(GNSS_VEHICLE.format(dbc=FEEDS / "dbc" / "css_gnss.dbc"), encoding="utf-8")
    signals = decoded(FEEDS / "can" / "css_canmod_gps_drive.MF4", vehicle)
    latitudes, longitudes = signals["CurrentLocation.Latitude"], signals["CurrentLocation.Longitude"]
    speed = signals["Speed"]
    assert all(56.06 < value < 56.08 for _, value in latitudes)
    assert all(10.15 < value < 10.17 for _, value in longitudes)
    assert 26 < max(value for _, value in speed) < 28  # km/h, from m/s in the DBC
    assert all(value >= 0 for _, value in speed)
    # Distance travelled between positions is the speed over the same time.
    start_s, end_s = speed[0][0] + 1, speed[-1][0]
    moments = [start_s + step for step in range(int(end_s - start_s))]
    points = [(at(latitudes, moment), at(longitudes, moment)) for moment in moments]
    metres = sum(
        math.hypot((b[0] - a[0]) * 111_320, (b[1] - a[1]) * 111_320 * math.cos(math.radians(56.07)))
        for a, b in pairwise(points)
    )
    by_speed = sum(at(speed, moment) / 3.6 for moment in moments)
    assert metres == pytest.approx(by_speed, rel=0.1)


J1939_VEHICLE = """
dbc = "{dbc}"
protocol = "j1939"
[[signals]]
message = "EEC1"
signal = "EngineSpeed"
name = "Powertrain.CombustionEngine.Speed"
[[signals]]
message = "CCVS1"
signal = "WheelBasedVehicleSpeed"
name = "Speed"
"""


def j1939_vehicle(tmp_path: Path) -> Path:
    vehicle = tmp_path / "j1939.toml"
    vehicle.write_text(J1939_VEHICLE.format(dbc=FEEDS / "dbc" / "css_j1939_demo.dbc"), encoding="utf-8")
    return vehicle


def test_a_j1939_truck_that_stands(tmp_path: Path) -> None:
    # The DBC has priority 3 and source 0xFE where the truck has 3, 6 and 0x00: groups are what must agree.
    line = re.compile(r" (\d\d):(\d\d):([\d.]+) ([0-9A-F]{8}) \[(\d)\] ((?:[0-9A-F]{2} ?)+)$")
    log = tmp_path / "truck.log"
    lines = (FEEDS / "can" / "eti_j1939_840.log").read_text(encoding="utf-8").splitlines()
    frames = [found for text in lines if (found := line.search(text))]
    assert len(frames) > 2000
    with log.open("w", encoding="utf-8") as out:
        for found in frames:
            at_s = 1_619_000_000 + int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
            out.write(f"({at_s:.6f}) can0 {found[4]}#{found[6].replace(' ', '')}\n")
    signals = decoded(log, j1939_vehicle(tmp_path))
    assert {value for _, value in signals["Powertrain.CombustionEngine.Speed"]} == {0}
    assert {value for _, value in signals["Speed"]} == {0}


def test_a_j1939_mf4_of_a_truck_that_stands(tmp_path: Path) -> None:
    pytest.importorskip("asammdf", reason="MF4 needs asammdf")
    signals = decoded(FEEDS / "can" / "css_nmea2000_j1939_demo.MF4", j1939_vehicle(tmp_path))
    assert {name: {value for _, value in series} for name, series in signals.items()} == {
        "Powertrain.CombustionEngine.Speed": {0},
        "Speed": {0},
    }
