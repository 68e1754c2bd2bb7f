"""Expectations on commands to the vehicle."""

from __future__ import annotations

from typing import Literal

from agent.domain.record import CommandResult
from hil.scenario.expectation import Expectation, Verdict
from hil.scenario.observation import Observation


class CommandOutcomes(Expectation):
    """The journal tells of the command `command` exactly these outcomes, in this order.

    Each is an outcome, or an outcome with its reason: `refused rolled_back`.
    """

    kind: Literal["command_outcomes"]
    command: str
    outcomes: tuple[str, ...]

    def check(self, seen: Observation) -> Verdict:
        """Look at the records in the order of their sequence."""
        records = sorted(seen.records, key=lambda record: (record.journal, record.seq))
        bodies = [one.body for one in records if isinstance(one.body, CommandResult)]
        have = [
            f"{body.outcome} {body.reason}" if body.reason else body.outcome
            for body in bodies
            if body.command == self.command
        ]
        return Verdict(have == list(self.outcomes), ", ".join(have) or "the journal tells of none")
