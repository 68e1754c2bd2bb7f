"""Small inputs that receivers gave and programs fell over: from a file, and as they would arrive."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli.decode_nmea import decode_nmea, fix_as_json
from agent.domain.fix import Fix
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.receiver_decoder import ReceiverDecoder

SECOND_NS = 1_000_000_000
KNOTS_20_MPS = 10.289


def decoded(case: Path) -> list[dict[str, Any]]:
    out = io.StringIO()
    assert decode_nmea(str(case), out, io.StringIO()) == 0
    return [json.loads(line) for line in out.getvalue().splitlines()]


def heard(case: Path, burst_begins: str) -> list[Fix]:
    """The fixes of a receiver that pauses before each `burst_begins` sentence."""
    decoder, fixes, at_ns = ReceiverDecoder(), list[Fix](), 0
    for line in case.read_bytes().splitlines(keepends=True):
        at_ns += SECOND_NS if burst_begins.encode() in line[:7] else 2_000_000
        fixes += decoder.feed(NmeaBytes(line, at_ns))
    return fixes + decoder.finish()


def along_the_street(number: int) -> tuple[float, float]:
    return 42.358333333 + number * 0.000016667, -71.065 + number * 0.000025


def with_position(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["lat"] is not None]


def clock(row: dict[str, Any]) -> str:
    assert row["time"][:10] == "2026-09-14"
    return str(row["time"][11:23])


@pytest.mark.parametrize(
    ("case", "times", "satellites"),
    [
        ("zda_two_seconds_ahead", [f"12:00:{10 + i}.000" for i in range(8)], 7),
        ("one_epoch_two_decimals_later", [f"12:00:{10 + i}.300" for i in range(5)], 6),
        ("rmc_lags_gga", [f"12:00:{10 + i}.000" for i in range(5)], 7),
        (
            "time_corrected_back",
            ["12:00:10.710", "12:00:11.710", "12:00:11.410", "12:00:12.410"],
            5,
        ),
        ("first_fix_lost_gsa", [f"12:00:{10 + i}.000" for i in range(3)], 5),
    ],
)
def test_each_epoch_is_found_with_its_place_date_and_values(
    feeds: Path, case: str, times: list[str], satellites: int
) -> None:
    rows = with_position(decoded(feeds / "cases" / f"{case}.nmea"))
    assert [clock(row) for row in rows] == times
    for number, row in enumerate(rows):
        lat_deg, lon_deg = along_the_street(number)
        assert row["lat"] == pytest.approx(lat_deg, abs=5e-7)
        assert row["lon"] == pytest.approx(lon_deg, abs=5e-7)
        assert row["speed_mps"] == pytest.approx(KNOTS_20_MPS, abs=1e-3)
        assert (row["satellites"], row["alt_m"]) == (satellites, 12.0)


def test_gsa_in_front_of_its_epoch_denies_no_other(feeds: Path) -> None:
    rows = decoded(feeds / "cases" / "gsa_in_front.nmea")
    fixed = with_position(rows)
    seconds = [10 + i for i in (2, 3, 4, 5, 6, 8, 9, 10, 11)]
    assert [clock(row) for row in fixed] == [f"12:00:{second}.000" for second in seconds]
    assert {row["mode"] for row in fixed} == {3}
    assert [clock(row) for row in rows if row["lat"] is None] == [
        f"12:00:{second}.000" for second in (10, 11, 17)
    ]


def test_leading_zeros_may_be_missing(feeds: Path) -> None:
    rows = decoded(feeds / "cases" / "no_leading_zeros.nmea")
    assert [row["lat"] for row in rows] == [51.5] * 7
    assert [row["lon"] for row in rows] == [-0.125] * 4 + [-0.0125] + [-0.125] * 2


@pytest.mark.parametrize(
    ("case", "burst_begins"),
    [
        ("zda_two_seconds_ahead", "GGA"),
        ("one_epoch_two_decimals_later", "GLL"),
        ("rmc_lags_gga", "RMC"),
        ("time_corrected_back", "GGA"),
        ("first_fix_lost_gsa", "RMC"),
    ],
)
def test_what_arrives_in_bursts_gives_the_same_as_the_file(feeds: Path, case: str, burst_begins: str) -> None:
    path = feeds / "cases" / f"{case}.nmea"
    live = [fix_as_json(fix) for fix in heard(path, burst_begins)]
    assert with_position(live) == with_position(decoded(path))
