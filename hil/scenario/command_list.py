"""python -m hil list: the scenarios there are."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from hil.scenario.scenario_file import read_scenario, scenario_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--why", action="store_true", help="also say what each is for")


def run(args: argparse.Namespace) -> int:
    """Print them."""
    console = Console()
    table = Table(box=None, pad_edge=False)
    for heading in ("scenario", "rigs", "title"):
        table.add_column(heading, no_wrap=heading != "title")
    for name in scenario_names():
        scenario = read_scenario(name)
        rigs = ", ".join(scenario.rigs) + (" (slow)" if scenario.slow else "")
        title = scenario.title + (f"\n[dim]{scenario.why}[/]" if args.why else "")
        table.add_row(name, rigs, title)
    console.print(table)
    return 0
