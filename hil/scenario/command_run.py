"""python -m hil run: run scenarios on a rig; exit 0 only if every expectation held."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.config import ConfigError
from agent.runtime.plain_text import harmless
from hil.broker_process import BrokerUnavailableError
from hil.rig import RigKind
from hil.scenario.runner import Outcome, run_scenario
from hil.scenario.scenario_file import read_scenario, scenario_names, scenario_path

FAILED, CAN_NOT_RUN = 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="a name from `list`, or a file")
    parser.add_argument("--all", action="store_true", help="every shipped scenario that is not slow")
    parser.add_argument("--rig", choices=get_args(RigKind), help="instead of each scenario's first rig")
    parser.add_argument("--seed", type=int, help="instead of each scenario's own")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write one HTML page a run here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found here")


def run(args: argparse.Namespace) -> int:
    """Run the scenarios. Returns 0 when all held, 1 when one did not, 2 when one can not be run."""
    console = Console()
    logging.getLogger("mdt").addHandler(logging.NullHandler())  # a simulated agent logs where nobody reads
    names = _names(args.scenarios, every=args.all, rig=args.rig)
    if not names:
        print("name a scenario, or say --all; `python -m hil list` tells which there are", file=sys.stderr)
        return CAN_NOT_RUN
    outcomes: list[dict[str, Any]] = []
    held = True
    for name in names:
        try:
            outcome, wall_s = _run_one(name, args.rig, args.seed)
        except (ConfigError, BrokerUnavailableError, OSError) as error:
            print(error, file=sys.stderr)
            return CAN_NOT_RUN
        held &= outcome.held
        print_outcome(console, outcome, wall_s)
        outcomes.append(as_json(outcome, wall_s))
        if args.report is not None:
            console.print(f"   report: {_write_report(outcome, wall_s, args.report)}")
    if args.json is not None:
        args.json.write_text(json.dumps(outcomes, indent=2) + "\n", encoding="utf-8")
    return 0 if held else FAILED


def _run_one(name: str, rig: RigKind | None, seed: int | None) -> tuple[Outcome, float]:
    """Run a scenario; returns what became of it, and how many seconds it took."""
    path = scenario_path(name)
    scenario = read_scenario(path)
    if rig is not None and rig not in scenario.rigs:
        raise ConfigError([f"{path}: does not run on the {rig} rig"])
    began_s = time.monotonic()
    outcome = run_scenario(scenario, path.stem, path.parent, rig=rig, seed=seed)
    return outcome, time.monotonic() - began_s


def _write_report(outcome: Outcome, wall_s: float, directory: Path) -> Path:
    from hil.report.observed import observed_run
    from hil.report.page import write_report

    seen, why = outcome.seen, outcome.scenario.why
    return write_report(observed_run(seen, why=why, results=outcome.verdicts, wall_s=wall_s), directory)


def print_outcome(console: Console, outcome: Outcome, wall_s: float) -> None:
    """One line for the scenario, one for each expectation."""
    word, style = ("held", "bold green") if outcome.held else ("NOT HELD", "bold red")
    console.print(f"{outcome.name} on {outcome.seen.rig}: {word} in {wall_s:.1f} s", style=style)
    table = Table.grid(padding=(0, 1))
    for expectation, verdict in outcome.verdicts:
        mark = "[green]yes[/]" if verdict.held else "[bold red]NO [/]"
        table.add_row("  ", mark, expectation.name, Text(harmless(verdict.measured), style="dim"))
    console.print(table)


def as_json(outcome: Outcome, wall_s: float) -> dict[str, Any]:
    """The outcome for `--json`."""
    seen = outcome.seen
    return {
        "scenario": outcome.name,
        "title": outcome.scenario.title,
        "rig": seen.rig,
        "seed": seen.seed,
        "held": outcome.held,
        "wall_s": round(wall_s, 2),
        "records_made": sum(seen.made.values()),
        "records_received": len(seen.records),
        "presses": len(seen.presses),
        "digest": seen.digest,
        "expectations": [
            {"expectation": expectation.name, "held": verdict.held, "measured": verdict.measured}
            for expectation, verdict in outcome.verdicts
        ],
    }


def _names(named: Sequence[str], *, every: bool, rig: str | None) -> list[str]:
    if not every:
        return list(named)
    shipped = [(name, read_scenario(name)) for name in scenario_names()]
    return [name for name, one in shipped if not one.slow and (rig is None or rig in one.rigs)]
