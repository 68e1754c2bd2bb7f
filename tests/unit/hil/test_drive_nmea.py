"""NMEA sentences that are written, and logs that are paced and turned into drives."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pynmea2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.drive.items import CanItem, NmeaItem
from hil.drive.nmea_drive import nmea_drive
from hil.drive.nmea_text import read_nmea_text
from hil.drive.nmea_writer import Satellite, Solution, epoch_sentences, sentence

SATELLITES = [Satellite(number, 40, 100, 35, used=True) for number in (3, 7, 12, 70, 78)]


@given(
    lat=st.floats(-89.999, 89.999),
    lon=st.floats(-179.999, 179.999),
    unix_ms=st.integers(0, 4_000_000_000_000),
)
def test_any_position_reads_back(lat: float, lon: float, unix_ms: int) -> None:
    solution = Solution((lat, lon), 9.0, 12.5, 359.999, 0.8, 1.1)
    rmc, gga, *_ = epoch_sentences(unix_ms, solution, SATELLITES, with_view=True)
    for line in (rmc, gga):
        parsed = pynmea2.parse(line.decode(), check=True)
        assert parsed.latitude == pytest.approx(lat, abs=2e-7)
        assert parsed.longitude == pytest.approx(lon, abs=2e-7)


def test_without_a_fix_there_is_no_position_anywhere() -> None:
    rmc, gga, *gsa = epoch_sentences(1_773_486_000_000, None, SATELLITES, with_view=False)
    assert rmc.startswith(b"$GNRMC,110000.00,V,,,,,,,140326,,,N")
    assert gga.startswith(b"$GNGGA,110000.00,,,,,0,00,")
    assert [line[7:10] for line in gsa] == [b"A,1", b"A,1"]


def test_every_sentence_has_its_checksum() -> None:
    solution = Solution((42.35, -71.06), 9.0, 0.0, None, 0.8, 1.1)
    for line in epoch_sentences(1_773_486_000_000, solution, SATELLITES, with_view=True):
        pynmea2.parse(line.decode(), check=True)
        assert line.endswith(b"\r\n")


def rmc(time: str) -> bytes:
    return sentence(f"GPRMC,{time},{'A' if time else 'V'},4901.5940,N,01203.9163,E,19.4,131.9,110410,,,A")


def test_a_log_is_paced_by_its_own_times(tmp_path: Path) -> None:
    log = tmp_path / "drive.nmea"
    times = ["235958", "000000", "000002.00", "", "", "000008", "000009"]
    log.write_bytes(b"# a comment\n" + b"".join(rmc(time) + b"$GPGSV,1,1,00*79\r\n" for time in times))
    text = read_nmea_text(log)
    begins = [item.t_ns / 1e9 for item in text.items if b"RMC" in item.data]
    assert begins == pytest.approx([0, 2, 4, 6, 8, 10, 11], abs=0.1)
    assert text.start_utc_ms == 1_271_030_398_000
    assert all(before.t_ns <= after.t_ns for before, after in pairwise(text.items))


def test_a_log_without_times_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "empty.nmea"
    log.write_bytes(b"$GPGSV,1,1,00*79\r\n")
    with pytest.raises(ValueError, match="no sentence with a time"):
        read_nmea_text(log)


def test_a_real_drive_keeps_its_bytes_and_gets_a_crew(feeds: Path) -> None:
    path = feeds / "nmea_drives" / "geko_regensburg_2010.nmea"
    drive = nmea_drive(path)
    items = list(drive.items())
    lines = [line for line in path.read_bytes().splitlines() if line.startswith(b"$")]
    assert [item.data.rstrip() for item in items if isinstance(item, NmeaItem)] == lines
    assert drive.duration_s == pytest.approx(1578, abs=3)
    assert [press.key for press in drive.presses] == [
        "available",
        "en_route",
        "on_scene",
        "transporting",
        "at_destination",
        "available",
    ]
    on_scene, transporting = drive.presses[2], drive.presses[3]
    assert drive.at(on_scene.at_ns / 1e9).speed_mps < 1
    assert drive.at(transporting.at_ns / 1e9).speed_mps < 1
    assert all(before.t_ns <= after.t_ns for before, after in pairwise(items))
    assert sum(isinstance(item, CanItem) for item in items) / drive.duration_s == pytest.approx(74, abs=1)


@pytest.mark.parametrize(("name", "seconds"), [("ros_navsat_2hz", 59.5), ("trimble_r2_static", 39)])
def test_other_receivers_logs_are_paced(feeds: Path, name: str, seconds: float) -> None:
    text = read_nmea_text(feeds / "nmea_drives" / f"{name}.nmea")
    assert text.items[-1].t_ns / 1e9 == pytest.approx(seconds, abs=1)
    assert text.start_utc_ms is not None
