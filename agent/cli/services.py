"""mdt service: what passed since each service of the vehicle, and that one was done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.cli.daemon_reports import asked
from agent.cli.exit_code import ExitCode
from agent.runtime.plain_text import harmless


def services(socket_path: Path | None, config_path: Path, *, done: str | None, as_json: bool) -> int:
    """Print the counters, after saying that a service was done if `done` names one. Returns the exit code."""
    answer = asked("services", socket_path, config_path)
    if isinstance(answer, ExitCode):
        return answer
    if done is not None:
        known = [one["item"] for one in answer]
        if done not in known:
            names = ", ".join(known) or "none: put [[service]] blocks into the configuration"
            print(f"{harmless(done)}: no service of this vehicle; there are: {names}")
            return ExitCode.FAILED
        answer = asked(f"service done {done}", socket_path, config_path)
        if isinstance(answer, ExitCode):
            return answer
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        for line in table(answer):
            print(line)
    return ExitCode.OK


def table(answer: list[dict[str, Any]]) -> list[str]:
    """The daemon's answer as lines for a person."""
    if not answer:
        return ["no services are configured"]
    lines = [f"{'service':<20}{'km since':>12}{'engine h':>12}{'days':>8}"]
    for one in answer:
        days = "-" if one["days"] is None else f"{one['days']:.0f}"
        row = f"{harmless(one['item']):<20}{one['km']:>12.1f}{one['engine_h']:>12.1f}{days:>8}"
        lines.append(row + ("  DUE" if one["due"] else ""))
    return lines
