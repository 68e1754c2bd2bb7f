"""Expectations on calls and on what belongs to them."""

from __future__ import annotations

from typing import Literal

from agent.domain.record import CallRecord, StatusChange
from agent.domain.state import StatusState
from hil.scenario.expectation import Expectation, Verdict
from hil.scenario.observation import Observation


class CallSteps(Expectation):
    """What became of the call `incident` in the vehicle is exactly `steps`, in this order."""

    kind: Literal["call_steps"]
    incident: str
    steps: tuple[str, ...]

    def check(self, seen: Observation) -> Verdict:
        """Look at the records in the order of their sequence."""
        records = sorted(seen.records, key=lambda record: (record.journal, record.seq))
        have = [
            one.body.step
            for one in records
            if isinstance(one.body, CallRecord) and one.body.incident == self.incident
        ]
        return Verdict(have == list(self.steps), ", ".join(have) or "nothing was told of it")


class PressesOfIncident(Expectation):
    """Exactly the presses `statuses` carry the number `incident`, in this order, each with evidence."""

    kind: Literal["presses_of_incident"]
    incident: str
    statuses: tuple[str, ...]

    def check(self, seen: Observation) -> Verdict:
        """Look at the records in the order of their sequence."""
        records = sorted(seen.records, key=lambda record: (record.journal, record.seq))
        have = [one.body for one in records if isinstance(one.body, StatusChange)]
        mine = [body for body in have if body.incident == self.incident]
        bare = [body.status for body in mine if body.evidence is None]
        text = ", ".join(body.status for body in mine) or "no press carries it"
        if bare:
            text += f"; without evidence: {', '.join(bare)}"
        return Verdict([body.status for body in mine] == list(self.statuses) and not bare, text)


class IncidentAtEnd(Expectation):
    """In the end `state/status` names `incident`; without one, none."""

    kind: Literal["incident_at_end"]
    incident: str | None = None

    def check(self, seen: Observation) -> Verdict:
        """Look at the newest state."""
        state = seen.states.get("status")
        told = state.incident if isinstance(state, StatusState) else None
        return Verdict(isinstance(state, StatusState) and told == self.incident, f"it names {told}")
