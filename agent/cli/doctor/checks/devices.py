"""Is each device there, may it be opened, and does it speak at the speed that is configured?"""

from __future__ import annotations

import asyncio
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from agent.cli.doctor.finding import Finding, Patient, Say
from agent.config import CanDevice, ConfigError, Device, DiagnosticDevice, GnssDevice, validate
from agent.hal.errors import HardwareError

TRY_S = 1.5
OPEN_S = 15.0


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    if not patient.known.devices:
        yield say.bad("", "no device is configured", "add [[device]] blocks")
    for device in patient.known.devices:
        absent = [file for file in device.files() if not glob.glob(file)]  # noqa: PTH207  # an absolute pattern
        if absent:
            yield say.bad(
                device.name,
                f"{', '.join(absent)} is not there",
                "plugged in? `ls -l /dev/*0`; names: docs/install.md",
            )
            continue
        barred = [file for file in device.files() if not _may_use(file)]
        if barred:
            yield say.bad(
                device.name, f"{', '.join(barred)}: this user may not use it",
                "run this with sudo; the agent's user must be in the groups dialout and gpio",
            )  # fmt: skip
            continue
        if patient.status is not None:
            yield _by_the_agent(device, patient, say)
        elif not isinstance(device, CanDevice):
            yield from _by_listening(device, patient, say)


def _may_use(pattern: str) -> bool:
    return all(os.access(file, os.R_OK) for file in glob.glob(pattern))  # noqa: PTH207


def _by_the_agent(device: Device, patient: Patient, say: Say) -> Finding:
    state = str(
        (patient.status or {}).get("units", {}).get(f"device-{device.name}", "not known to the running agent")
    )
    if state == "running":
        return say.good(device.name, "the agent reads it")
    return say.bad(
        device.name, state, "the agent was started with another configuration? sudo systemctl restart mdt"
    )


def _by_listening(device: Device, patient: Patient, say: Say) -> Iterator[Finding]:
    try:
        data, items = asyncio.run(_heard(device, patient.listen_s))
    except HardwareError as error:
        yield say.bad(device.name, error.why, "plugged in, free, and of this kind?")
        return
    if not isinstance(device, GnssDevice):
        yield say.good(device.name, "it can be opened" + (f", {items} readings" if items else ""))
        return
    yield _receiver(device, data, patient, say)


def _receiver(device: GnssDevice, data: bytes, patient: Patient, say: Say) -> Finding:
    from firmware_shims.serial_rates import RATES, good_messages

    good = good_messages(data)
    searches = getattr(device, "baud", None) == "auto"
    if good:
        return say.good(device.name, f"{good} whole sentences in {patient.listen_s:g} s")
    what = "says nothing that can be read" if data else "says nothing"
    rate = getattr(device, "baud", None)
    if rate is None:
        return say.bad(device.name, what, "is the receiver on, does the address lead to it?")
    for other in RATES:
        if other == rate:
            continue
        try:
            table = device.model_dump(mode="json") | {"baud": other}
            heard, _ = asyncio.run(_heard(validate(type(device), table, Path("doctor")), TRY_S))
        except (ConfigError, HardwareError):
            continue
        if good_messages(heard) and searches:
            return say.good(device.name, f"it speaks at {other}, which the agent finds by itself")
        if good_messages(heard):
            return say.bad(
                device.name, f"it speaks at {other}, and baud = {rate} is configured", f"set baud = {other}"
            )
    return say.bad(
        device.name, f"{what}, at no usual speed", "power, cable (TX and RX), and is it a GNSS receiver?"
    )


async def _heard(device: Device, for_s: float) -> tuple[bytes, int]:
    """What a device gives in a while: its bytes, if any, and the number of items. Raises HardwareError."""
    from agent.app.vehicle_platform import VehiclePlatform

    platform = VehiclePlatform()
    feed = platform.feed(device, platform.clock())
    data, items = b"", 0
    try:
        async with asyncio.timeout(OPEN_S):
            await feed.open()
        if isinstance(device, DiagnosticDevice):
            return data, items  # it is asked, and doctor sends nothing on a vehicle's bus
        try:
            async with asyncio.timeout(for_s):
                while True:
                    for item in await feed.read():
                        items += 1
                        data += getattr(item, "data", b"")
        except TimeoutError:
            return data, items
    finally:
        await feed.close()
