"""How fast trail records become durable in groups."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from agent.domain.record import Draft
from hil.bench.figure import Figure, Target, middle
from hil.bench.opened_outbox import opened_outbox
from hil.bench.peer_process import SCRIPTS, Contender, peer_python
from hil.bench.setting import NotHereError, Setting
from hil.bench.trail import drafts

RECORDS = 20_000
RECORD_BYTES = 48
"""A record of the trail as it lies in our store, body and columns."""
TARGET = Target(50_000)
NOT_DURABLE = "the gateway's are not durable: synchronous=NORMAL, and before that a queue in memory"


def measure(setting: Setting) -> list[Figure]:
    """Records a second from `stage` to the end of `flush`; the peers put as many and commit once."""
    folder = setting.fresh_folder("grouped_put")
    count = setting.count(RECORDS, least=10)
    records = list(drafts(count))
    ours: list[float] = []
    theirs: list[float] = []
    gateway: list[float] = []
    for turn in range(setting.rounds):
        setting.say(f"grouped_put: round {turn + 1} of {setting.rounds}")
        ours.append(count / asyncio.run(_stage(folder / f"outbox-{turn}", records)))
        theirs += _persist_queue(folder, count)
        gateway += _gateway(folder, count, turn)
    value = middle(ours)
    missing = _missing(theirs, "persist-queue")
    return [
        Figure("grouped_put", value, "records/s", "persist-queue", middle(theirs), TARGET, missing),
        Figure(
            "grouped_put",
            value,
            "records/s",
            "thingsboard-gateway's SQLite storage",
            middle(gateway),
            note=_missing(gateway, "thingsboard-gateway") or NOT_DURABLE,
        ),
    ]


async def _stage(folder: Path, records: list[Draft]) -> float:
    async with opened_outbox(folder) as outbox:
        begun_s = time.perf_counter()
        for draft in records:
            outbox.stage(draft)
        await outbox.flush()
        return time.perf_counter() - begun_s


def _persist_queue(folder: Path, count: int) -> list[float]:
    try:
        command = [peer_python("persist-queue"), str(SCRIPTS / "persist_queue_puts.py")]
        with Contender(command, folder=folder, name="persist-queue") as queue:
            return [count / queue.ask("group", count, RECORD_BYTES)["wall_s"]]
    except NotHereError:
        return []


def _gateway(folder: Path, count: int, turn: int) -> list[float]:
    try:
        storage = folder / f"gateway-{turn}"
        command = [peer_python("thingsboard-gateway"), str(SCRIPTS / "thingsboard_storage.py"), str(storage)]
        with Contender(command, folder=folder, name="thingsboard-gateway") as gateway:
            return [count / gateway.ask("fill", count)["wall_s"]]
    except NotHereError:
        return []


def _missing(rates: list[float], package: str) -> str:
    """Why a peer has no figure; asking again is cheap once it is known."""
    if rates:
        return ""
    try:
        peer_python(package)
    except NotHereError as reason:
        return str(reason)
    return f"{package} did not run here"
