"""Will systemd start the agent at boot, and how often did it have to?"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

from agent.cli.doctor.finding import Finding, Patient, Say

MANY_RESTARTS = 3


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    if shutil.which("systemctl") is None:
        yield say.unknown("", "this computer has no systemd", "no harm where something else starts the agent")
        return
    asked = "LoadState,ActiveState,UnitFileState,NRestarts,Result"
    said = subprocess.run(  # noqa: S603  # nothing of it comes from outside
        ["systemctl", "show", "mdt.service", f"--property={asked}"],  # noqa: S607  # as an administrator would
        capture_output=True, encoding="utf-8", timeout=10, check=False,
    )  # fmt: skip
    state = dict(line.split("=", 1) for line in said.stdout.splitlines() if "=" in line)
    if said.returncode or not state:
        yield say.unknown("", "systemd does not answer", "systemctl status mdt")
        return
    if state.get("LoadState") != "loaded":
        yield say.bad("", "mdt.service is not installed", "sudo make install")
        return
    if state.get("UnitFileState") != "enabled":
        yield say.bad("at boot", "the agent is not started at boot", "sudo systemctl enable mdt")
    if state.get("ActiveState") != "active":
        yield say.bad(
            "", f"the service is {state.get('ActiveState')}: {state.get('Result')}", "journalctl -u mdt -n 50"
        )
    else:
        yield say.good("", "the service runs")
    yield from _power(patient, say)
    restarts = int(state.get("NRestarts") or 0)
    if restarts >= MANY_RESTARTS:
        yield say.bad("restarts", f"it was started anew {restarts} times", "journalctl -u mdt | grep -i fail")


def _power(patient: Patient, say: Say) -> Iterator[Finding]:
    """Does anybody see the agent's wish to turn the computer off?"""
    power = None if patient.config is None else patient.config.power
    if power is None or not power.shut_down:
        return
    said = subprocess.run(
        ["systemctl", "is-active", "mdt-poweroff.path"],  # noqa: S607  # as an administrator would
        capture_output=True, encoding="utf-8", timeout=10, check=False,
    )  # fmt: skip
    if said.stdout.strip() == "active":
        yield say.good("power", "the computer is turned off when the unit parks")
    else:
        yield say.bad(
            "power",
            "nothing turns the computer off when the unit parks",
            "sudo systemctl enable --now mdt-poweroff.path",
        )
