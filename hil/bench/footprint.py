"""The daemon as a whole: memory, threads, start and CPU, with a receiver, the demo bus and buttons."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hil.bench.figure import Figure, Target, middle
from hil.bench.gateway import running_gateway
from hil.bench.peer_process import child_environment
from hil.bench.process_cost import cpu_s, memory_mib, proportional_mib, threads
from hil.bench.setting import NotHereError, Setting
from hil.drive.items import TimedItem
from hil.drive.shift import load_shift
from hil.process.process_rig import ProcessRig

RUN_S = 60
WARM_S = 5
STARTS = 5
READY_WITHIN_S = 30.0
PEER = "thingsboard-gateway, idle"
AS_SHIPPED = {
    "store": {"group_commit_s": 10},
    "reporting": {"telemetry_interval_s": 5, "health_interval_s": 60},
    "uplink": {"keepalive_s": 30, "will_delay_s": 15},
}
"""The rig is set quicker than a vehicle."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process takes.

    Attributes:
        rss_mib: resident memory.
        pss_mib: the same with shared pages divided among those who share them.
        threads: how many.
        cpu_percent: of one core.
        start_s: from exec to what it says when it is ready.
    """

    rss_mib: float
    pss_mib: float
    threads: int
    cpu_percent: float
    start_s: float


def measure(setting: Setting) -> list[Figure]:
    """Ours works on its devices; the gateway, connected as well, has nothing to do."""
    folder = setting.fresh_folder("footprint")
    run_s = max(2, round(RUN_S * min(1.0, setting.scale)))
    setting.say(f"footprint: {run_s} s of driving at the speed of life")
    ours = asyncio.run(_ours(folder, run_s, min(STARTS, setting.rounds)))
    theirs, note = None, ""
    try:
        setting.say(f"footprint: {run_s} s of the gateway")
        theirs = _gateway(setting.fresh_folder("footprint/gateway"), run_s)
    except NotHereError as reason:
        note = str(reason)
    rows = (
        ("footprint.rss", "rss_mib", "MiB", 45),
        ("footprint.pss", "pss_mib", "MiB", None),
        ("footprint.threads", "threads", "threads", 6),
        ("footprint.start", "start_s", "s to ready", 0.6),
        ("footprint.cpu", "cpu_percent", "% of a core", 1.5),
    )
    return [
        Figure(
            name,
            getattr(ours, field),
            unit,
            PEER,
            None if theirs is None else getattr(theirs, field),
            None if bound is None else Target(bound, at_most=True),
            note,
        )
        for name, field, unit, bound in rows
    ]


async def _ours(folder: Path, run_s: float, starts: int) -> Footprint:
    async with ProcessRig(folder, overrides=AS_SHIPPED) as rig:
        playing = asyncio.create_task(rig.play(_drive(), speed=1.0), name="bench-drive")
        try:
            started_s = []
            for _ in range(starts):
                process, start_s = await _start(rig, folder)
                started_s.append(start_s)
                if len(started_s) < starts:
                    process.terminate()
                    await process.wait()
            try:
                await asyncio.sleep(min(WARM_S, run_s / 2))
                begun_s, begun_cpu_s = time.perf_counter(), cpu_s(process.pid)
                await asyncio.sleep(run_s)
                busy = (cpu_s(process.pid) - begun_cpu_s) / (time.perf_counter() - begun_s)
                pid = process.pid
                start = middle(started_s) or 0.0
                return Footprint(memory_mib(pid), proportional_mib(pid), threads(pid), busy * 100, start)
            finally:
                process.terminate()
                await process.wait()
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)


def _drive() -> Iterator[TimedItem]:
    """What the demo's devices say; longer than anybody measures."""
    yield from load_shift("boston_demo", 1).items()


async def _start(rig: ProcessRig, folder: Path) -> tuple[asyncio.subprocess.Process, float]:
    """The installed daemon, started as systemd starts it; returns it and the seconds to READY=1."""
    address = folder / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, (folder / "agent.log").open("ab") as log:
        notify.bind(str(address))
        notify.setblocking(False)
        begun_s = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *rig.agent.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=child_environment() | {"NOTIFY_SOCKET": str(address)},
        )
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while b"READY=1" not in await asyncio.get_running_loop().sock_recv(notify, 4096):
                    pass
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise NotHereError(f"the daemon did not get ready: {_tail(folder / 'agent.log')}") from error
        return process, time.perf_counter() - begun_s


def _gateway(folder: Path, run_s: float) -> Footprint:
    begun_s = time.perf_counter()
    with running_gateway(folder) as process:
        ready_s = _until_said(folder / "gateway.log", "Gateway started", begun_s)
        _pause(min(WARM_S, run_s / 2))
        begun_s, begun_cpu_s = time.perf_counter(), cpu_s(process.pid)
        _pause(run_s)
        busy = (cpu_s(process.pid) - begun_cpu_s) / (time.perf_counter() - begun_s)
        pid = process.pid
        return Footprint(memory_mib(pid), proportional_mib(pid), threads(pid), busy * 100, ready_s)


def _until_said(log: Path, words: str, begun_s: float) -> float:
    while time.perf_counter() - begun_s < READY_WITHIN_S:
        if log.exists() and words in log.read_text(encoding="utf-8", errors="replace"):
            return time.perf_counter() - begun_s
        _pause(0.01)
    raise NotHereError(f"the gateway did not get ready: {_tail(log)}")


def _pause(seconds: float) -> None:
    asyncio.run(asyncio.sleep(seconds))


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else os.strerror(0)
