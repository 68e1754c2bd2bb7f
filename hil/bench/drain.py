"""How fast a backlog goes from the store to the broker's PUBACK, and what CPU that takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from firmware_shims.system_clock import SystemClock
from hil.bench.bridge import run_bridge
from hil.bench.figure import Figure, Target, middle
from hil.bench.gateway import drain_gateway
from hil.bench.peer_process import Contender, own_child
from hil.bench.rig_broker import mosquitto
from hil.bench.setting import NotHereError, Setting
from hil.bench.trail import fill

RECORDS = 300_000
PAHO_RECORDS = 20_000
GATEWAY_RECORDS = 50_000
BRIDGE_RECORDS = 100_000
RECORD_BYTES = 48
"""A position as bytes, with its stamp: what the plain publisher and the bridge send a message."""
RATE_TARGET = Target(100_000)
CPU_TARGET = Target(10, at_most=True)

OURS, GATEWAY, BRIDGE = "ours", "thingsboard-gateway", "mosquitto bridge"
PAHO = "plain paho, a record a message"


@dataclass(slots=True)
class _Runs:
    """Results of one contender, and why there are none."""

    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    why_not: str = ""

    def add(self, rate: float, cpu_us: float) -> None:
        self.rates.append(rate)
        self.cpu_us.append(cpu_us)


def measure(setting: Setting) -> list[Figure]:
    """Drain the same kind of backlog through each contender in turn, pacing off, all on loopback."""
    folder = setting.fresh_folder("drain")
    fill(folder / "filled", setting.count(RECORDS, least=100), boot_id=SystemClock().boot_id)
    with mosquitto(folder / "broker") as broker:
        contests: dict[str, Callable[[Path, _Runs], None]] = {
            OURS: lambda place, runs: _ours(folder / "filled", place, broker.port, runs),
            PAHO: lambda place, runs: _paho(place, broker.port, setting.count(PAHO_RECORDS, least=100), runs),
            GATEWAY: lambda place, runs: _gateway(place, setting.count(GATEWAY_RECORDS), runs),
            BRIDGE: lambda place, runs: _bridge(place, setting.count(BRIDGE_RECORDS, least=100), runs),
        }
        results = {name: _Runs() for name in contests}
        for turn in range(setting.rounds):
            for name, contest in contests.items():
                runs = results[name]
                if runs.why_not:
                    continue
                setting.say(f"drain: {name}, round {turn + 1} of {setting.rounds}")
                place = setting.fresh_folder("drain/turn")
                try:
                    contest(place, runs)
                except NotHereError as reason:
                    if name == OURS:
                        raise
                    runs.why_not = str(reason)
    return _figures(results)


def _figures(results: dict[str, _Runs]) -> list[Figure]:
    ours = results[OURS]
    rate, cpu_us = middle(ours.rates), middle(ours.cpu_us)
    figures = []
    for peer in (PAHO, GATEWAY, BRIDGE):
        runs = results[peer]
        theirs = middle(runs.rates)
        figures.append(Figure("drain", rate, "records/s", peer, theirs, RATE_TARGET, runs.why_not))
    for peer in (PAHO, GATEWAY, BRIDGE):
        theirs = middle(results[peer].cpu_us)
        figures.append(Figure("drain.cpu", cpu_us, "us of CPU a record", peer, theirs, CPU_TARGET))
    return figures


def _ours(filled: Path, place: Path, port: int, runs: _Runs) -> None:
    shutil.copytree(filled, place / "store")
    command = own_child("hil.bench.uplink_child", "--store", place / "store", "--port", port, "--unpaced")
    with Contender(command, folder=place, name="uplink") as uplink:
        done = uplink.ask("drain")
    runs.add(done["records"] / done["wall_s"], done["cpu_s"] / done["records"] * 1e6)


def _paho(place: Path, port: int, count: int, runs: _Runs) -> None:
    command = own_child("hil.bench.peers.plain_paho", port)
    with Contender(command, folder=place, name="plain-paho") as publisher:
        done = publisher.ask("send", count, RECORD_BYTES)
    runs.add(count / done["wall_s"], done["cpu_s"] / count * 1e6)


def _gateway(place: Path, count: int, runs: _Runs) -> None:
    done = drain_gateway(place, count)
    runs.add(done.rate, done.cpu_us)


def _bridge(place: Path, count: int, runs: _Runs) -> None:
    done = run_bridge(place, count, RECORD_BYTES)
    runs.add(done.rate, done.cpu_us)
