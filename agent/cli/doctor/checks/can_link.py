"""Is the kernel's CAN link up, listening only, and at which bit rate?"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from agent.cli.doctor.finding import Finding, Patient, Say

_ARPHRD_CAN = "280"


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    for device in patient.known.devices:
        if device.kind == "can_socketcan":
            yield from _interface(str(getattr(device, "channel", "")), patient, say)


def _interface(channel: str, patient: Patient, say: Say) -> Iterator[Finding]:
    folder = patient.root / "sys/class/net" / channel
    if not folder.exists():
        yield say.bad(
            channel, "there is no such interface", "the controller's overlay in config.txt: docs/install.md"
        )
        return
    if (folder / "type").read_text(encoding="ascii").strip() != _ARPHRD_CAN:
        yield say.bad(channel, "a network interface, but not of a CAN bus", "give the right channel")
        return
    if not int((folder / "flags").read_text(encoding="ascii"), 16) & 1:
        yield say.bad(channel, "the interface is down", "sudo systemctl enable --now systemd-networkd")
        return
    yield say.good(channel, "the interface is up")
    details = _details(channel)
    if details is None:
        yield say.unknown(channel, "its bit rate is not known", "install iproute2")
        return
    rate = details.get("bittiming", {}).get("bitrate")
    modes, state = details.get("ctrlmode", []), details.get("state", "")
    if state in ("BUS-OFF", "ERROR-PASSIVE"):
        yield say.bad(channel, f"the controller is {state} at {rate} bit/s", "wrong bit rate, or the wires")
    if rate and "LISTEN-ONLY" not in modes:
        yield say.bad(
            channel,
            "it is not listen-only: it acknowledges frames of the vehicle",
            "80-mdt-can0.network: ListenOnly=yes",
        )
    elif rate:
        yield say.good(channel, f"{rate} bit/s, listening only")


def _details(channel: str) -> dict[str, Any] | None:
    if shutil.which("ip") is None:
        return None
    said = subprocess.run(  # noqa: S603  # the name is one argument
        ["ip", "-details", "-json", "link", "show", channel],  # noqa: S607  # as an administrator would
        capture_output=True, encoding="utf-8", timeout=10, check=False,
    )  # fmt: skip
    try:
        (link,) = json.loads(said.stdout)
        found: dict[str, Any] = link["linkinfo"].get("info_data", {})
    except (ValueError, KeyError, TypeError):
        return None
    return found
