"""python -m hil: the harness's commands. Each loads only what it needs."""

from __future__ import annotations

import argparse
import importlib
import sys

from agent.cli.terminal import at_the_edge

COMMANDS = {
    "demo": ("hil.demo.command", "a shift in Boston, end to end, live in the terminal"),
    "run": ("hil.scenario.command_run", "run scenarios on a rig; exit 0 only if every expectation held"),
    "list": ("hil.scenario.command_list", "the scenarios there are"),
    "drive": ("hil.drive.command", "simulate a shift and write it as a recording"),
    "import": ("hil.recording.command_import", "make a recording from logs"),
    "info": ("hil.recording.command_info", "channels, times, rates and gaps of a recording"),
    "power-cuts": ("hil.kernel.power_cuts", "cut the power under the real store, again and again"),
    "contract": ("hil.contract_documents", "write the documents that are made from the contract's tables"),
    "city": ("hil.city.command", "a day of many units and one dispatch, judged against the truth"),
    "cluster": ("hil.cluster.command", "three broker nodes, a store and two services on this computer"),
    "bench": ("hil.bench.command", "speed and cost, each as a ratio against a peer"),
}

DRAWING = frozenset({"demo", "run", "list"})
"""Those that draw with rich, and make harmless by themselves what they draw."""


def main() -> int:
    """Run a command. Each command module has `add_arguments(parser)` and `run(args) -> exit code`."""
    parser = argparse.ArgumentParser(
        prog="python -m hil", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    wanted = next((word for word in sys.argv[1:] if word in COMMANDS), None)
    for name, (module_name, help_text) in COMMANDS.items():
        sub = commands.add_parser(name, help=help_text, description=help_text)
        if name == wanted:
            module = importlib.import_module(module_name)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    args = parser.parse_args()
    return at_the_edge(lambda: int(args.run(args)), draws=wanted in DRAWING)


if __name__ == "__main__":
    sys.exit(main())
