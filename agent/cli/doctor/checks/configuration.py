"""Is the configuration good, this vehicle's own, and where does it differ from what is shipped?"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from agent.app.devices import validate
from agent.app.patches import patches_of
from agent.cli.doctor.finding import Finding, Patient, Say

EXAMPLES = ("broker.example.org",)


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    if patient.problems:
        for problem in patient.problems:
            yield say.bad(
                "",
                problem.removeprefix(f"{patient.config_path}: "),
                "edit the file; mdt check-config tells all",
            )
        return
    config = patient.known
    yield say.good("", f"{patient.config_path} can be used")
    for broker in config.uplink.brokers:
        if broker.host in EXAMPLES:
            yield say.bad(
                "broker",
                f"{broker.host} is the example's",
                "give the real host in [[uplink.brokers]]",
            )
    patches = patches_of(patient.config_path, config, validate)
    patches.look()
    changed = patches.snapshot()["changed"]
    if patches.left_out:
        yield say.bad("from afar", f"a change is not in use: {patches.left_out}", "tell fleet services")
    if changed:
        keys = ", ".join(f"{key} = {value}" for key, value in changed.items())
        yield say.good("from afar", f"changed over the file: {keys}")
    own = sorted(_differences(config, ""))
    yield say.good("against defaults", f"set here: {', '.join(own)}" if own else "everything is as shipped")


def _differences(section: BaseModel, where: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _differences(value, f"{where}{name}.")
        elif not field.is_required() and name in section.model_fields_set and value != field.get_default():
            yield f"{where}{name}"
