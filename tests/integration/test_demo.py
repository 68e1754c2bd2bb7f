"""The demo as a newcomer runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WITHIN_S = 55


def run_demo(
    checkout: Path, out: Path, *options: str, says: tuple[str, ...] = (), within_s: int = WITHIN_S
) -> dict[str, object]:
    command = [sys.executable, "-m", "hil", "demo", "--json", str(out), *options]
    done = subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, timeout=within_s, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for words in ("the crew's page: http://127.0.0.1:", *says):
        assert words in done.stdout, done.stdout[-3000:]
    summary: dict[str, object] = json.loads(out.read_text())
    return summary


def test_the_shift_in_boston(checkout: Path, tmp_path: Path) -> None:
    call = "call 26-000117"
    says = (f"{call} received", f"{call} acknowledged", f"{call} ended")
    summary = run_demo(checkout, tmp_path / "summary.json", "--for", "16", says=says)
    assert summary["lost"] == 0
    assert summary["duplicates"] == 0
    assert summary["records_made"] == summary["records_received"]
    assert summary["statuses"] == [
        "available",
        "en_route",
        "on_scene",
        "transporting",
        "at_destination",
        "available",
    ]
    assert float(str(summary["outage_s"])) > 1
    assert int(str(summary["positions"])) > 5
    for name in ("press_to_stored_ms", "press_to_dispatch_ms"):
        assert set(summary[name]) == {"p50", "p99"}  # type: ignore[call-overload]  # JSON object


def test_a_real_drive_instead(checkout: Path, feeds: Path, tmp_path: Path) -> None:
    log = feeds / "nmea_drives" / "geko_regensburg_2010.nmea"
    summary = run_demo(checkout, tmp_path / "summary.json", "--gps", str(log), "--for", "12", "--speed", "20")
    assert summary["lost"] == 0
    assert int(str(summary["positions"])) > 3


@pytest.mark.timeout(200)
def test_three_vehicles_one_broker_and_one_dispatch(checkout: Path, tmp_path: Path) -> None:
    """One command; nothing is lost, all of it is on dispatch's disk, and the lamps are green."""
    out = tmp_path / "summary.json"
    summary = run_demo(
        checkout, out, "--units", "3", "--for", "20", says=("dispatch's page: ",), within_s=180
    )
    units = summary["units"]
    assert isinstance(units, list)
    assert [one["unit"] for one in units] == ["A1", "A2", "A3"]
    for one in units:
        assert (one["lost"], one["duplicates"]) == (0, 0)
        assert one["records_made"] == one["records_received"] == one["stored_at_dispatch"]
        assert one["statuses"] == one["statuses_pressed"]
        assert one["all_delivered"]
        assert one["last_lamp_green"]
