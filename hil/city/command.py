"""The `city` command."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

PASSED, FAILED, IMPOSSIBLE = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--units", type=int, default=24, help="units at the peak (default 24)")
    parser.add_argument("--calls", type=int, default=300, help="calls of the whole time (default 300)")
    parser.add_argument("--hours", type=float, default=24.0, help="how long (default 24)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same day (default 1)")
    parser.add_argument("--workers", type=int, default=2, help="processes of units (default 2)")
    parser.add_argument(
        "--streets",
        type=Path,
        nargs="+",
        default=(),
        metavar="GEOJSON",
        help="files of streets; without them a city is made up",
    )
    parser.add_argument(
        "--report", type=Path, default=Path("city-report"), metavar="DIR", help="where the page goes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep dispatch's store there")


def run(args: argparse.Namespace) -> int:
    """Live through a day, judge it, write the page; 0 only if nothing was lost and statistics are true."""
    from hil.city.day import Options, run_day
    from hil.city.judge import judge, told
    from hil.city.page import write_page

    wrong = [
        name
        for name, value in (("units", args.units), ("calls", args.calls), ("hours", args.hours))
        if value <= 0
    ]
    if wrong or args.units > 99 or args.workers < 0:
        print(f"--{wrong[0] if wrong else 'units'}: from 1, and at most 99 units", file=sys.stderr)
        return IMPOSSIBLE
    options = Options(
        units=args.units,
        calls=args.calls,
        hours=args.hours,
        seed=args.seed,
        workers=args.workers,
        streets=tuple(args.streets),
    )
    try:
        with tempfile.TemporaryDirectory(prefix="city-", dir=_quick_folder()) as folder:
            day = run_day(options, args.keep or Path(folder), _progress)
            verdict = judge(day)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return IMPOSSIBLE
    path = write_page(day, verdict, args.report)
    figures = told(verdict, day)
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    _print(figures, path)
    good = verdict.account.clean and all(row.agrees for row in verdict.vital)
    return PASSED if good else FAILED


def _quick_folder() -> Path | None:
    """Memory where there is some: a day is a hundred thousand commits, and no card is measured here."""
    memory = Path("/dev/shm")  # noqa: S108  # a folder of its own is made in it
    return memory if memory.is_dir() else None


def _progress(share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{share:4.0%}", end="" if share < 1 else "\r", file=sys.stderr, flush=True)


def _print(figures: dict[str, Any], path: Path) -> None:
    account = figures["account"]
    print(
        f"{account['stored']} of {account['expected']} presses at dispatch; lost {account['lost']}, "
        f"doubled {account['doubled']}, out of order {account['out_of_order']}; "
        f"{account['records']} records, {account['records_lost']} lost"
    )
    print(f"{'reporting':<18}{'wrong':>8}{'lost a call':>14}{'worst':>10}")
    for way in figures["ways"]:
        share = "-" if way["wrong_share"] is None else f"{way['wrong_share']:.1%}"
        mean = "-" if way["mean_lost_m"] is None else f"{way['mean_lost_m']:.1f} m"
        print(f"{way['name']:<18}{share:>8}{mean:>14}{way['worst_m']:>8.0f} m")
    disagreeing = [row["name"] for row in figures["vital"] if not row["agrees"]]
    equal = "equal to the truth" if not disagreeing else f"NOT equal: {', '.join(disagreeing)}"
    print(f"vital statistics: {equal}")
    for text in account["first"]:
        print(f"  {text}")
    print(f"digest {figures['digest']}, {figures['wall_s']} s, {figures['cpu_s']} s of processor time")
    print(f"page: {path}")
