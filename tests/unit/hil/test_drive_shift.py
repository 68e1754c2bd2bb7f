"""Simulated shifts: what is shipped, consistent in itself and the same every time."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import cantools
import pytest

from agent.config import ConfigError
from agent.domain.fix import Fix, FixMode
from agent.domain.status import UnitStatus
from agent.hal.can import CanFrame
from agent.hal.gnss import NmeaBytes
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.vehicle_file import load_vehicle_file
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from hil.drive.can_writer import DEMO_DBC, bus_messages
from hil.drive.drive_file import drive_names, drive_path
from hil.drive.items import ButtonItem, CanItem, CoverageItem, IgnitionItem, NmeaItem, TimedItem, TruthItem
from hil.drive.route import METRES_PER_DEGREE, Sky, distance_m
from hil.drive.shift import Options, load_shift

SIX = ["available", "en_route", "on_scene", "transporting", "at_destination", "available"]
T = TypeVar("T")


@cache
def demo() -> tuple[TimedItem, ...]:
    return tuple(load_shift("boston_demo", 1).items())


def of(items: tuple[TimedItem, ...], kind: type[T]) -> list[T]:
    return [item for item in items if isinstance(item, kind)]


def fixes(items: tuple[TimedItem, ...]) -> list[Fix]:
    decoder = ReceiverDecoder()
    found = [fix for item in of(items, NmeaItem) for fix in decoder.feed(NmeaBytes(item.data, item.t_ns))]
    found += decoder.finish()
    assert not decoder.rejections
    return found


def test_the_shipped_drives() -> None:
    assert {"boston_demo", "boston_12h", "emergency_call"} <= set(drive_names())


def digest(name: str, seed: int) -> str:
    lines = (repr(item).encode() for item in load_shift(name, seed).items())
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not() -> None:
    assert digest("emergency_call", 7) == digest("emergency_call", 7)
    assert digest("emergency_call", 7) != digest("emergency_call", 8)


def test_fewer_frames_change_nothing_else() -> None:
    thin = load_shift("emergency_call", 7, Options(can_hz_scale=0.1)).items()
    full = load_shift("emergency_call", 7).items()
    assert [item for item in thin if not isinstance(item, CanItem)] == [
        item for item in full if not isinstance(item, CanItem)
    ]


def test_items_come_in_the_order_of_their_times() -> None:
    assert all(before.t_ns <= after.t_ns for before, after in pairwise(demo()))


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_demo_lasts_eight_minutes_with_six_statuses_a_tunnel_and_an_outage(seed: int) -> None:
    shift = load_shift("boston_demo", seed)
    assert shift.duration_s == 480
    assert [press.key for press in shift.presses] == SIX
    ((lost_s, back_s),) = shift.coverage_gaps
    assert 30 < back_s - lost_s < 120
    # At least one status is pressed while dispatch can not be reached.
    assert any(lost_s < press.at_ns / 1e9 < back_s for press in shift.presses)


def test_no_fix_in_the_tunnel_and_a_fix_nearly_everywhere_else() -> None:
    truth = of(demo(), TruthItem)
    tunnel = [item for item in truth if item.sky is Sky.TUNNEL]
    assert len(tunnel) > 60
    assert not any(item.has_fix for item in tunnel)
    outside = [item for item in truth if item.sky is not Sky.TUNNEL]
    assert sum(item.has_fix for item in outside) / len(outside) > 0.97


def test_the_agent_s_decoder_sees_the_truth_through_the_receiver_s_errors() -> None:
    truth = {item.utc_ms: item for item in of(demo(), TruthItem)}
    seen = {fix.utc_ms: fix for fix in fixes(demo())}
    assert seen.keys() == truth.keys()
    errors_m = []
    for utc_ms, fix in seen.items():
        real = truth[utc_ms or 0]
        assert fix.has_position == real.has_fix
        if fix.lat_deg is None or fix.lon_deg is None:
            assert fix.mode is FixMode.NONE
            continue
        assert fix.speed_mps == pytest.approx(real.speed_mps, abs=0.7)
        north_m = (fix.lat_deg - real.lat_deg) * METRES_PER_DEGREE
        east_m = (fix.lon_deg - real.lon_deg) * METRES_PER_DEGREE * 0.739
        errors_m.append((north_m**2 + east_m**2) ** 0.5)
        if real.speed_mps == 0:
            assert fix.course_deg is None
    errors_m.sort()
    assert 0.5 < errors_m[len(errors_m) // 2] < 5
    assert errors_m[-1] < 40


def test_dilution_and_satellites_vary() -> None:
    seen = [fix for fix in fixes(demo()) if fix.has_position]
    assert len({fix.satellites for fix in seen}) >= 3
    assert len({fix.hdop for fix in seen}) > 10


def test_sentences_come_no_faster_than_the_line() -> None:
    for before, after in pairwise(of(demo(), NmeaItem)):
        assert after.t_ns - before.t_ns >= len(after.data) * 10 / 9600 * 1e9 - 2


def test_the_bus_agrees_with_the_motion() -> None:
    database = cantools.database.can.Database()
    database.add_dbc_file(DEMO_DBC)
    truth = of(demo(), TruthItem)
    frames = of(demo(), CanItem)
    assert len(frames) / 480 == pytest.approx(74, abs=0.5)
    speed = database.get_message_by_name("VEHICLE_MOTION")
    cluster = database.get_message_by_name("CLUSTER_STATUS")
    odometers = []
    for frame in frames:
        values = database.decode_message(frame.can_id, frame.data)
        real = truth[min(int(frame.t_ns / 1e9), len(truth) - 1)]
        assert isinstance(values, dict)
        if frame.can_id == speed.frame_id:
            assert float(str(values["VehicleSpeed"])) / 3.6 == pytest.approx(real.speed_mps, abs=3.2)
        if frame.can_id == cluster.frame_id:
            odometers.append(float(str(values["Odometer"])))
    assert all(before <= after for before, after in pairwise(odometers))
    driven_km = (truth[-1].odometer_m - truth[0].odometer_m) / 1000
    assert odometers[-1] - odometers[0] == pytest.approx(driven_km, abs=0.2)
    assert driven_km > 3.5


def test_the_vehicle_file_of_the_demo_sees_doors_lights_and_gears() -> None:
    vehicle = DEMO_DBC.with_suffix(".toml")
    decoder = compile_decoder(load_vehicle_file(vehicle), vehicle)
    seen: dict[str, set[object]] = {}
    for item in of(demo(), CanItem):
        for signal in decoder.decode(CanFrame(item.can_id, item.extended, item.data, item.t_ns)):
            seen.setdefault(signal.name, set()).add(signal.value)
    for name in (
        "Ambulance.EmergencyLights.IsOn",
        "Ambulance.Siren.IsOn",
        "Body.Trunk.Rear.IsOpen",
        "Chassis.ParkingBrake.IsEngaged",
        "Cabin.Door.Row1.DriverSide.IsOpen",
    ):
        close = [known for known in seen if known.startswith(name.rpartition(".")[0])]
        assert any(seen[known] == {True, False} for known in close), (name, seen.keys())
    assert None not in seen["Speed"]


def test_payloads_are_those_cantools_makes() -> None:
    database = cantools.database.can.Database()
    database.add_dbc_file(DEMO_DBC)
    for message in bus_messages():
        payloads = {item.data for item in of(demo(), CanItem) if item.can_id == message.can_id}
        reference = database.get_message_by_frame_id(message.can_id)
        for payload in sorted(payloads)[:300]:
            values = reference.decode(payload, scaling=False)
            assert reference.encode(values, scaling=False) == payload


def test_presses_become_pairs_of_edges_with_ascending_numbers() -> None:
    edges = of(demo(), ButtonItem)
    assert [edge.device_seq for edge in edges] == list(range(1, 13))
    for down, up in zip(edges[::2], edges[1::2], strict=True):
        assert (down.key, down.pressed, up.key, up.pressed) == (up.key, True, down.key, False)
        assert 0.1 < (up.t_ns - down.t_ns) / 1e9 < 0.25


def test_the_emergency_button_is_raised_and_held_to_cancel() -> None:
    presses = [press for press in load_shift("emergency_call", 1).presses if press.key == "emergency"]
    assert [press.held_ms > 5000 for press in presses] == [False, True]
    assert presses[1].at_ns - presses[0].at_ns > 10_200_000_000


@pytest.mark.parametrize("seed", [1, 2])
def test_twelve_hours_with_ten_calls(seed: int) -> None:
    shift = load_shift("boston_12h", seed)
    assert shift.duration_s == pytest.approx(43_200)
    keys = Counter(press.key for press in shift.presses)
    assert keys["on_scene"] == keys["transporting"] == keys["at_destination"] == 10
    assert set(keys) - {"emergency"} <= {status.value for status in UnitStatus}
    assert all(before.at_ns < after.at_ns for before, after in pairwise(shift.presses))
    # Each phase begins where the one before it ends: nothing jumps.
    for before_s in range(0, 43_000, 10):
        before, after = shift.timeline.at(before_s), shift.timeline.at(before_s + 1)
        assert after.travelled_m - before.travelled_m <= 25
        moved_deg = max(abs(after.point[0] - before.point[0]), abs(after.point[1] - before.point[1]))
        assert moved_deg < 40 / METRES_PER_DEGREE


def test_coverage_and_ignition_are_told() -> None:
    covered = of(demo(), CoverageItem)
    assert [item.covered for item in covered] == [False, True]
    assert [item.on for item in of(demo(), IgnitionItem)] == [True]


def test_the_bus_falls_silent_after_the_ignition(tmp_path: Path) -> None:
    text = drive_path("emergency_call").read_text()
    (tmp_path / "off.toml").write_text("ignition_off_at_end = true\n" + text)
    items = tuple(load_shift(tmp_path / "off.toml", 1).items())
    on, off = of(items, IgnitionItem)
    assert (on.on, off.on) == (True, False)
    last_s = max(item.t_ns for item in of(items, CanItem)) / 1e9
    assert off.t_ns / 1e9 + 1 < last_s < off.t_ns / 1e9 + 2.1


def test_a_drive_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shipped are boston_12h"):
        load_shift("atlantis", 1)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('title = "x"\nspeed = 3\n')
    with pytest.raises(ConfigError) as caught:
        load_shift(wrong, 1)
    assert any("speed" in problem for problem in caught.value.problems)
    assert any("calls" in problem for problem in caught.value.problems)


@pytest.mark.parametrize("name", drive_names())
def test_no_shipped_drive_jumps(name: str) -> None:
    course = load_shift(name, 1).timeline
    before = course.at(0.0).point
    for second in range(1, int(course.duration_s)):
        after = course.at(float(second)).point
        assert distance_m(before, after) <= 46, f"{before} to {after} in the second before {second}"
        before = after
