"""The benchmarks run and tell their figures in the form that is promised. How fast is no verdict here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hil.bench.figure import Figure, Target

KEYS = {"name", "value", "unit", "peer", "peer_value", "ratio"}


def bench(tmp_path: Path, checkout: Path, *words: str) -> tuple[str, list[dict[str, Any]]]:
    file = tmp_path / "figures.json"
    command = [
        sys.executable,
        "-m",
        "hil",
        "bench",
        *words,
        "--json",
        str(file),
        "--directory",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    figures: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return done.stdout, figures


def test_figures_are_printed_and_written(tmp_path: Path, checkout: Path) -> None:
    words = ("--only", "wire", "open_cost", "--scale", "0.001", "--rounds", "1")
    printed, figures = bench(tmp_path, checkout, *words)
    optional = ("wire.recorded.", "wire.deflate")
    assert {figure["name"] for figure in figures if not figure["name"].startswith(optional)} == {
        "wire.batch_of_60",
        "wire.batch_of_60.worst",
        "wire.live",
        "open_cost",
        "open_cost.read",
        "open_cost.count",
    }
    for figure in figures:
        assert figure.keys() == KEYS
        assert figure["value"] > 0
        assert abs(figure["ratio"] - figure["value"] / figure["peer_value"]) <= 0.01 * figure["ratio"]
        assert figure["name"] in printed
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_what_goes_over_the_air_is_counted_not_timed(tmp_path: Path, checkout: Path) -> None:
    _, figures = bench(tmp_path, checkout, "--only", "wire")
    sizes = {figure["name"]: figure["value"] for figure in figures}
    assert sizes["wire.batch_of_60"] <= 12
    assert sizes["wire.live"] <= 45


def test_the_bytes_of_a_shift_are_counted_by_topic(tmp_path: Path, checkout: Path) -> None:
    _, figures = bench(tmp_path, checkout, "--only", "air", "--scale", "0.005")
    sizes = {figure["name"]: figure["value"] for figure in figures}
    topics = {
        "journal/events",
        "journal/trail",
        "state/link",
        "state/location",
        "state/status",
        "state/vehicle",
    }
    assert {f"air.{topic}" for topic in topics} <= sizes.keys()
    assert sizes["air.shift"] <= 6
    assert sizes["air.shift.wire"] > sizes["air.shift"]


def test_a_missing_peer_leaves_the_rest_of_the_figure() -> None:
    figure = Figure("drain", 5.0, "records/s", "a peer", None, Target(4), "it could not be installed")
    assert figure.as_json()["peer_value"] is None
    assert figure.ratio is None
    assert figure.met is True


def test_a_target_may_be_of_the_ratio() -> None:
    at_least = Target(0.8, of_ratio=True)
    assert Figure("put", 70.0, "commits/s", "raw", 100.0, at_least).met is False
    assert Figure("put", 80.0, "commits/s", "raw", 100.0, at_least).met is True
    assert Figure("put", 80.0, "commits/s", "raw", None, at_least).met is None
    assert str(at_least) == ">= 0.8x"
    assert str(Target(45, at_most=True)) == "<= 45"
