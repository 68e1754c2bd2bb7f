"""mdt times: when the unit did what, run by run, as its own journal has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.cli.daemon_reports import asked
from agent.cli.exit_code import ExitCode
from agent.runtime.plain_text import harmless


def times(socket_path: Path | None, config_path: Path, *, as_json: bool, as_nemsis: bool) -> int:
    """Print the runs' times. Returns the exit code."""
    answer = asked("times", socket_path, config_path)
    if isinstance(answer, ExitCode):
        return answer
    if as_nemsis:
        print(json.dumps([run["nemsis"] for run in answer["runs"]], indent=2))
    elif as_json:
        print(json.dumps(answer, indent=2))
    else:
        for line in table(answer):
            print(line)
    return ExitCode.OK


def table(answer: dict[str, Any]) -> list[str]:
    """The daemon's answer as lines for a person."""
    lines: list[str] = []
    for run in answer["runs"]:
        lines += [*_run(run), ""]
    if not lines:
        lines = ["no runs are on record", ""]
    edits = f"{answer['amendments']} amended, {answer['withdrawals']} taken back"
    return [*lines, f"{len(answer['runs'])} runs; {edits}"]


def _run(run: dict[str, Any]) -> list[str]:
    lines = [f"incident {harmless(run['incident'] or '-')}" + ("" if run["closed"] else "   (not over)")]
    for time in run["times"]:
        marks = ["amended"] * bool(time["amended"]) + list(time["flags"])
        cells = (
            f"  {harmless(time['code'] or ''):<3}{harmless(time['status']):<17}",
            f"{time['utc'] or 'time not known':<31}",
            "" if time["odometer_km"] is None else f"{time['odometer_km']:>10.1f} km",
            "  " + harmless(", ".join(marks)) if marks else "",
        )
        lines.append("".join(cells).rstrip())
    for leg in run["legs"]:
        length = "-" if leg["seconds"] is None else _duration(leg["seconds"])
        way = "" if leg["km"] is None else f"{leg['km']:>10.1f} km"
        lines.append(f"     {leg['name']:<17}{length:<31}{way}".rstrip())
    return lines


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds; a minus where amended times run backwards."""
    whole = round(abs(seconds))
    text = f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"-{text}" if seconds < 0 else text
