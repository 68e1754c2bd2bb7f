"""Bytes that a shift takes on the air, by topic: payload, and what TLS, TCP and IP add to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import takewhile
from pathlib import Path

from agent.uplink.link.link import Message
from hil.bench.figure import Figure, Target
from hil.bench.setting import Setting
from hil.drive.shift import Options, load_shift
from hil.sim.sim_rig import SimRig
from hil.sim.virtual_loop import VirtualLoop

DRIVE = "boston_12h"
SHIFT_H = 12.0
CAN_HZ_SCALE = 0.2
"""The slowest message of the demo vehicle still comes every few seconds, so no signal goes stale."""
TARGET_MB = Target(6.0, at_most=True)
TLS_RECORD_BYTES = 22
"""TLS 1.3 with AES-GCM: 5 of header, 1 of type, 16 of tag."""
TCP_IP_BYTES = 52
"""IPv4 without options and TCP with time stamps."""
PUBACK_BYTES = 4 + TLS_RECORD_BYTES + TCP_IP_BYTES
ACK_BYTES = TCP_IP_BYTES
"""Of TCP alone, for the PUBACK; the publication's is on the PUBACK itself."""
MSS_BYTES = 1448
PEER = "state/vehicle whole and every second"
WHOLE_PICTURE_BYTES = 828


class Counted:
    """What the broker was given."""

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.payload: Counter[str] = Counter()
        self.wire: Counter[str] = Counter()

    def take(self, message: Message) -> None:
        """Count one message of the unit."""
        topic = "/".join(message.topic.split("/")[4:])
        self.messages[topic] += 1
        self.payload[topic] += len(message.payload)
        self.wire[topic] += wire_bytes(message.packet_bytes())


def wire_bytes(packet_bytes: int) -> int:
    """One publication on its own with its PUBACK, as it goes over a mobile network.

    Nothing is sent with anything else: what the kernel puts together would make it less.
    """
    segments = -(-(packet_bytes + TLS_RECORD_BYTES) // MSS_BYTES)
    return packet_bytes + TLS_RECORD_BYTES + segments * TCP_IP_BYTES + PUBACK_BYTES + ACK_BYTES


def measure(setting: Setting) -> list[Figure]:
    """Bytes of payload of every topic an hour, and of all in a shift, with what carries them beside it."""
    hours = SHIFT_H * min(1.0, setting.scale)
    counted = Counted()
    folder = setting.fresh_folder("air")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_drive(folder / "rig", hours, counted))
    setting.say(f"air: {sum(counted.messages.values())} messages in {hours:g} h of {DRIVE}")
    figures = []
    for topic in sorted(counted.payload):
        messages, wire = counted.messages[topic] / hours, counted.wire[topic] / hours
        note = f"{messages:.0f} messages, {wire:.0f} B on the wire an hour"
        whole = 3600 * WHOLE_PICTURE_BYTES if topic == "state/vehicle" else None
        peer = PEER if whole else ""
        value = counted.payload[topic] / hours
        figures.append(Figure(f"air.{topic}", value, "payload bytes an hour", peer, whole, note=note))
    payload_mb, wire_mb = (
        SHIFT_H / hours * sum(one.values()) / 1e6 for one in (counted.payload, counted.wire)
    )
    return [
        *figures,
        Figure("air.shift", payload_mb, "MB of payload in 12 h", "", None, TARGET_MB),
        Figure("air.shift.wire", wire_mb, "MB with TLS, TCP and IP in 12 h", "", None),
    ]


async def _drive(folder: Path, hours: float, counted: Counted) -> None:
    shift = load_shift(DRIVE, 1, Options(can_hz_scale=CAN_HZ_SCALE))
    overrides = {"reporting": {"vehicle_state_interval_s": 10}}
    async with SimRig(folder, unix_ms=shift.start_utc_ms, seed=1, overrides=overrides) as rig:
        seen = rig.broker.on_message

        def count(message: Message) -> None:
            if "/state/" in message.topic or "/journal/" in message.topic:
                counted.take(message)
            if seen is not None:
                seen(message)

        rig.broker.on_message = count
        await rig.boot()
        end_ns = round(hours * 3600e9)
        await rig.play(takewhile(lambda item: item.t_ns <= end_ns, shift.items()))
        await rig.wait_delivered(600)
