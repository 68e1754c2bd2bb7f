"""Is the computer itself well: heat, supply, memory, wear of the card?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.cli.doctor.finding import Finding, Patient, Say
from agent.cli.what_to_do import what_to_do
from agent.domain.device_health import unwell
from agent.domain.modem import modem_unwell


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    from firmware_shims.computer import LinuxComputer

    folder = Path("/") if patient.config is None else patient.config.store.directory
    state = LinuxComputer(folder, patient.root).read()
    for reason, detail in unwell(state).items():
        advice = what_to_do(reason)
        yield say.bad(str(reason), f"{advice.sentence} ({detail})", advice.do)
    figures = {
        "temperature": None if state.cpu_c is None else f"{state.cpu_c:.0f} degrees",
        "supply": None
        if state.is_under_voltage is None
        else "strong enough"
        if not state.is_under_voltage
        else "weak",
        "memory": None if state.memory_free_mib is None else f"{state.memory_free_mib:.0f} MiB free",
        "card's life": None if state.disk_worn_percent is None else f"{state.disk_worn_percent:.0f} % used",
    }
    if state.modem is not None:
        for reason, detail in modem_unwell(state.modem, was_there=False).items():
            advice = what_to_do(reason)
            yield say.bad(str(reason), f"{advice.sentence} ({detail})", advice.do)
        figures["modem's signal"] = (
            None if state.modem.signal_percent is None else f"{state.modem.signal_percent} %"
        )
    known = [f"{name} {figure}" for name, figure in figures.items() if figure is not None]
    if known:
        yield say.good("", ", ".join(known))
    unknown = [name for name, figure in figures.items() if figure is None]
    if unknown:
        yield say.unknown("", f"not told by this computer: {', '.join(unknown)}", "no harm")
