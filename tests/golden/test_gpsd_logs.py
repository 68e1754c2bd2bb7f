"""Logs of real receivers: every position that gpsd reports, and none where there is no fix."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.cli.decode_nmea import decode_nmea

SAME_DEG = 5e-7
WITHOUT_FIX = {"tn200.log", "ublox-lea-5q.log"}

# Epochs that are in the log and not in gpsd's output with a time: gpsd waits for one whole cycle before it
# trusts the date, loses one epoch to its guess of where a cycle ends, and does not report the epoch that the
# log breaks off in. The log's own sentences stand for them.
NOT_TIMED_BY_GPSD = {
    "beidou-bd.log": {"07:41:55.799"},
    "gp-320fw-2019-03-28.log": {"16:45:19.990"},
    "st-teseo-liv3f.log": {"20:35:20.000"},
}


def decoded(path: Path) -> tuple[list[dict[str, Any]], str]:
    out, err = io.StringIO(), io.StringIO()
    assert decode_nmea(str(path), out, err) == 0
    return [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


def expectations(feeds: Path) -> list[dict[str, Any]]:
    lines = (feeds / "gpsd_expect_public.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def time_of_day(time: str) -> str:
    return time[11:23]


def test_every_position_of_gpsd_is_found_and_no_other(feeds: Path) -> None:
    compared = 0
    for expected in expectations(feeds):
        log = expected["log"]
        fixes, _ = decoded(feeds / "gpsd" / log)
        ours = {time_of_day(fix["time"]): fix for fix in fixes if fix["time"] and fix["lat"] is not None}
        positions = [row for row in expected["tpv"] if row["time"] and row["mode"] >= 2]
        for row in positions:
            fix = ours[time_of_day(row["time"])]
            assert abs(fix["lat"] - row["lat"]) <= SAME_DEG, (log, row, fix)
            assert abs(fix["lon"] - row["lon"]) <= SAME_DEG, (log, row, fix)
            if expected["date_checked_against_rmc_zda"]:
                assert fix["time"][:10] == row["time"][:10], (log, row, fix)
            compared += 1
        extra = ours.keys() - {time_of_day(row["time"]) for row in positions}
        assert extra == NOT_TIMED_BY_GPSD.get(log, set()), log
    assert compared == 486


def test_a_receiver_without_a_fix_never_has_a_position(feeds: Path) -> None:
    for log in sorted(WITHOUT_FIX):
        fixes, _ = decoded(feeds / "gpsd" / log)
        assert fixes
        assert all(fix["lat"] is None and fix["lon"] is None and fix["mode"] == 1 for fix in fixes), log


def test_every_value_of_every_log_is_in_range_and_time_goes_forward(feeds: Path) -> None:
    logs = sorted((feeds / "gpsd").glob("*.log")) + sorted((feeds / "nmea_drives").glob("*.nmea"))
    assert logs
    for log in logs:
        fixes, _ = decoded(log)
        times = [fix["time"] for fix in fixes if fix["time"]]
        assert times == sorted(set(times)), log.name
        for fix in fixes:
            assert (fix["lat"] is None) == (fix["lon"] is None) == (fix["mode"] == 1), (log.name, fix)
            assert (fix["lat"], fix["lon"]) != (0, 0), (log.name, fix)
            assert fix["course_deg"] is None or 0 <= fix["course_deg"] < 360, (log.name, fix)
            assert fix["speed_mps"] is None or 0 <= fix["speed_mps"] < 60, (log.name, fix)


def test_what_is_rejected_is_told_by_reason(feeds: Path) -> None:
    _, summary = decoded(feeds / "gpsd" / "com-1289.log")
    assert summary.splitlines() == [
        "14 fixes, 0 epochs without a fix, 97 sentences",
        "rejected: bad_checksum 1",
    ]


@pytest.mark.parametrize(
    ("drive", "fixes", "without_fix", "first_and_last"),
    [
        ("geko_regensburg_2010", 774, 16, ("2010-04-11T16:57:44.000+00:00", "2010-04-11T17:24:00.000+00:00")),
        ("ros_navsat_2hz", 120, 0, ("2020-04-20T09:25:42.000+00:00", "2020-04-20T09:26:41.500+00:00")),
        ("trimble_r2_static", 34, 0, ("2017-12-20T23:56:47.000+00:00", "2017-12-20T23:57:20.000+00:00")),
    ],
)
def test_real_drives(
    feeds: Path, drive: str, fixes: int, without_fix: int, first_and_last: tuple[str, str]
) -> None:
    rows, summary = decoded(feeds / "nmea_drives" / f"{drive}.nmea")
    assert sum(row["lat"] is not None for row in rows) == fixes
    assert sum(row["lat"] is None for row in rows) == without_fix
    assert (rows[0]["time"], rows[-1]["time"]) == first_and_last
    assert "rejected" not in summary


def test_the_motion_of_a_real_drive_fits_its_positions(feeds: Path) -> None:
    """The speed that the receiver tells is near the distance between its positions."""
    rows, _ = decoded(feeds / "nmea_drives" / "geko_regensburg_2010.nmea")
    path_m = told_m = 0.0
    for before, after in pairwise(rows):
        if before["lat"] is None or after["lat"] is None:
            continue
        # Around 49 degrees north: metres a degree.
        north_m = (after["lat"] - before["lat"]) * 111_220
        east_m = (after["lon"] - before["lon"]) * 73_100
        path_m += (north_m**2 + east_m**2) ** 0.5
        seconds = int(after["time"][17:19]) - int(before["time"][17:19])
        told_m += (before["speed_mps"] + after["speed_mps"]) / 2 * (seconds % 60)
    assert path_m > 5000
    assert path_m == pytest.approx(told_m, rel=0.05)
