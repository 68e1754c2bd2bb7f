"""Have the crew's buttons a meaning each, and is none of them stuck?"""

from __future__ import annotations

from collections.abc import Iterator

from agent.cli.doctor.finding import Finding, Patient, Say
from agent.config import ButtonDevice


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    config = patient.known
    panels = [device for device in config.devices if isinstance(device, ButtonDevice)]
    if not panels:
        yield say.bad(
            "",
            "no buttons are configured: the crew can not say anything",
            'add a [[device]] of kind "button_box"',
        )
        return
    meanings = set(config.buttons.keys.values())
    if "emergency" not in meanings:
        yield say.bad("emergency", "no key means emergency", "give one in [buttons.keys]")
    yield say.good("", f"{len(meanings)} meanings on {', '.join(panel.name for panel in panels)}")
    if "button_chatter" in patient.reasons():
        yield say.bad(
            "chatter",
            patient.reasons()["button_chatter"],
            "replace the switch, or mend its wire: mdt buttons",
        )
    if "button_stuck" in patient.reasons():
        yield say.bad("stuck", patient.reasons()["button_stuck"], "free or replace the key")
