"""CPU that a frame of the vehicle bus takes, from an SLCAN adapter to the signals that changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from agent.hal.can import CanFrame
from agent.sources.can.can_decoder import CanDecoder
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.signal_changes import SignalChanges
from agent.sources.can.vehicle_file import load_vehicle_file
from firmware_shims.can_bus import CanBus, Slcan, import_can
from firmware_shims.simulated.slcan_adapter import PtySlcanAdapter
from firmware_shims.system_clock import SystemClock
from hil.bench.figure import Figure, middle
from hil.bench.setting import Setting
from hil.bench.trail import DRIVE, SEED
from hil.drive.items import CanItem
from hil.drive.shift import load_shift
from hil.process.process_rig import DEMO_VEHICLE

FRAMES = 4_000
CHUNK = 100
"""Frames that a full 500 kbit/s bus brings between two looks."""
PEER = "python-can recv, cantools"


def measure(setting: Setting) -> list[Figure]:
    """Microseconds of CPU a frame: taking it from the adapter, and decoding it."""
    folder = setting.fresh_folder("can_input")
    items = (item for item in load_shift(DRIVE, SEED).items() if isinstance(item, CanItem))
    frames = list(islice(items, setting.count(FRAMES, least=CHUNK)))
    decoder = compile_decoder(load_vehicle_file(DEMO_VEHICLE), DEMO_VEHICLE)
    reads: tuple[list[float], list[float]] = ([], [])
    decodes: tuple[list[float], list[float]] = ([], [])
    for turn in range(setting.rounds):
        for took, used_s in zip(reads, asyncio.run(_read(folder / f"can-{turn}", frames)), strict=True):
            took.append(used_s / len(frames) * 1e6)
        for took, used_s in zip(decodes, _decode(decoder, frames), strict=True):
            took.append(used_s / len(frames) * 1e6)
    both = [[sum(pair) for pair in zip(*parts, strict=True)] for parts in zip(reads, decodes, strict=True)]
    unit = "us of CPU a frame"
    return [
        Figure("can_input", middle(both[0]), unit, PEER, middle(both[1])),
        Figure("can_input.read", middle(reads[0]), unit, "python-can recv", middle(reads[1])),
        Figure("can_input.decode", middle(decodes[0]), unit, "cantools", middle(decodes[1])),
    ]


async def _read(link: Path, items: Sequence[CanItem]) -> tuple[float, float]:
    adapter = PtySlcanAdapter(link)
    adapter.plug()
    try:
        return await _read_ours(adapter, items), await _read_theirs(adapter, items)
    finally:
        adapter.unplug()


async def _read_ours(adapter: PtySlcanAdapter, items: Sequence[CanItem]) -> float:
    settings = Slcan(device=str(adapter.link), vehicle=DEMO_VEHICLE)
    bus = CanBus(settings, SystemClock(), drain_interval_s=0.0)
    await bus.open()
    used_s = 0.0
    try:
        await adapter.wait_open()
        for at in range(0, len(items), CHUNK):
            left = _send(adapter, items[at : at + CHUNK])
            begun_s = time.process_time()
            while left > 0:
                left -= len(await bus.read())
            used_s += time.process_time() - begun_s
    finally:
        await bus.close()
    return used_s


async def _read_theirs(adapter: PtySlcanAdapter, items: Sequence[CanItem]) -> float:
    can = import_can()

    def open_bus() -> Any:
        return can.Bus(
            interface="slcan",
            channel=str(adapter.link),
            bitrate=500_000,
            listen_only=True,
            sleep_after_open=0,
            ignore_config=True,
        )

    # On a thread, so that the adapter, which lives on the loop, can answer.
    bus = await asyncio.to_thread(open_bus)
    used_s = 0.0
    try:
        await adapter.wait_open()
        for at in range(0, len(items), CHUNK):
            left = _send(adapter, items[at : at + CHUNK])
            begun_s = time.process_time()
            while left > 0 and bus.recv(5) is not None:
                left -= 1
            used_s += time.process_time() - begun_s
    finally:
        await asyncio.to_thread(bus.shutdown)
    return used_s


def _send(adapter: PtySlcanAdapter, items: Sequence[CanItem]) -> int:
    return adapter.send([(item.can_id, item.extended, item.data) for item in items])


def _decode(decoder: CanDecoder, items: Sequence[CanItem]) -> tuple[float, float]:
    import cantools

    database: Any = cantools.database.load_file(DEMO_VEHICLE.with_suffix(".dbc"))
    known = {message.frame_id for message in database.messages}
    frames = [CanFrame(item.can_id, item.extended, item.data, item.t_ns) for item in items]
    changes = SignalChanges(decoder)
    told = 0
    begun_s = time.process_time()
    for at in range(0, len(frames), CHUNK):
        told += len(changes.take(frames[at : at + CHUNK]))
    ours_s = time.process_time() - begun_s
    assert told
    begun_s = time.process_time()
    for frame in frames:
        if frame.can_id in known:
            database.decode_message(frame.can_id, frame.data)
    return ours_s, time.process_time() - begun_s
