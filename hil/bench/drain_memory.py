"""How much more memory a large backlog takes than a small one, from store to broker."""

from __future__ import annotations

import shutil
from pathlib import Path

from firmware_shims.system_clock import SystemClock
from hil.bench.bridge import run_bridge
from hil.bench.drain import RECORD_BYTES
from hil.bench.figure import Figure, Target
from hil.bench.peer_process import Contender, own_child
from hil.bench.rig_broker import mosquitto
from hil.bench.setting import NotHereError, Setting
from hil.bench.trail import fill

SMALL = 10_000
LARGE = 1_000_000
BRIDGE_MOST = 1_000_000
TARGET = Target(10, at_most=True)


def measure(setting: Setting) -> list[Figure]:
    """Highest resident memory while draining, pacing off: the large backlog's less the small one's."""
    folder = setting.fresh_folder("drain_memory")
    small, large = min(SMALL, setting.count(SMALL, least=100)), setting.count(LARGE, least=200)
    with mosquitto(folder / "broker") as broker:
        ours = [_peak_mib(setting, folder, broker.port, count) for count in (small, large)]
    theirs, note = None, f"from {small:,} to {large:,} records"
    bridged = min(large, BRIDGE_MOST)
    try:
        peaks = [_bridge_peak_mib(setting, folder, count) for count in (small, bridged)]
    except NotHereError as reason:
        note += f"; {reason}"
    else:
        theirs = peaks[1] - peaks[0]
        note += f"; the bridge to {bridged:,}" if bridged < large else ""
    return [Figure("drain_memory", ours[1] - ours[0], "MiB more", "mosquitto bridge", theirs, TARGET, note)]


def _peak_mib(setting: Setting, folder: Path, port: int, count: int) -> float:
    setting.say(f"drain_memory: {count:,} records through ours")
    store = folder / "store"
    fill(store, count, boot_id=SystemClock().boot_id)
    command = own_child("hil.bench.uplink_child", "--store", store, "--port", port, "--unpaced")
    with Contender(command, folder=folder, name="uplink") as uplink:
        peak_mib = float(uplink.ask("drain", within_s=1800)["peak_mib"])
    shutil.rmtree(store)
    return peak_mib


def _bridge_peak_mib(setting: Setting, folder: Path, count: int) -> float:
    setting.say(f"drain_memory: {count:,} records through the bridge")
    place = folder / f"bridge-{count}"
    place.mkdir()
    return run_bridge(place, count, RECORD_BYTES).peak_mib
