"""mdt doctor: the page, the exit code, JSON, and the acceptance record of a vehicle."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from agent import __version__
from agent.app.devices import load
from agent.cli.doctor.finding import Finding, Patient, Verdict
from agent.cli.doctor.table import examine
from agent.cli.exit_code import ExitCode
from agent.config import Config, ConfigError
from agent.supervision.daemon_answer import DaemonAwayError, ask

_MARKS = {Verdict.GOOD: "good   ", Verdict.BAD: "BAD    ", Verdict.UNKNOWN: "unknown"}


def doctor(
    config_path: Path,
    socket: Path | None,
    *,
    listen_s: float,
    as_json: bool,
    record: Path | None,
    out: TextIO = sys.stdout,
) -> int:
    """Look at everything and print a line a check. Returns the exit code.

    OK when nothing is bad, FAILED otherwise; what could not be looked at alone is no failure.
    """
    patient = _patient(config_path, socket, listen_s)
    findings = []
    for finding in examine(patient):
        findings.append(finding)
        if not as_json:
            out.writelines(f"{line}\n" for line in lines_of(finding))
            out.flush()
    bad = sum(finding.verdict is Verdict.BAD for finding in findings)
    unknown = sum(finding.verdict is Verdict.UNKNOWN for finding in findings)
    if as_json:
        table = [asdict(finding) | {"verdict": str(finding.verdict)} for finding in findings]
        json.dump({"findings": table, "bad": bad, "unknown": unknown}, out, indent=2)
        out.write("\n")
    else:
        out.write(f"\n{summary(bad, unknown)}\n")
    if record is not None:
        try:
            record.write_text("\n".join(acceptance(patient, findings)) + "\n", encoding="utf-8")
        except OSError as error:
            print(f"{record}: not written: {error.strerror}", file=sys.stderr)
            return ExitCode.FAILED
    return ExitCode.FAILED if bad else ExitCode.OK


def summary(bad: int, unknown: int) -> str:
    """The whole in one sentence."""
    rest = f"; {unknown} could not be looked at" if unknown else ""
    if bad:
        return f"{bad} thing{'s' if bad > 1 else ''} to mend{rest}."
    return f"Nothing is wrong{rest}."


def lines_of(finding: Finding) -> list[str]:
    """A finding for a person."""
    about = f"{finding.check}: {finding.subject}" if finding.subject else finding.check
    lines = [f"{_MARKS[finding.verdict]}  {about}: {finding.what}"]
    if finding.do:
        lines.append(f"           -> {finding.do}")
    return lines


def acceptance(patient: Patient, findings: Sequence[Finding]) -> list[str]:
    """The acceptance record of a vehicle: a page of text to print and sign."""
    from firmware_shims.system_clock import SystemClock

    config: Config | None = patient.config
    unit = "?" if config is None else f"{config.unit.agency}/{config.unit.unit}"
    devices = "?" if config is None else ", ".join(f"{one.name} ({one.kind})" for one in config.devices)
    now = datetime.fromtimestamp(SystemClock().system_utc().unix_ms / 1000, UTC)
    bad = sum(finding.verdict is Verdict.BAD for finding in findings)
    unknown = sum(finding.verdict is Verdict.UNKNOWN for finding in findings)
    return [
        "ACCEPTANCE RECORD OF A VEHICLE",
        "",
        f"Unit:           {unit}",
        f"Date (UTC):     {now.isoformat(timespec='minutes')} by this computer's clock",
        f"Agent:          {__version__}",
        f"Configuration:  {patient.config_path}",
        f"Devices:        {devices}",
        "",
        *(line for finding in findings for line in lines_of(finding)),
        "",
        summary(bad, unknown),
        "",
        "Vehicle and licence plate: ______________________________",
        "",
        "Each button pressed and seen at dispatch:   [ ] yes   [ ] no",
        "Position seen at dispatch where it is:      [ ] yes   [ ] no",
        "",
        "Technician: ________________________   Date: ____________   Signature: ____________________",
    ]


def _patient(config_path: Path, socket: Path | None, listen_s: float) -> Patient:
    config: Config | None = None
    problems: tuple[str, ...] = ()
    try:
        config = load(config_path)
    except ConfigError as error:
        problems = tuple(error.problems)
    at = socket or (None if config is None else config.status_socket)
    status: dict[str, Any] | None = None
    if at is not None:
        try:
            status = ask(at, "status")
        except DaemonAwayError:
            status = None
    return Patient(config_path, config, problems, status, listen_s)
