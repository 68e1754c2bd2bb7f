"""python -m hil bench: speed and cost, each as a ratio against a peer."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from hil.bench.figure import Figure
from hil.bench.setting import NotHereError, Setting
from hil.kernel.linux import rig_folder

BENCHMARKS = {
    "status_put": "presses made durable, a commit each",
    "grouped_put": "trail records made durable in groups",
    "drain": "a backlog from the store to the broker's acknowledgement",
    "drain_memory": "memory that a larger backlog costs",
    "press_under_backlog": "a press while a backlog drains",
    "press": "a press: to the lamp, the broker, dispatch's subscriber, and the page's tile",
    "open_cost": "opening and counting a large store",
    "card": "what a trail at 1 Hz costs the memory card",
    "wire": "bytes that a position takes on the air",
    "air": "bytes that a shift takes on the air, by topic",
    "footprint": "the daemon as a whole, on its devices",
    "gnss_input": "a sentence from the receiver",
    "can_input": "a frame from the vehicle bus",
    "cluster": "records and presses through three nodes of a cluster into PostgreSQL",
    "dispatch_store": "records made durable at dispatch, on SQLite and PostgreSQL",
    "dispatch_page": "frames of dispatch's page with 200 units at 1 Hz",
}
"""Each is the module of that name beside this one, with `measure(setting) -> list[Figure]`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--only",
        metavar="NAME",
        nargs="+",
        choices=BENCHMARKS,
        help="only these: " + "; ".join(f"{name}: {text}" for name, text in BENCHMARKS.items()),
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor on the numbers of records (default 1; 10: to 10 M)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default 5)")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="work there, on the disk to measure (default: .rig)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print. Returns 0 when everything that can be measured here was."""
    if args.scale <= 0 or args.rounds < 1:
        print("bench: --scale must be positive and --rounds at least 1", file=sys.stderr)
        return 2
    parent: Path = args.directory or rig_folder()
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    setting = Setting(folder, args.scale, args.rounds, lambda text: print(f"  {text}", file=sys.stderr))
    figures: list[Figure] = []
    # Brokers and peers are children: whoever ends us early ends them too.
    signal.signal(signal.SIGTERM, _interrupt)
    _print_head()
    try:
        for name in args.only or BENCHMARKS:
            figures += _measure(name, setting)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if args.json is not None:
            table = [figure.as_json() for figure in figures]
            args.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(name: str, setting: Setting) -> list[Figure]:
    begun_s = time.monotonic()
    try:
        figures: list[Figure] = importlib.import_module(f"hil.bench.{name}").measure(setting)
    except NotHereError as reason:
        figures = [Figure(name, None, "", "", None, note=f"not measured here: {reason}")]
    _print(figures, judged=setting.scale >= 1)
    setting.say(f"{name}: {time.monotonic() - begun_s:.0f} s")
    return figures


def _print_head() -> None:
    print(f"{'':27} {'ours':>11} {'peer':>11} {'ratio':>7}  {'target':<10} {'':6} unit, peer")


def _print(figures: Sequence[Figure], *, judged: bool) -> None:
    """A small run is for trying; start-up weighs on it, so it is not held against the targets."""
    for figure in figures:
        target = "" if figure.target is None else str(figure.target)
        verdict = {True: "met", False: "MISSED", None: ""}[figure.met if judged else None]
        print(
            f"{figure.name:27} {_number(figure.value):>11} {_number(figure.peer_value):>11}"
            f" {_number(figure.ratio):>7}  {target:<10} {verdict:6} {figure.unit}"
            f"{', ' if figure.unit else ''}{figure.peer}",
            flush=True,
        )
        if figure.note:
            print(f"{'':27} {figure.note}", flush=True)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
