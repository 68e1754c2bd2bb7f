"""Whatever the store holds, the agent starts, says what is wrong, and keeps what is pressed afterwards."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from agent.domain.record import Kind, Opaque, StatusChange, Stream
from agent.hal.buttons import Lamp
from agent.outbox.entry import entry_of
from agent.outbox.fault import STORE_REASONS
from agent.outbox.gaps import gap_of
from agent.outbox.store import Store
from agent.wire.body import unpack_body
from hil.rig import DiskTrouble
from hil.sim.mangle import mangle
from hil.sim.sim_rig import SimRig
from hil.sim.virtual_loop import VirtualLoop

EPOCH_MS = 1_790_000_000_000
OVERRIDES = {
    "store": {"synchronous": "OFF"},
    "device": [
        {"kind": "gnss_serial", "device": "sim-gnss"},
        {"kind": "button_box", "device": "sim-box"},
    ],
}
MANY = {"max_records": 100_000, "max_bytes": 1 << 30}


@pytest.fixture
def stores(tmp_path: Path, scribe: Any) -> list[Path]:
    """A store that was closed, and one as a power cut leaves it, with its newest records in the log."""
    return [make_store(tmp_path / str(crashed), scribe, crashed=crashed) for crashed in (False, True)]


def make_store(folder: Path, scribe: Any, *, crashed: bool) -> Path:
    store = Store(folder / "live", synchronous="OFF")
    store.open("f" * 32)
    for number in range(60):
        store.append([entry_of(scribe.press() if number % 9 else scribe.emergency())])
    store.append([entry_of(draft) for draft in scribe.trail(300)])
    store.confirm({Stream.EVENTS: 30, Stream.TRAIL: 150})
    store.file.checkpoint()
    for _ in range(5):
        store.append([entry_of(scribe.press()), entry_of(scribe.position())])
    if not crashed:
        store.close()
    shutil.copytree(folder / "live", folder / "found")
    store.file.abandon()
    return folder / "found"


def in_simulated_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()


async def start_on(folder: Path, store: Path, rng: random.Random) -> None:
    """Start the whole daemon on a mangled copy of `store`, press, and read everything back."""
    rig = SimRig(folder, unix_ms=EPOCH_MS, overrides=OVERRIDES)
    shutil.copytree(store, rig.store_directory, symlinks=True)
    mangle(rig.store_directory, rng)
    async with rig:
        await rig.boot()
        daemon = rig.daemon
        assert daemon is not None
        assert rig._running is not None
        assert not rig._running.done(), rig._running.exception()
        rig.press("out_of_service")
        rig.release("out_of_service")
        rig.press("en_route")
        await asyncio.sleep(8)
        assert not rig._running.done(), rig._running.exception()
        assert daemon.health.reasons() is not None
        assert not set(daemon.health.reasons()) & set(STORE_REASONS), daemon.health.details()
        assert daemon.status()["crew"]["presses_not_stored"] == 0
        await see_that_the_press_is_stored(daemon)
        assert daemon.status()["crew"]["status"] == "en_route"


async def see_that_the_press_is_stored(daemon: Any) -> None:
    row = await daemon.outbox.latest(Kind.STATUS)
    newest = unpack_body(Kind.STATUS, row.body)
    assert isinstance(newest, StatusChange)
    assert newest.status == "en_route"
    for stream in Stream:
        await see_that_all_is_told(daemon, stream)


async def see_that_all_is_told(daemon: Any, stream: Stream) -> None:
    """Every number is a record that makes sense, or told by a gap."""
    after_seq = 0
    while rows := await daemon.outbox.read(stream, after_seq, **MANY):
        for row in rows:
            assert row.seq == after_seq + 1, f"{stream} {after_seq + 1} was passed over"
            after_seq = gap_of(row).last_seq if row.kind == Kind.GAP else row.seq
            assert not isinstance(unpack_body(row.kind, row.body), Opaque)
    assert after_seq == daemon.outbox.last_seq(stream)


def start_on_many(stores: list[Path], seeds: range) -> None:
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            rng = random.Random(seed)
            try:
                in_simulated_time(partial(start_on, Path(folder), rng.choice(stores), rng))
            except Exception:
                rng = random.Random(seed)
                shutil.copytree(rng.choice(stores), Path(folder) / "again")
                print(f"seed {seed}: {mangle(Path(folder) / 'again', rng)}")
                raise


@pytest.mark.parametrize("trouble", get_args(DiskTrouble))
@pytest.mark.parametrize("damaged", [False, True])
def test_a_disk_that_refuses_at_the_start_is_named_and_presses_are_kept(
    stores: list[Path], tmp_path: Path, trouble: DiskTrouble, *, damaged: bool
) -> None:
    async def start() -> None:
        rig = SimRig(tmp_path / "rig", unix_ms=EPOCH_MS, overrides=OVERRIDES)
        shutil.copytree(stores[0], rig.store_directory)
        if damaged:
            (rig.store_directory / "outbox.db").write_bytes(b"ruin" * 4096)
        rig._trouble = trouble
        async with rig:
            await rig.boot()
            daemon, running = rig.daemon, rig._running
            assert daemon is not None
            assert running is not None
            rig.press("en_route")
            await asyncio.sleep(30)
            assert not running.done(), running.exception()
            if trouble != "unreadable":  # what is opened anew can be read
                assert set(daemon.health.reasons()) & set(STORE_REASONS)
                assert daemon.status()["crew"]["presses_not_stored"] == 1
                assert daemon.status()["crew"]["lamps"]["en_route"] == Lamp.NOT_STORED
            rig.set_disk(None)
            await asyncio.sleep(30)
            assert not set(daemon.health.reasons()) & set(STORE_REASONS), daemon.health.details()
            await see_that_the_press_is_stored(daemon)

    in_simulated_time(start)


PART = 25


@pytest.mark.parametrize("part", range(4))
def test_the_daemon_starts_on_any_store(stores: list[Path], part: int) -> None:
    start_on_many(stores, range(part * PART, (part + 1) * PART))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(8))
def test_the_daemon_starts_on_thousands_of_stores(stores: list[Path], part: int) -> None:
    count = int(os.environ.get("MDT_EXAMPLES", "1000"))
    start_on_many(stores, range(10_000 + part * count, 10_000 + (part + 1) * count))
