"""The table of checks, in the order of the page: name to module. Each module has a function `check`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass

from agent.cli.doctor.finding import Check, Finding, Patient, Say


@dataclass(frozen=True, slots=True)
class Row:
    """One check.

    Attributes:
        module: its file beside the others.
        needs_config: True when there is nothing to look at without a usable configuration.
    """

    module: str
    needs_config: bool = True

    def check(self) -> Check:
        """The check itself, imported when its turn comes."""
        found: Check = importlib.import_module(f"agent.cli.doctor.checks.{self.module}").check
        return found


CHECKS: dict[str, Row] = {
    "configuration": Row("configuration", needs_config=False),
    "agent": Row("agent", needs_config=False),
    "devices": Row("devices"),
    "vehicle bus": Row("vehicle_bus"),
    "CAN link": Row("can_link"),
    "buttons": Row("buttons"),
    "clock": Row("clock", needs_config=False),
    "secrets": Row("secrets"),
    "certificate": Row("certificate"),
    "broker": Row("broker"),
    "disk": Row("disk"),
    "computer": Row("computer", needs_config=False),
    "service": Row("service", needs_config=False),
}


def examine(patient: Patient) -> Iterator[Finding]:
    """Run every check, one after the other."""
    for name, row in CHECKS.items():
        say = Say(name)
        if row.needs_config and patient.config is None:
            yield say.unknown("", "not looked at without a configuration", "mend the configuration first")
            continue
        try:
            yield from row.check()(patient, say)
        except Exception as error:  # noqa: BLE001  # one check that fails must not hide the others
            yield say.unknown("", f"the check itself failed: {type(error).__name__}: {error}", "report this")
