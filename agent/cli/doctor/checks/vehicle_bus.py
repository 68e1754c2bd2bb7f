"""Does the vehicle bus speak, at the configured bit rate, and is it the vehicle of the vehicle file?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from agent.cli.bus import known_of, listen
from agent.cli.doctor.finding import Finding, Patient, Say
from agent.config import CanDevice, ConfigError
from agent.hal.errors import HardwareError

SHOWN = 6


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    buses = [device for device in patient.known.devices if isinstance(device, CanDevice)]
    if not buses:
        yield say.unknown(
            "", "no vehicle bus is configured", 'no harm; else a [[device]] of kind "can_socketcan"'
        )
    for device in buses:
        try:
            known = known_of(device.vehicle, None)
        except ConfigError as error:
            for problem in error.problems:
                yield say.bad(device.name, problem, "mend the vehicle file: config/vehicles/README.md")
            continue
        for line, remark in () if known.dbc is None else known.dbc.remarks:
            yield say.unknown(
                device.name, f"the DBC, line {line}: {remark}", "no harm where nothing of it is wanted"
            )
        if patient.status is not None:
            yield from _by_the_agent(device, patient, say)
        else:
            yield from _by_listening(device, patient, say)


def _by_the_agent(device: CanDevice, patient: Patient, say: Say) -> Iterator[Finding]:
    report = (patient.status or {}).get("buses", {}).get(device.name) or {}
    if not report:
        yield say.unknown(device.name, "the agent has not opened it yet", "run this again in a minute")
        return
    if not report.get("heard", 0):
        yield say.bad(
            device.name,
            "the agent heard nothing of what it wants",
            "ignition on? `mdt bus` with the agent stopped",
        )
    else:
        yield say.good(device.name, f"{report['heard']} frames heard")
    yield from _unheard(device, list(report.get("signals_never_heard", ())), say)


def _by_listening(device: CanDevice, patient: Patient, say: Say) -> Iterator[Finding]:
    known = known_of(device.vehicle, None)
    try:
        survey, _ = asyncio.run(listen(device, known, patient.listen_s, try_rates=False))
        tried = (
            asyncio.run(listen(device, known, patient.listen_s, try_rates=True))[1]
            if not survey.frames
            else {}
        )
    except HardwareError as error:
        yield say.bad(device.name, error.why, "plugged in, up, and free? `ip link show`")
        return
    if not survey.frames:
        right = [rate for rate, frames in tried.items() if frames]
        if right:
            rate = max(right, key=lambda one: tried[one])
            yield say.bad(
                device.name, f"the bus speaks at {rate} bit/s, not as configured", f"set bitrate = {rate}"
            )
        else:
            yield say.bad(
                device.name, "the bus is silent", "is the ignition on, are the wires on the right pins?"
            )
        return
    rate_now = survey.frames / survey.span_s if survey.span_s else survey.frames
    if not survey.signals:
        yield say.bad(
            device.name, f"{len(survey.identifiers)} identifiers, and none is in {device.vehicle.name}",
            "another vehicle's file? `mdt bus` lists what is there",
        )  # fmt: skip
        return
    yield say.good(device.name, f"{rate_now:.0f} frames a second, {len(survey.signals)} known signals")
    yield from _unheard(device, [signal.name for signal in survey.unheard()], say)


def _unheard(device: CanDevice, names: list[str], say: Say) -> Iterator[Finding]:
    if names:
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        yield say.unknown(
            device.name, f"never heard: {shown}", "does this vehicle send them? with the ignition on?"
        )
