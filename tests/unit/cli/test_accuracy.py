"""The statement of accuracy."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from agent.cli.accuracy import accuracy
from agent.cli.exit_code import ExitCode
from agent.sources.gnss.nmea_framing import checksum


def log(path: Path, minutes: list[float], *, knots: float, first: int = 10, every: int = 1) -> Path:
    lines = []
    for number, minute in enumerate(minutes):
        time = f"1200{first + number * every:02d}.00"
        body = f"GNRMC,{time},A,42{minute:07.4f},N,07103.9000,W,{knots},0.0,140926,,,A"
        lines.append(f"${body}*{checksum(body.encode()):02X}\r\n")
    path.write_text("".join(lines))
    return path


def statement(log_path: Path, truth: str) -> dict[str, dict[str, float]]:
    out = io.StringIO()
    assert accuracy(str(log_path), truth, out, io.StringIO(), as_json=True) == ExitCode.OK
    rows: dict[str, dict[str, float]] = json.loads(out.getvalue())
    return rows


def test_against_a_surveyed_point(tmp_path: Path) -> None:
    """A minute of latitude is 1853 m on the sphere that distances are reckoned on."""
    still = log(tmp_path / "still.nmea", [21.5, 21.501, 21.502, 21.51], knots=0.1)
    rows = statement(still, "42.358333333,-71.065")
    assert set(rows) == {"at rest", "together"}
    assert rows["at rest"]["fixes"] == 4
    assert rows["at rest"]["median_m"] == pytest.approx(3.71, abs=0.02)
    assert rows["at rest"]["max_m"] == pytest.approx(18.53, abs=0.05)
    assert rows["at rest"]["within_2_5_m"] == 0.5
    assert rows["at rest"]["within_10_m"] == 0.75


def test_against_a_better_receiver_between_whose_epochs_the_way_is_straight(tmp_path: Path) -> None:
    ours = log(tmp_path / "ours.nmea", [21.5 + second * 0.01 for second in range(9)], knots=36)
    truth = log(tmp_path / "truth.nmea", [21.501 + second * 0.02 for second in range(5)], knots=36, every=2)
    rows = statement(ours, str(truth))
    assert rows["in motion"]["fixes"] == 9
    assert rows["in motion"]["max_m"] == pytest.approx(1.853, abs=0.01)
    gappy = log(tmp_path / "gappy.nmea", [21.5, 21.6], knots=36, every=9)
    assert statement(ours, str(gappy))["in motion"]["fixes"] == 1, "nobody knows what was between"


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    ours = log(tmp_path / "ours.nmea", [21.5], knots=36)
    other_day = log(tmp_path / "later.nmea", [21.5], knots=36, first=40)
    err = io.StringIO()
    assert accuracy(str(ours), str(other_day), io.StringIO(), err) == ExitCode.NO_INPUT
    assert "nothing to compare" in err.getvalue()
    assert accuracy(str(ours), str(tmp_path / "no"), io.StringIO(), err) == ExitCode.NO_INPUT
    assert accuracy(str(tmp_path / "no"), "1,1", io.StringIO(), err) == ExitCode.NO_INPUT


def test_the_table_has_a_line_for_each(tmp_path: Path) -> None:
    out = io.StringIO()
    accuracy(str(log(tmp_path / "a.nmea", [21.5, 21.5], knots=36)), "42.3,-71.0", out, io.StringIO())
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["fixes", "in", "together"]
