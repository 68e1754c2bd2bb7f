"""`mdt decode can` on every kind of log, and on what is none."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import sqlite3
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from agent.cli.decode_can import decode_can
from agent.recorder import recording_format as form
from agent.recorder.recording_file import RecordingFile
from firmware_shims.can_bus import import_can
from firmware_shims.can_log import CanLogError, read_can_log

CHECKOUT = Path(__file__).resolve().parents[3]
FEEDS = CHECKOUT.parent / "shared" / "feeds"
DEMO = CHECKOUT / "config" / "vehicles" / "demo_ambulance.toml"
SPEED_100, SPEED_NONE = "1027000000000000", "FFFF000000000000"
CANDUMP = f"""\
(1700000000.000000) can0 120#{SPEED_100}
(1700000000.050000) can0 120#{SPEED_100[:-2]}01
(1700000000.060000) can0 7DF#0201
(1700000000.070000) can1 120#{SPEED_100}
(1700000000.080000) can0 120#R
(1700000000.090000) can0 120#1027
(1700000000.100000) can0 120#{SPEED_NONE}
"""


def decode(path: Path, **options: Any) -> tuple[int, list[dict[str, Any]], str]:
    out, err = io.StringIO(), io.StringIO()
    code = decode_can(path, options.pop("vehicle", DEMO), out, err, **options)
    return code, [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


def line(time: str | float, bus: str, value: float | None) -> dict[str, Any]:
    return {"time": time, "bus": bus, "name": "Speed", "value": value, "unit": "km/h"}


def test_each_change_is_a_line(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(CANDUMP, encoding="utf-8")
    code, rows, err = decode(log)
    assert code == 0
    assert rows == [
        line("2023-11-14T22:13:20.000000+00:00", "can0", 100),
        line("2023-11-14T22:13:20.070000+00:00", "can1", 100),
        line("2023-11-14T22:13:20.100000+00:00", "can0", None),
    ]
    assert "6 frames on 2 buses, 3 changes\n" in err
    assert "1 frame shorter than the DBC says" in err
    assert "1 frame of other messages" in err
    assert "1 remote frame " in err
    assert "never heard: TraveledDistance" in err


def test_one_bus_can_be_chosen(tmp_path: Path) -> None:
    log = tmp_path / "a.log.gz"
    log.write_bytes(gzip.compress(CANDUMP.encode()))
    assert [row["bus"] for row in decode(log, bus="can1")[1]] == ["can1"]
    code, rows, err = decode(log, bus="can7")
    assert (code, rows) == (66, [])
    assert "no bus 'can7'; there are can0, can1" in err


def test_a_log_without_dates_keeps_its_own_seconds(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(f"(166.250000) vcan0 120#{SPEED_100}\n", encoding="utf-8")
    assert decode(log)[1] == [line(166.25, "vcan0", 100)]


@pytest.mark.parametrize("suffix", [".asc", ".blf", ".trc", ".log", ".csv", ".db"])
def test_every_format_of_python_can(tmp_path: Path, suffix: str) -> None:
    can = import_can()
    log = tmp_path / f"a{suffix}"
    with can.Logger(str(log)) as writer:
        for number, data in enumerate((SPEED_100, SPEED_100, SPEED_NONE)):
            writer.on_message_received(
                can.Message(
                    timestamp=1_700_000_000 + number / 10,
                    arbitration_id=0x120,
                    is_extended_id=False,
                    data=bytes.fromhex(data),
                    channel=1,
                )
            )
    code, rows, err = decode(log)
    assert code == 0, err
    assert [row["value"] for row in rows] == [100, None]


@pytest.mark.parametrize("most", [1, 100])
def test_no_connection_to_a_database_of_frames_is_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    can = import_can()
    log = tmp_path / "a.db"
    with can.Logger(str(log)) as writer:
        for number in range(3):
            writer.on_message_received(can.Message(timestamp=number, arbitration_id=0x120, data=b"1"))
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def watched(*args: Any, **options: Any) -> sqlite3.Connection:
        connections.append(connect(*args, **options))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", watched)
    frames = read_can_log(log)
    read = list(itertools.islice(frames, most))
    assert len(read) == min(most, 3)
    assert isinstance(frames, Generator)
    frames.close()
    assert len(connections) == 1
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[0].execute("SELECT 1")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.log", b"\x00\x01\x02", "not a candump log"),
        ("a.log", b"", "not a candump log"),
        ("a.blf", b"not a BLF file at all, of some length" * 10, "a.blf"),
        ("a.mf4", b"not an MF4 file", "a.mf4"),
        ("a.png", b"", "a.png"),
    ],
)
def test_what_is_no_log_is_said(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    log = tmp_path / name
    log.write_bytes(content)
    code, _, err = decode(log)
    assert code == 66
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "torn",
    [
        "(1700000000.5(1700000002.000000) can0 120#3027000000000000\n",
        "(1700000000.500000) can0 12(1700000002.000000) can0 120#3027000000000000\n",
        "(1700000000.500000) can0 120#102(1700000002.000000) can0 120#3027000000000000\n",
        "(1700000000.500000) can0 120#1027\0\0\0\0(1700000002.000000) can0 120#3027000000000000\n",
        "(1700000000.5) can0 120#XYZ\n(1700000002.000000) can0 120#3027000000000000\n",
        "(1700000000.5) can0  120   [8]  10 2(1700000002.000000) can0 120  [8]  30 27 00 00 00 00 00 00\n",
    ],
)
def test_a_log_goes_on_behind_a_torn_line(tmp_path: Path, torn: str) -> None:
    log = tmp_path / "a.log"
    log.write_text(f"(1700000000.000000) can0 120#{SPEED_100}\n{torn}", encoding="utf-8")
    code, rows, err = decode(log)
    assert (code, [row["value"] for row in rows]) == (0, [100, 100.32])
    assert "1 line unreadable" in err


def test_a_torn_line_of_another_tools_text_is_passed_over(tmp_path: Path) -> None:
    can = import_can()
    for suffix in (".asc", ".trc", ".csv"):
        log = tmp_path / f"a{suffix}"
        with can.Logger(str(log)) as writer:
            for number in range(5):
                data = (10_000 + number).to_bytes(2, "little").ljust(8, b"\0")
                at_s = 1_700_000_000 + number
                writer.on_message_received(
                    can.Message(at_s, arbitration_id=0x120, is_extended_id=False, data=data, channel=1)
                )
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        at = next(
            index
            for index, line in enumerate(lines)
            if "12" in line and len(lines) - index == 3 + (suffix == ".asc")
        )
        lines[at] = lines[at].rstrip()[:-9] + "zz#\n"
        log.write_text("".join(lines), encoding="utf-8")
        code, rows, err = decode(log)
        assert code == 0, err
        assert [row["value"] for row in rows] in (
            [100, 100.01, 100.03, 100.04],
            [100, 100.01, 100.02, 100.04],
        ), suffix
        assert "1 line unreadable" in err


@pytest.mark.parametrize(
    "text",
    [
        "  can0  120   [8]  10 27 00 00 00 00 00 00\n",
        " (017.123456)  can0  120   [8]  10 27 00 00 00 00 00 00   '.'......'\n",
        " (2023-11-14 22:13:20.000000)  can0  120   [8]  10 27 00 00 00 00 00 00\n",
        "  can0  RX - -  120   [8]  10 27 00 00 00 00 00 00\n",
        "  can0  TX B E  120  [08]  10 27 00 00 00 00 00 00\n",
        "  can0  120   [8]  00`00`00`00`00`00`27`10\n",
        "  can0  120   [2]  00010000 00100111\n",
        "\x1b[32m  can0  120   [8]  10 27 00 00 00 00 00 00\x1b[0m\n",
    ],
)
def test_candumps_form_for_the_screen_is_read(tmp_path: Path, text: str) -> None:
    log = tmp_path / "a.log"
    log.write_text(
        text
        + "  can0  20000004   [8]  00 00 00 00 00 00 00 00   ERRORFRAME\n  can0  123   [0]  remote request\n",
        encoding="utf-8",
    )
    code, rows, err = decode(log)
    assert (code, [row["value"] for row in rows]) == (0, [100])
    assert "1 error frame of" in err
    assert "1 remote frame " in err
    assert "unreadable" not in err
    expected = {"(017": 17.123456, "(202": "2023-11-14T22:13:20.000000"}.get(text.strip()[:4])
    assert rows[0]["time"] == expected


def test_what_mdt_record_wrote_is_read_also_without_its_end(tmp_path: Path) -> None:
    recording = RecordingFile(tmp_path / "a.mcap", {})
    recording.open()
    clock = form.pack_json(unix_ms=1_700_000_000_000, synchronised=True, max_error_ms=1)
    for number in range(3):
        data = (10_000 + number).to_bytes(2, "little").ljust(8, b"\0")
        recording.add("can/can0", 5_000_000_000 + number, 0, form.pack_can(0x120, False, data))
        recording.add(form.CLOCK_TOPIC, 5_000_000_000, 0, clock)
        recording.flush(sync=False)
    recording.close()
    code, rows, err = decode(recording.path)
    assert (code, [row["value"] for row in rows]) == (0, [100, 100.01, 100.02])
    assert [row["time"] for row in rows] == [5, *["2023-11-14T22:13:20.000000+00:00"] * 2]
    whole = recording.path.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: whole.rindex(b"can/can0") - 40])
    code, rows, err = decode(cut)
    assert code == 0
    assert rows
    assert "1 line unreadable" in err
    cut.write_bytes(whole[:20])
    assert decode(cut)[0] == 66


def test_missing_files(tmp_path: Path) -> None:
    code, _, err = decode(tmp_path / "none.log")
    assert (code, err) == (66, f"{tmp_path}/none.log: can not be read: No such file or directory\n")
    code, _, err = decode(tmp_path / "none.log", vehicle=tmp_path / "none.toml")
    assert code == 78
    assert "none.toml" in err


def test_asammdf_is_named_when_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "asammdf", None)
    monkeypatch.setattr(import_can().io.mf4, "asammdf", None)
    log = tmp_path / "a.mf4"
    log.write_bytes(b"")
    with pytest.raises(CanLogError, match="needs asammdf"):
        next(read_can_log(log))


def test_savvycan_log_is_read_whole() -> None:
    log = FEEDS / "can" / "savvycan_candump.log"
    if not log.is_file():
        pytest.skip("the recorded feeds are not on this machine")
    frames = list(read_can_log(log))
    assert len(frames) == log.read_bytes().count(b"\n")
    assert {frame.bus for frame in frames} == {"vcan0"}
    assert frames[0].unix_s is None
