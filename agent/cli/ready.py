"""mdt ready: is the unit ready for its shift? A line a subject, and an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.cli.daemon_reports import asked
from agent.cli.exit_code import ExitCode
from agent.runtime.plain_text import harmless

_MARKS = {"good": "ok     ", "bad": "NOT OK ", "unknown": "unknown"}


def ready(socket_path: Path | None, config_path: Path, *, as_json: bool) -> int:
    """Print the readiness report. Returns the exit code: FAILED when something is not as it should be."""
    answer = asked("readiness", socket_path, config_path)
    if isinstance(answer, ExitCode):
        return answer
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        for line in lines_of(answer):
            print(line)
    return ExitCode.OK if answer["ready"] else ExitCode.FAILED


def lines_of(answer: dict[str, Any]) -> list[str]:
    """The report for a person."""
    verdict = "Ready for the shift." if answer["ready"] else "NOT ready: see below."
    subjects = [f"{_MARKS.get(one['ready'], '?')}  {harmless(one['text'])}" for one in answer["subjects"]]
    return [f"{harmless(answer['unit'])}: {verdict}", "", *subjects]
