"""Does the agent run, and is it well by its own word?"""

from __future__ import annotations

from collections.abc import Iterator

from agent.cli.doctor.finding import Finding, Patient, Say
from agent.cli.what_to_do import what_to_do


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    if patient.status is None:
        yield say.unknown(
            "", "no agent answers", "start it: sudo systemctl start mdt; then: journalctl -u mdt -n 50"
        )
        return
    yield say.good("", f"runs as {patient.status.get('unit', '?')}")
    for reason, detail in sorted(patient.reasons().items()):
        advice = what_to_do(reason)
        yield say.bad(reason, f"{advice.sentence}{f' ({detail})' if detail else ''}", advice.do)
    for unit, state in sorted(patient.status.get("units", {}).items()):
        if state != "running":
            yield say.bad(
                unit, f"this part is {state}", "see the line of its device; journalctl -u mdt -n 50"
            )
