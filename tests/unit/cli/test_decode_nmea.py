"""`mdt decode nmea`: output, comments, standard input, files that are not there."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.cli.decode_nmea import decode_nmea
from agent.cli.exit_code import ExitCode
from agent.recorder import recording_format as form
from agent.recorder.recording_file import RecordingFile

LOG = b"""\
# a comment that quotes $GPRMC,113258,A,3238.9148,N,10822.4466,W,005.3,247.1,181022,009.3,E*6B
$GPRMC,113258,A,3238.9148,N,10822.4466,W,005.3,247.1,181022,009.3,E*6B
$GPRMC,113259,V,,,,,,,181022,,*34
$GPRMC,113300,A,3238.9148,N,10822.4466,W,005.3,247.1,181022,009.3,E
"""
FIX = {
    "time": "2022-10-18T11:32:58.000+00:00",
    "lat": 32.64858,
    "lon": -108.37411,
    "alt_m": None,
    "speed_mps": 2.727,
    "course_deg": 247.1,
    "mode": 2,
    "satellites": None,
    "hdop": None,
}
NO_FIX = dict.fromkeys(FIX) | {"time": "2022-10-18T11:32:59.000+00:00", "mode": 1}


def check(out: io.StringIO, err: io.StringIO) -> None:
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [FIX, NO_FIX]
    assert err.getvalue().splitlines() == [
        "1 fixes, 1 epochs without a fix, 2 sentences",
        "rejected: no_checksum 1",
    ]


def test_a_file(tmp_path: Path) -> None:
    log, out, err = tmp_path / "drive.nmea", io.StringIO(), io.StringIO()
    log.write_bytes(LOG)
    assert decode_nmea(str(log), out, err) == ExitCode.OK
    check(out, err)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(LOG)))
    assert decode_nmea("-", out, err) == ExitCode.OK
    check(out, err)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert decode_nmea(str(tmp_path / "none"), out, err) == ExitCode.NO_INPUT
    assert "No such file" in err.getvalue()


def test_what_mdt_record_wrote_is_read_also_without_its_end(tmp_path: Path) -> None:
    recording = RecordingFile(tmp_path / "a.mcap", {})
    recording.open()
    sentence = b"$GPRMC,120010,A,4221.5000,N,07103.9000,W,020.0,045.0,140926,,*0A\r\n"
    for at, part in enumerate((sentence[:20], sentence[20:])):
        recording.add(form.NMEA_TOPIC, at, 0, form.pack_nmea(part))
    recording.flush(sync=False)
    out, err = io.StringIO(), io.StringIO()
    assert decode_nmea(str(recording.path), out, err) == 0
    recording.close()
    (fix,) = [json.loads(line) for line in out.getvalue().splitlines()]
    assert fix["lat"] == pytest.approx(42.358333333)
    assert fix["time"] == "2026-09-14T12:00:10.000+00:00"
