"""The `city` command."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

FORGETFUL = 0.2
"""Share of presses that are forgotten while hints are measured: four times as many in the same time."""
PASSED, FAILED, IMPOSSIBLE = 0, 1, 2
MOST_UNITS, MOST_CALLS, MOST_HOURS, MOST_WORKERS = 500, 20_000, 24.0 * 31, 64


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
    parser.add_argument(
        "--storm",
        action="store_true",
        help="a mass casualty instead: real uplinks, a quarter without coverage, the broker restarted",
    )
    parser.add_argument(
        "--hints",
        action="store_true",
        help="what hints of forgotten presses are worth with each radius and dwell time, as a table",
    )
    parser.add_argument("--live", action="store_true", help="live, with the dispatch page in the browser")
    parser.add_argument("--speed", type=float, default=30.0, help="of --live (default 30 times life)")
    parser.add_argument("--for", dest="for_s", type=float, metavar="SECONDS", help="end --live after so long")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where --live serves the page")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep dispatch's store there")


def run(args: argparse.Namespace) -> int:
    """Live through a day, judge it, write the page; 0 only if nothing was lost and statistics are true."""
    from hil.city.crew import Habits
    from hil.city.day import Options, quick_folder, run_day
    from hil.city.hint_sweep import table
    from hil.city.judge import judge, sweep_rows, told
    from hil.city.page import write_page

    problem = _problem(args)
    if problem:
        print(problem, file=sys.stderr)
        return IMPOSSIBLE
    if args.storm:
        return _storm(args)
    if args.live:
        return _live(args)
    options = Options(
        units=args.units,
        calls=args.calls,
        hours=args.hours,
        seed=args.seed,
        workers=args.workers,
        streets=tuple(args.streets),
        # Whoever measures hints must not have crews that go by them, and needs many forgotten presses.
        habits=Habits(missed=FORGETFUL, heeds=0.0) if args.hints else Habits(),
        sweep=args.hints,
    )
    try:
        # What can not be written is better known before the day than after it.
        args.report.mkdir(parents=True, exist_ok=True)
        if args.json is not None:
            args.json.touch()
        with tempfile.TemporaryDirectory(prefix="city-", dir=quick_folder()) as folder:
            day = run_day(options, args.keep or Path(folder), _progress)
            verdict = judge(day)
            rows = sweep_rows(day) if args.hints else []
    except (OSError, ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return IMPOSSIBLE
    if args.hints:
        print(table(rows, day.duty_hours))
        print(f"{day.duty_hours:g} hours of duty, {len(day.choices)} calls, {day.wall_s:.0f} s")
        return PASSED if verdict.account.clean else FAILED
    path = write_page(day, verdict, args.report)
    figures = told(verdict, day)
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    _print(figures, path)
    good = verdict.account.clean and all(row.agrees for row in verdict.vital)
    return PASSED if good else FAILED


def _problem(args: argparse.Namespace) -> str:
    """What is wrong with the options; empty when nothing is."""
    bounds = {
        "units": (args.units, 1, MOST_UNITS),
        "calls": (args.calls, 1, MOST_CALLS),
        "hours": (args.hours, 0.1, MOST_HOURS),
        "workers": (args.workers, 0, MOST_WORKERS),
    }
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:
            return f"--{name} {value:g}: from {least:g} to {most:g}"
    return ""


def _live(args: argparse.Namespace) -> int:
    """Let the city live until somebody stops it."""
    import asyncio
    import logging

    from hil.broker_process import BrokerStartError, BrokerUnavailableError
    from hil.city.day import Options
    from hil.city.live import FASTEST, run_live

    if not 0 < args.speed <= FASTEST:
        print(f"--speed {args.speed:g}: above 0, and at most {FASTEST:g}", file=sys.stderr)
        return IMPOSSIBLE
    logging.getLogger("mdt").setLevel(logging.ERROR)
    options = Options(
        units=args.units,
        calls=args.calls,
        hours=args.hours,
        seed=args.seed,
        streets=tuple(args.streets),
    )
    work = run_live(
        options,
        speed=args.speed,
        for_s=args.for_s,
        listen=args.listen,
        say=lambda text: print(text, flush=True),
    )
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        print("stopped")
    except (BrokerUnavailableError, BrokerStartError, RuntimeError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return IMPOSSIBLE
    return PASSED


def _storm(args: argparse.Namespace) -> int:
    """Let the storm come; 0 only if everybody was back in time and nothing was lost."""
    import asyncio

    from hil.broker_process import BrokerStartError, BrokerUnavailableError
    from hil.city.storm import run_storm

    try:
        storm = asyncio.run(run_storm(args.units, print))
    except (BrokerUnavailableError, BrokerStartError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return IMPOSSIBLE
    figures = storm.told()
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {value}")
    return PASSED if storm.passed else FAILED


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
