"""gpsd's own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.fix import Fix, FixMode
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.gpsd_json import MAX_LINE_BYTES, GpsdDecoder
from agent.sources.gnss.nmea_framing import Rejection

TPV: dict[str, Any] = {
    "class": "TPV", "device": "/dev/ttyUSB0", "mode": 3, "time": "2026-09-14T12:00:10.000Z",
    "lat": 42.358333333, "lon": -71.065, "altMSL": 12.3, "alt": 11.0, "track": 310.5, "speed": 10.289,
    "eph": 3.46,
}  # fmt: skip


def line(**fields: Any) -> bytes:
    told = {key: value for key, value in (TPV | fields).items() if value is not None}
    return json.dumps(told).encode() + b"\r\n"


def decode(*chunks: bytes) -> list[Fix]:
    decoder = GpsdDecoder()
    return [fix for chunk in chunks for fix in decoder.feed(NmeaBytes(chunk, 5))]


def test_a_report_is_a_fix() -> None:
    sky = b'{"class":"SKY","uSat":9,"hdop":0.8,"satellites":[]}\n'
    (fix,) = decode(b'{"class":"VERSION","release":"3.22"}\r\n' + sky + line())
    assert fix.utc_ms == 1_789_387_210_000
    assert (fix.lat_deg, fix.lon_deg, fix.alt_m, fix.speed_mps) == (42.358333333, -71.065, 12.3, 10.289)
    assert (fix.course_deg, fix.mode, fix.satellites, fix.hdop) == (310.5, FixMode.FIX_3D, 9, 0.8)
    assert fix.error_m == pytest.approx(2.0)


@pytest.mark.parametrize("fields", [{"mode": 1}, {"mode": 0}, {"lat": None}, {"lat": 0, "lon": 0}])
def test_what_is_no_fix_has_no_position(fields: dict[str, Any]) -> None:
    (fix,) = decode(line(**fields))
    assert (fix.mode, fix.lat_deg, fix.lon_deg, fix.alt_m, fix.speed_mps) == (
        FixMode.NONE,
        None,
        None,
        None,
        None,
    )
    assert fix.utc_ms is not None


def test_an_epoch_that_is_reported_again_is_one_fix() -> None:
    again = line(mode=2) + line() + line(time="2026-09-14T12:00:11.000Z")
    assert [fix.utc_ms for fix in decode(again)] == [1_789_387_210_000, 1_789_387_211_000]


def test_what_can_not_be_read_is_counted_and_the_next_is_heard() -> None:
    decoder = GpsdDecoder()
    bad = [b'{"class":"TPV","mode":3,"lat":\n', line(lat=95), line(lat="north"), line(lat=10**400), b"[]\n"]
    assert decoder.feed(NmeaBytes(b"".join(bad), 0)) == []
    assert decoder.feed(NmeaBytes(b"x" * (MAX_LINE_BYTES + 1), 0)) == []
    assert decoder.rejections == {Rejection.MALFORMED: 5, Rejection.TOO_LONG: 1}
    assert len(decoder.feed(NmeaBytes(line(), 0))) == 1


PIECES = [line(), line(mode=1), b"\xff\xfe\n", b"{", b"null\n", b'{"class":"SKY","uSat":{}}\n']


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=30)))
def test_no_bytes_raise(chunks: list[bytes]) -> None:
    for fix in decode(*chunks):
        assert (fix.lat_deg is None) == (fix.mode is FixMode.NONE)


def test_what_gpsd_said_of_recorded_receivers_is_what_it_says_to_us(feeds: Path) -> None:
    compared = 0
    for text in (feeds / "gpsd_expect_public.jsonl").read_text(encoding="utf-8").splitlines():
        expected = json.loads(text)
        told = (feeds / "gpsd" / expected["chk"]).read_bytes()
        ours = {fix.utc_ms: fix for fix in decode(told) if fix.has_position and fix.utc_ms is not None}
        rows = [row for row in expected["tpv"] if row["time"] and row["mode"] >= 2]
        for row in rows:
            (fix,) = decode(
                json.dumps({"class": "TPV", **{k: v for k, v in row.items() if v is not None}}).encode()
                + b"\n"
            )
            mine = ours[fix.utc_ms or 0]
            assert mine.lat_deg == pytest.approx(row["lat"], abs=5e-7)
            compared += 1
    assert compared == 486
