"""How long a press takes to the broker's PUBACK while a long backlog drains beside it."""

from __future__ import annotations

from pathlib import Path

from firmware_shims.system_clock import SystemClock
from hil.bench.figure import Figure, Target, middle
from hil.bench.peer_process import Contender, own_child
from hil.bench.rig_broker import mosquitto
from hil.bench.setting import Setting
from hil.bench.trail import fill

WAITING = 1_000_000
PRESSES = 12
SETS_A_ROUND = 3
TARGET = Target(2, at_most=True, of_ratio=True)
PERCENT = 95


def measure(setting: Setting) -> list[Figure]:
    """Two agents on one broker, one with nothing to do; their presses alternate in small sets.

    The backlog goes at the shipped pace. That of the third agent goes as fast as it can.
    """
    folder = setting.fresh_folder("press_under_backlog")
    waiting = setting.count(WAITING, least=2_000)
    setting.say(f"press_under_backlog: {waiting:,} records to fill")
    boot_id = SystemClock().boot_id
    fill(folder / "busy", waiting, boot_id=boot_id)
    fill(folder / "flat_out", waiting, boot_id=boot_id)
    with mosquitto(folder / "broker") as broker:
        with _agent(folder, "idle", broker.port) as idle, _agent(folder, "busy", broker.port) as busy:
            quiet_ms: list[float] = []
            paced_ms: list[float] = []
            left = waiting
            for _ in range(setting.rounds * SETS_A_ROUND):
                quiet_ms += idle.ask("press", PRESSES)["took_ms"]
                answer = busy.ask("press", PRESSES)
                paced_ms += answer["took_ms"]
                left = answer["waiting"]
        with _agent(folder, "flat_out", broker.port, "--unpaced") as flat_out:
            answer = flat_out.ask("press", PRESSES)
            hurried_ms = answer["took_ms"]
    note = f"{left:,} still waited at the end" if left else "the backlog was gone before the end"
    hurried = "with the pace set to no limit" + ("" if answer["waiting"] else "; it was gone before the end")
    name, peer = "press_under_backlog", "nothing waiting"
    return [
        Figure(name, middle(paced_ms), "ms, median", peer, middle(quiet_ms), TARGET, note),
        Figure(f"{name}.p{PERCENT}", _high(paced_ms), f"ms, p{PERCENT}", peer, _high(quiet_ms), TARGET),
        Figure(f"{name}.unpaced", middle(hurried_ms), "ms, median", peer, middle(quiet_ms), note=hurried),
    ]


def _agent(folder: Path, name: str, port: int, *more: str) -> Contender:
    command = own_child("hil.bench.uplink_child", "--store", folder / name, "--port", port, *more)
    return Contender(command, folder=folder, name=f"uplink-{name}")


def _high(values: list[float]) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[-(-len(ordered) * PERCENT // 100) - 1]
