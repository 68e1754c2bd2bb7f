"""The peer that forwards without a line of Python: mosquitto on the vehicle, as a bridge to the next one."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hil.bench.peer_process import Contender, own_child
from hil.bench.process_cost import cpu_s, memory_mib
from hil.bench.rig_broker import mosquitto
from hil.bench.setting import NotHereError
from hil.broker_process import BrokerOptions, Mosquitto

FILLED_WITHIN_S = 900
DRAINED_WITHIN_S = 600
_WINDOW = 100


@dataclass(frozen=True, slots=True)
class BridgeRun:
    """What the bridge took.

    Attributes:
        rate: records a second, from the first that arrived to the last.
        cpu_us: microseconds of CPU a record.
        peak_mib: its memory at its highest.
    """

    rate: float
    cpu_us: float
    peak_mib: float


def run_bridge(folder: Path, count: int, record_bytes: int) -> BridgeRun:
    """Queue records in a bridge whose remote is away, a record a message; then let the remote come.

    Raises NotHereError.
    """
    subscriber = shutil.which("mosquitto_sub")
    if subscriber is None:
        raise NotHereError("mosquitto_sub is missing (apt-get install mosquitto-clients)")
    remote = mosquitto(folder / "remote", BrokerOptions(persistence=False))
    remote.start()
    remote.stop()  # its port is known now, and refused
    lines = [
        "connection up", f"address {remote.host}:{remote.port}", "topic # out 1", "restart_timeout 1 1",
        "try_private false", "notifications false", f"max_inflight_messages {_WINDOW}",
    ]  # fmt: skip
    local = mosquitto(folder / "local", BrokerOptions(persistence=False, extra_lines=lines))
    with local:
        command = own_child("hil.bench.peers.plain_paho", local.port)
        with Contender(command, folder=folder, name="fill") as publisher:
            publisher.ask("send", count, record_bytes, within_s=FILLED_WITHIN_S)
        try:
            return _drain(local, remote, subscriber, folder / "arrived", count)
        finally:
            remote.stop()


def _drain(local: Mosquitto, remote: Mosquitto, subscriber: str, arrived: Path, count: int) -> BridgeRun:
    pid = local.pid
    assert pid is not None
    begun_cpu_s = cpu_s(pid)
    remote.start()
    # The C client is quick enough not to be what is measured; it stamps what arrives.
    command = [
        subscriber, "-p", str(remote.port), "-t", "#", "-C", str(count),
        "-W", str(DRAINED_WITHIN_S), "-F", "%U",
    ]  # fmt: skip
    with arrived.open("wb") as output:
        listening = subprocess.Popen(command, stdout=output)
        try:
            listening.wait(DRAINED_WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise NotHereError("the bridge did not deliver in time") from error
        finally:
            listening.kill()
            listening.wait()
    stamps = arrived.read_text(encoding="ascii").split()
    if len(stamps) < count // 2:
        raise NotHereError(f"the bridge delivered {len(stamps)} of {count}")
    _settle(pid)
    took_s = float(stamps[-1]) - float(stamps[0])
    return BridgeRun(len(stamps) / took_s, (cpu_s(pid) - begun_cpu_s) / count * 1e6, memory_mib(pid, "VmHWM"))


def _settle(pid: int) -> None:
    """Wait until the last acknowledgements are in: its CPU time stands still."""
    before, deadline = -1.0, time.monotonic() + 5
    while before != (now := cpu_s(pid)) and time.monotonic() < deadline:
        before = now
        subprocess.run(["sleep", "0.1"], check=True)
