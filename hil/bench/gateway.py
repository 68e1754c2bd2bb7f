"""The peer thingsboard-gateway, whole, as its users run it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hil.bench.peer_process import SCRIPTS, Contender, child_environment, own_child, peer_python
from hil.bench.process_cost import cpu_s
from hil.bench.rig_broker import mosquitto
from hil.bench.setting import NotHereError

PACKAGE = "thingsboard-gateway"
STARTS_WITHIN_S = 60
DRAINED_WITHIN_S = 300
POLL_S = 0.02
READ_AS_SHIPPED, READ_AT_ONCE = 100, 1000
"""Records it reads, sends and removes at once."""

CONNECTOR = {
    "name": "idle",
    "logLevel": "ERROR",
    "socket": {"type": "TCP", "address": "127.0.0.1", "port": 0, "bufferSize": 1024},
    "devices": [],
}
"""One that nobody talks to: without any the gateway waits for its server to configure it."""


@dataclass(frozen=True, slots=True)
class GatewayRun:
    """What a drain took: records a second, microseconds of CPU a record."""

    rate: float
    cpu_us: float


@contextlib.contextmanager
def _gateways_broker(folder: Path) -> Iterator[int]:
    """A broker with somebody behind it who answers what the gateway asks at first; yields its port."""
    with mosquitto(folder / "broker") as broker:
        command = own_child("hil.bench.peers.thingsboard_server", broker.port)
        with Contender(command, folder=folder, name="server"):
            yield broker.port


@contextlib.contextmanager
def running_gateway(folder: Path, *, hurried: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """The gateway, connected to a broker on loopback; its storage is SQLite in `folder`/storage.

    Args:
        folder: its settings, logs and storage.
        hurried: take out its pauses and read ten times as much at once: the best it can do in a drain.

    Raises NotHereError.
    """
    with _gateways_broker(folder) as port:
        process = _start(folder, port, hurried=hurried)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _start(folder: Path, port: int, *, hurried: bool) -> subprocess.Popen[bytes]:
    python = peer_python(PACKAGE)
    settings = folder / "settings"
    settings.mkdir(exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    shipped = next(Path(python).parents[1].glob("lib/python3*/site-packages/thingsboard_gateway/config"))
    shutil.copy(shipped / "logs.json", settings / "logs.json")
    (settings / "connected_devices.json").write_text("{}", encoding="utf-8")
    (settings / "idle.json").write_text(json.dumps(CONNECTOR), encoding="utf-8")
    table = _settings(folder / "storage", port, hurried=hurried)
    (settings / "tb_gateway.json").write_text(json.dumps(table), encoding="utf-8")
    with (folder / "gateway.log").open("wb") as log:
        return subprocess.Popen(
            [python, "-m", "thingsboard_gateway.tb_gateway"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=child_environment() | {"TB_GW_CONFIG_DIR": str(settings)},
        )


def drain_gateway(folder: Path, count: int) -> GatewayRun:
    """Fill its storage, let it drain to the broker, a pack at a time. Raises NotHereError."""
    storage = folder / "storage"
    command = [peer_python(PACKAGE), str(SCRIPTS / "thingsboard_storage.py"), str(storage)]
    with Contender(command, folder=folder, name="fill") as filling:
        filling.ask("fill", count)
    with running_gateway(folder, hurried=True) as process:
        # The clock starts with the first pack that is done, so that its start-up is not counted.
        left = _wait(process, storage, below=count, within_s=STARTS_WITHIN_S)
        begun_s, begun_cpu_s = time.perf_counter(), cpu_s(process.pid)
        _wait(process, storage, below=1, within_s=DRAINED_WITHIN_S)
        took_s, took_cpu_s = time.perf_counter() - begun_s, cpu_s(process.pid) - begun_cpu_s
    if left < count // 2:
        raise NotHereError(f"{PACKAGE} drained too quickly to be measured; take a larger --scale")
    return GatewayRun(left / took_s, took_cpu_s / left * 1e6)


def _wait(process: subprocess.Popen[bytes], storage: Path, *, below: int, within_s: float) -> int:
    """Wait until fewer than `below` records are stored; returns how many."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    with contextlib.closing(sqlite3.connect(f"file:{storage}/data.db?mode=ro", uri=True)) as reader:
        while time.monotonic() < deadline and process.poll() is None:
            first, last = reader.execute("SELECT min(id), max(id) FROM messages").fetchone()
            left = 0 if first is None else last - first + 1
            if left < below:
                return int(left)
            pause.wait(POLL_S)
    raise NotHereError(f"{PACKAGE} did not drain its storage here")


def _settings(storage: Path, port: int, *, hurried: bool) -> dict[str, object]:
    unlimited = "0:0,"
    limits = ("rateLimits", "dpRateLimits", "messagesRateLimits", "deviceMessagesRateLimits")
    return {
        "thingsboard": {
            "host": "127.0.0.1",
            "port": port,
            "remoteShell": False,
            "remoteConfiguration": False,
            "statistics": {"enable": False},
            "minPackSendDelayMS": 0 if hurried else 50,
            "maxPayloadSizeBytes": 65_536,
            "security": {"type": "accessToken", "accessToken": "bench"},
            "qos": 1,
            **dict.fromkeys((*limits, "deviceRateLimits", "deviceDpRateLimits"), unlimited),
        },
        "storage": {
            "type": "sqlite",
            "data_file_path": f"{storage}/",
            "max_read_records_count": READ_AT_ONCE if hurried else READ_AS_SHIPPED,
        },
        "grpc": {"enabled": False},
        "connectors": [{"name": "idle", "type": "socket", "configuration": "idle.json"}],
    }
