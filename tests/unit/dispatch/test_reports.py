"""What an administrator and an analyst get out of a store."""

from __future__ import annotations

import csv
import io
import json
import socket
from pathlib import Path

import pytest

from agent.dispatch import reports
from agent.dispatch.intake import Intake, Message
from agent.dispatch.main import main
from agent.dispatch.settings import DispatchFile
from agent.dispatch.store.engine import engine_of
from agent.dispatch.store.store import Store
from agent.dispatch.unit_voice import UnitVoice
from agent.domain.record import Alert, Stream
from agent.wire.topics import Topics

A1 = UnitVoice(Topics("boston-ems", "A1"))
DAY_MS = 1_789_948_800_000
ALL = ["--since", "2026-09-21", "--until", "2026-09-22"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "units.db"
    store = Store(engine_of(str(path)))
    intake = Intake(store.open())
    spoken = [A1.positions(1, 100, DAY_MS)]
    for number, status in enumerate(("en_route", "on_scene", "transporting", "at_destination", "available")):
        spoken.append(A1.status(number + 1, status, DAY_MS + 600_000 * (number + 1)))
    spoken.append(A1.batch(Stream.EVENTS, 6, [(DAY_MS, Alert("=cmd()", "=HYPERLINK(1)"))]))
    store.write(intake.hear([Message(*one, DAY_MS + 4_000_000) for one in spoken]))
    store.close()
    return path


def test_events_become_a_table_in_which_no_text_is_a_formula(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--store", str(store), *ALL]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["status"] for row in rows if row["kind"] == "status"][:2] == ["en_route", "on_scene"]
    assert [row["text"] for row in rows if row["kind"] == "alert"] == ["'=HYPERLINK(1)"]


def test_positions_become_geojson(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--store", str(store), "--what", "positions", "--format", "geojson", *ALL]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["features"]) == 100
    assert document["features"][0]["geometry"] == {"type": "Point", "coordinates": [-71.06, 42.35]}


def test_the_times_of_a_run_are_those_of_nemsis(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--store", str(store), "--what", "times", *ALL]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["eTimes.05"] == "2026-09-21T00:10:00+00:00"
    assert row["eTimes.13"] == "2026-09-21T00:50:00+00:00"
    assert row["eTimes.07"] == ""


def test_more_rows_than_one_answer_holds_are_all_exported(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.dispatch.queries.MOST_ROWS", 7)
    assert main(["export", "--store", str(store), "--what", "positions", *ALL]) == 0
    seqs = [int(row["seq"]) for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert seqs == list(range(1, 101))


@pytest.mark.parametrize("form", ["text", "csv", "json"])
def test_statistics_carry_their_definitions(
    store: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    assert main(["stats", "--store", str(store), "--format", form, *ALL]) == 0
    printed = capsys.readouterr().out
    assert "travel.median[all]" in printed
    assert "from en route to on scene" in printed


def test_check_names_what_is_bad(store: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        table = {"store": str(store), "broker": {"host": "127.0.0.1", "port": port, "allow_plaintext": True}}
        out = io.StringIO()
        assert reports.check(DispatchFile.model_validate(table), out)
        assert "WITHOUT encryption" in out.getvalue()
        assert "106 records of 1 units" in out.getvalue()
    out = io.StringIO()
    assert not reports.check(DispatchFile.model_validate(table | {"streets": str(tmp_path / "none")}), out)
    assert [line.split()[1] for line in out.getvalue().splitlines() if line.startswith("BAD")] == [
        "broker",
        "streets",
    ]


def test_what_can_not_be_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--store", str(tmp_path / "none.db")]) == 69
    assert "there is no such store" in capsys.readouterr().err
    assert main(["export", "--store", "x", "--since", "yesterday"]) == 78
    assert "yesterday" in capsys.readouterr().err
    assert main(["run", "--store", "x"]) == 78
    assert "no broker" in capsys.readouterr().err
