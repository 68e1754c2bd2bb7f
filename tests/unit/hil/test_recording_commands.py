"""hil drive, import and info, as they are typed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import can
import pytest

from hil.drive import command as drive
from hil.drive.items import ButtonItem, CanItem, NmeaItem, TimedItem
from hil.drive.shift import Options, load_shift
from hil.recording import command_import, command_info
from hil.recording.mcap_file import RecordingReader, RecordingWriter
from hil.recording.recorded_drive import open_recording


def run(module: ModuleType, *words: object) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return int(module.run(parser.parse_args([str(word) for word in words])))


def read(path: Path) -> list[TimedItem]:
    return list(RecordingReader(path).items())


def test_a_drive_is_recorded_the_same_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one.mcap", tmp_path / "two.mcap"
    assert run(drive, "emergency_call", "--out", one, "--seed", 5) == 0
    assert run(drive, "emergency_call", "--out", two, "--seed", 5) == 0
    assert one.read_bytes() == two.read_bytes()
    assert "16 button" in capsys.readouterr().out
    reader = RecordingReader(one)
    assert next(reader.items()).t_ns == 0
    assert reader.found.metadata["scenario"] == "emergency_call"
    assert reader.found.metadata["seed"] == "5"


def test_a_recording_is_not_overwritten_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "drive.mcap"
    out.write_bytes(b"precious")
    assert run(drive, "emergency_call", "--out", out) == 1
    assert "--force" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert run(drive, "emergency_call", "--out", out, "--force") == 0


def test_an_unknown_drive_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(drive, "atlantis", "--out", tmp_path / "x.mcap") == 78
    assert "shipped are" in capsys.readouterr().err
    assert run(drive) == 2


def test_a_call_is_planned_along_a_street_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corner = [-71.08, 42.35]
    lines = {
        "Long Street": [[-71.09, 42.35], corner],
        "Cross Street": [corner, [-71.08, 42.36]],
        "Far Away": [[-70.0, 42.0], [-70.0, 42.1]],
    }
    features = [
        {
            "type": "Feature",
            "properties": {"name": name, "highway": "primary"},
            "geometry": {"type": "LineString", "coordinates": line},
        }
        for name, line in lines.items()
    ]
    streets = tmp_path / "streets.geojson"
    streets.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    places = ["42.35,-71.09", "42.35,-71.08", "42.36,-71.08"]
    assert run(drive, "--plan", *places, "--streets", streets) == 0
    planned = capsys.readouterr().out
    path = tmp_path / "planned.toml"
    path.write_text(f'title = "Planned"\nstart_utc = 2026-03-14T11:00:00Z\n\n{planned}')
    assert run(drive, path, "--out", tmp_path / "planned.mcap", "--can-scale", 0) == 0
    assert run(drive, "--plan", "42.35,-71.09", "42.0,-70.0", "42.36,-71.08", "--streets", streets) == 1
    assert "no way along the streets" in capsys.readouterr().err


def candump(path: Path, frames: list[tuple[float, str, int, bytes]]) -> Path:
    path.write_text("".join(f"({t:.6f}) {bus} {one:03X}#{data.hex()}\n" for t, bus, one, data in frames))
    return path


NMEA = b"".join(
    b"$GPRMC,%s,A,4901.5940,N,01203.9163,E,19.4,131.9,110410,,,A*00\r\n" % time
    for time in (b"165744", b"165745", b"165749")
)


def test_logs_become_one_recording(tmp_path: Path) -> None:
    (tmp_path / "drive.nmea").write_bytes(NMEA)
    log = candump(
        tmp_path / "bus.log",
        [(100.0, "can0", 0x120, b"\x01"), (100.5, "vcan1", 0x121, b""), (100.4, "can0", 5, b"")],
    )
    (tmp_path / "presses.toml").write_text('[[press]]\nat_s = 3.5\nkey = "on_scene"\n')
    (tmp_path / "presses.csv").write_text("at_s,key,held_ms\n0.25,available,90\n")
    out = tmp_path / "all.mcap"
    code = run(
        command_import,
        *("--out", out, "--nmea", tmp_path / "drive.nmea", "--can", log, "--can", f"body={log}"),
        *("--presses", tmp_path / "presses.toml", "--presses", tmp_path / "presses.csv"),
    )
    assert code == 0
    items = read(out)
    assert b"".join(item.data for item in items if isinstance(item, NmeaItem)) == NMEA
    buses = [item.bus for item in items if isinstance(item, CanItem)]
    assert sorted(buses) == ["body", "body", "body", "can0", "can0", "vcan1"]
    edges = [(item.t_ns / 1e9, item.key, item.pressed) for item in items if isinstance(item, ButtonItem)]
    assert edges == [
        (0.25, "available", True),
        (0.34, "available", False),
        (3.5, "on_scene", True),
        (3.65, "on_scene", False),
    ]


def test_logs_are_aligned_by_their_utc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "drive.nmea").write_bytes(NMEA)
    begins_s = 1_271_005_064.0
    log = candump(tmp_path / "bus.log", [(begins_s + 2, "can0", 0x120, b"\x01")])
    out = tmp_path / "all.mcap"
    words = ("--out", out, "--align", "utc", "--nmea", tmp_path / "drive.nmea", "--can", log)
    assert run(command_import, *words) == 0
    frame = next(item for item in read(out) if isinstance(item, CanItem))
    assert frame.t_ns == 2_000_000_000
    candump(log, [(2.0, "can0", 0x120, b"\x01")])
    assert run(command_import, *words, "--force") == 1
    assert "not every log tells its UTC" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["asc", "blf", "trc", "log"])
def test_each_kind_of_log(tmp_path: Path, kind: str) -> None:
    log = tmp_path / f"bus.{kind}"
    with can.Logger(log) as logger:
        for count in range(5):
            logger(
                can.Message(
                    timestamp=1000 + count / 10,
                    arbitration_id=0x123 + count,
                    data=[count],
                    is_extended_id=False,
                )
            )
    assert run(command_import, "--out", tmp_path / "out.mcap", "--can", f"can0={log}") == 0
    items = read(tmp_path / "out.mcap")
    frames = [(item.can_id, item.data) for item in items if isinstance(item, CanItem)]
    assert frames == [(0x123 + count, bytes([count])) for count in range(5)]
    assert items[-1].t_ns == pytest.approx(400_000_000, abs=2_000_000)


@pytest.mark.parametrize("name", ["css_canmod_gps_drive.MF4", "comma2k19_rav4_first15s.log"])
def test_real_logs(feeds: Path, tmp_path: Path, name: str) -> None:
    if name.endswith(".MF4"):
        pytest.importorskip("asammdf", reason="MF4 needs asammdf")
    out = tmp_path / "out.mcap"
    assert run(command_import, "--out", out, "--can", feeds / "can" / name) == 0
    info = command_info.describe(out)
    assert sum(channel["count"] for channel in info["channels"].values()) > 4000
    assert info["damage"] is None


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("bus.json", b"{}", "not a log by its name"),
        ("bus.log", b"2021-04-23 12:22 FINE something else entirely\n", "not a candump log"),
        ("bus.log", b"", "not a candump log"),
    ],
)
def test_logs_that_can_not_be_read_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert run(command_import, "--out", tmp_path / "out.mcap", "--can", tmp_path / name) == 1
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out.mcap").exists()


def test_a_wrong_press_list_names_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.toml").write_text('[[press]]\nat = 3\nkey = "on_scene"\n')
    assert run(command_import, "--out", tmp_path / "out.mcap", "--presses", tmp_path / "p.toml") == 78
    assert "press[0].at" in capsys.readouterr().err
    assert run(command_import, "--out", tmp_path / "out.mcap") == 2


def test_info_shows_channels_rates_gaps_and_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "drive.nmea"
    log.write_bytes(NMEA)
    out = tmp_path / "drive.mcap"
    assert run(command_import, "--out", out, "--nmea", log, "--unit", "A7") == 0
    capsys.readouterr()
    assert run(command_info, out, "--json") == 0
    info = json.loads(capsys.readouterr().out)
    assert info["metadata"]["unit"] == "A7"
    channel = info["channels"]["gnss/nmea"]
    assert channel["count"] == 3
    assert channel["rate_hz"] == pytest.approx(0.4, abs=0.01)
    assert [round(gap["to_s"] - gap["from_s"]) for gap in channel["gaps"]] == [4]
    out.write_bytes(out.read_bytes()[:-100])
    assert run(command_info, out) == 1
    told = capsys.readouterr()
    assert "gap from 1.0" in told.out
    assert "gnss/nmea" in told.out
    assert "damaged at byte" in told.err
    assert run(command_info, tmp_path / "nothing.mcap") == 2
    assert "can not be read" in capsys.readouterr().err


def test_a_recording_is_a_drive_again(tmp_path: Path) -> None:
    out = tmp_path / "drive.mcap"
    assert run(drive, "boston_demo", "--out", out, "--seed", 2, "--can-scale", 0) == 0
    recorded = open_recording(out)
    shift = load_shift("boston_demo", 2, Options(can_hz_scale=0))
    assert list(recorded.items()) == list(shift.items())
    assert list(recorded.presses) == list(shift.presses)
    assert recorded.coverage_gaps[0] == pytest.approx(shift.coverage_gaps[0])
    assert recorded.start_utc_ms == shift.start_utc_ms
    assert recorded.name == shift.name
    assert recorded.damage is None


def test_a_recording_of_nothing_is_no_drive(tmp_path: Path) -> None:
    out = tmp_path / "empty.mcap"
    with RecordingWriter(out, {}):
        pass
    with pytest.raises(ValueError, match="nothing in it"):
        open_recording(out)
