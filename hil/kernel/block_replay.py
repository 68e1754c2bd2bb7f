"""A card that loses, reorders and tears what it was not told to flush, and the store that must bear it.

The real outbox works in a real kernel while every write to its disk is recorded, with a mark after each
promise ("press n is stored"). From the record the crash states of the disk are rebuilt: all up to a flush,
plus any part of what came before the next one. Each state is repaired as a boot repairs it (e2fsck replays
ext4's journal), and the real outbox opens what is on it: every press promised by then must be there, once,
unaltered, in order.

No root is needed: the file system is repaired and read as an image (e2fsprogs), never mounted.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent import config
from agent.domain.health import HealthBoard
from agent.domain.record import Kind, Stream
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from firmware_shims.system_clock import SystemClock
from hil.kernel.disk import make_blank, make_disk
from hil.kernel.guest_outbox import position_number, row_content, rows_of
from hil.kernel.linux import Linux, need_tool
from hil.kernel.machine import Hardware, Machine
from hil.kernel.write_log import SECTOR_BYTES, Write, read_write_log

DISK_MIB = 20
LOG_MIB = 512
RECORD_TIMEOUT_S = 120.0
SUPERBLOCK_SECTORS = 8
"""The file system's first block, in which its superblock lies."""
LYING_WRITES = 64
"""How many of the last writes a card may lose that says "flushed" and did not."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A press that was called stored: its number, sequence, checksum, and the positions staged before it."""

    number: int
    seq: int
    crc: int
    positions: int


@dataclass(frozen=True, slots=True)
class Recording:
    """What the disk was told, from its first state on.

    Attributes:
        base: the disk before the first write.
        writes: every write, in order.
        barriers: indices into `writes` of those that carry a flush.
        promises: each with the number of writes that the log held when it was made.
    """

    base: bytes
    writes: tuple[Write, ...]
    barriers: tuple[int, ...]
    promises: tuple[tuple[int, Promise], ...]


def record(linux: Linux, folder: Path, campaign: Campaign) -> Recording:
    """Let the real outbox work on a recorded disk.

    Raises:
        RigUnavailable: when a tool or the kernel's recorder is missing.
        GuestFaultError: when the guest did not finish.
    """
    program = ["hil.kernel.guest_record", "--directory=/run/data/store"]
    program += [f"--{name}={getattr(campaign, name)}" for name in ("synchronous", "seed", "presses")]
    log = run_recorded(linux, folder, program, metadata_checksums=campaign.metadata_checksums)
    writes: list[Write] = []
    promises: list[tuple[int, Promise]] = []
    for entry in read_write_log(log):
        if isinstance(entry, Write):
            writes.append(entry)
        elif entry.text.startswith("ACK:"):
            promises.append((len(writes), Promise(*map(int, entry.text.split(":")[1:]))))
    barriers = tuple(i for i, write in enumerate(writes) if write.is_barrier)
    return Recording((folder / "base.img").read_bytes(), tuple(writes), barriers, tuple(promises))


def run_recorded(
    linux: Linux,
    folder: Path,
    program: Sequence[str],
    *,
    time_travel: bool = False,
    disk_options: str = "noatime",
    metadata_checksums: bool = False,
) -> Path:
    """Run a guest program on a fresh disk and record all its writes. Returns the log, beside base.img."""
    base, disk, log = (folder / name for name in ("base.img", "disk.img", "log.img"))
    make_disk(base, size_mib=DISK_MIB, metadata_checksums=metadata_checksums)
    shutil.copyfile(base, disk)
    make_blank(log, size_mib=LOG_MIB)
    hardware = Hardware(disk=disk, write_log=log, time_travel=time_travel, disk_options=disk_options)
    with Machine(linux, program, hardware) as machine:
        machine.wait_for("DONE", RECORD_TIMEOUT_S)
        machine.wait_for("OFF", RECORD_TIMEOUT_S)
    return log


@dataclass(frozen=True, slots=True)
class CrashState:
    """One state the disk can be in after the power went.

    Attributes:
        durable: all writes before this index are on the medium.
        survivors: (index, sectors) of later writes that made it too; torn where it has more sectors.
        promised: promises that had been made by then.
    """

    durable: int
    survivors: tuple[tuple[int, int], ...]
    promised: int


def choose_states(recording: Recording, count: int, seed: int, *, lying: bool = False) -> list[CrashState]:
    """Random crash states, ascending in time, from the first promise on; and torn superblocks.

    A crash just before a flush completes may find any subset of the writes since the flush before it: each
    kept with a probability drawn for the state, some torn at a sector. With `lying` the card had ignored
    earlier flushes.
    """
    dice = random.Random(seed)
    first = recording.promises[0][0]
    # A promise made at the end of the log stands behind the last barrier.
    ends = [i for i in recording.barriers if i >= first] or [len(recording.writes) - 1]
    made = [position for position, _ in recording.promises]
    states = _torn_superblocks(recording)
    for end in sorted(dice.choice(ends) for _ in range(count)):
        durable = _durable_before(recording, end)
        if lying:
            durable = max(0, durable - LYING_WRITES)
        likely = dice.choice((0.0, 0.1, 0.5, 0.5, 0.9))
        survivors = []
        for index in range(durable, end + 1):
            sectors = len(recording.writes[index].data) // SECTOR_BYTES
            if sectors and dice.random() < likely:
                survivors.append((index, dice.randint(1, sectors) if dice.random() < 0.25 else sectors))
        states.append(CrashState(durable, tuple(survivors), bisect_right(made, end)))
    return sorted(states, key=lambda state: state.durable)


def _torn_superblocks(recording: Recording) -> list[CrashState]:
    """Each write of a superblock, torn after each sector, with all and with none of the writes beside it.

    It is written in place, and rarely: by chance alone its tears would hardly ever be met.
    """
    made = [position for position, _ in recording.promises]
    states = []
    for torn, write in enumerate(recording.writes):
        if torn < made[0] or not write.data or write.sector >= SUPERBLOCK_SECTORS:
            continue
        end = next((barrier for barrier in recording.barriers if barrier >= torn), len(recording.writes) - 1)
        durable = _durable_before(recording, end)
        others = [
            (index, len(recording.writes[index].data) // SECTOR_BYTES)
            for index in range(durable, end + 1)
            if index != torn and recording.writes[index].data
        ]
        for sectors in range(1, len(write.data) // SECTOR_BYTES):
            for beside in ([], others):
                survivors = tuple(sorted([(torn, sectors), *beside]))
                states.append(CrashState(durable, survivors, bisect_right(made, end)))
    return states


def _durable_before(recording: Recording, end: int) -> int:
    """How many writes were on the medium before the flush at `end` began."""
    before = bisect_right(recording.barriers, end - 1)
    return recording.barriers[before - 1] + 1 if before else 0


@dataclass(slots=True)
class Verdict:
    """What was found in a number of crash states."""

    states: int = 0
    lossy_states: int = 0
    presses_lost: int = 0
    positions_lost: int = 0
    altered: int = 0
    not_opened: int = 0
    full_repairs: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """True when every promise held in every state."""
        return not self.faults


@dataclass(slots=True)
class Replayer:
    """Rebuilds and judges ascending crash states in a folder of its own. Not thread-safe."""

    recording: Recording
    folder: Path
    verdict: Verdict = field(default_factory=Verdict)

    def replay(self, states: Sequence[CrashState]) -> Verdict:
        """Judge each state. They must be ascending in `durable`."""
        medium = bytearray(self.recording.base)
        applied = 0
        for state in states:
            for write in self.recording.writes[applied : state.durable]:
                _put(medium, write, len(write.data))
            applied = max(applied, state.durable)
            image = self.folder / "state.img"
            with image.open("wb") as file:
                file.write(medium)
                for index, sectors in state.survivors:
                    write = self.recording.writes[index]
                    file.seek(write.sector * SECTOR_BYTES)
                    file.write(write.data[: sectors * SECTOR_BYTES])
            self._judge(image, state)
        return self.verdict

    def _judge(self, image: Path, state: CrashState) -> None:
        self.verdict.states += 1
        where = f"after write {state.durable} and {len(state.survivors)} more"
        self._repair(image)
        contents = self.folder / "contents"
        shutil.rmtree(contents, ignore_errors=True)
        contents.mkdir()
        command = [need_tool("debugfs", "e2fsprogs"), "-R", f"rdump /store {contents}", str(image)]
        subprocess.run(command, check=True, capture_output=True)
        promises = [promise for _, promise in self.recording.promises[: state.promised]]
        try:
            faults = asyncio.run(_audit(contents / "store", promises, self.verdict))
        except Exception as error:  # noqa: BLE001 - whatever keeps the store from opening is the finding
            self.verdict.not_opened += 1
            faults = [f"the store did not open by itself: {error!r}"]
        self.verdict.faults += [f"{where}: {fault}" for fault in faults]

    def _repair(self, image: Path) -> None:
        check = need_tool("e2fsck", "e2fsprogs")
        if subprocess.run([check, "-p", image], check=False, capture_output=True).returncode >= 4:
            # What `fsck.repair=yes`, the default of Raspberry Pi OS, does then.
            self.verdict.full_repairs += 1
            subprocess.run([check, "-f", "-y", image], check=False, capture_output=True)


def _put(medium: bytearray, write: Write, size: int) -> None:
    offset = write.sector * SECTOR_BYTES
    medium[offset : offset + size] = write.data[:size]


async def _audit(directory: Path, promises: Sequence[Promise], verdict: Verdict) -> list[str]:
    """Open the store that was found, as a boot does, and compare it with the promises."""
    worker = ThreadWorker()
    outbox = Outbox(config.Store(directory=directory), SystemClock(), worker, HealthBoard())
    try:
        await outbox.open()
        found = [(row.seq, *row_content(row)) async for row in rows_of(outbox, Stream.EVENTS, 0)]
        trail = [
            position_number(row)[1]
            async for row in rows_of(outbox, Stream.TRAIL, 0)
            if row.kind == Kind.POSITION
        ]
    finally:
        await outbox.close()
        await worker.close()  # an outbox that did not open may not have come to that
    return _compare(found, trail, promises, verdict)


def _compare(
    found: list[tuple[int, object, int]], trail: list[int], promises: Sequence[Promise], verdict: Verdict
) -> list[str]:
    faults = []
    if [seq for seq, _, _ in found] != list(range(1, len(found) + 1)):
        faults.append("the sequence has holes")
    numbers = [number for _, number, _ in found]
    if numbers != list(range(1, len(found) + 1)):
        verdict.altered += 1
        faults.append("presses are repeated, out of order, or stand beside a repair's own records")
    by_number = {number: (seq, crc) for seq, number, crc in found}
    lost = [promise for promise in promises if promise.number not in by_number]
    if lost:
        verdict.lossy_states += 1
        verdict.presses_lost += len(lost)
        faults.append(f"{len(lost)} of {len(promises)} stored presses are lost")
    altered = [p for p in promises if by_number.get(p.number, (p.seq, p.crc)) != (p.seq, p.crc)]
    if altered:
        verdict.altered += len(altered)
        faults.append(f"{len(altered)} presses are altered")
    missing = max((p.positions for p in promises), default=0) - max(trail, default=0)
    if missing > 0 or trail != list(range(1, len(trail) + 1)):
        verdict.positions_lost += max(missing, 0)
        faults.append(f"{missing} positions lost that a press had committed, or the trail has holes")
    return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """How much is replayed.

    Attributes:
        synchronous: the store's mode; anything but FULL must be found to lose.
        lying: the card says "flushed" and did not: no store survives that, and it must be seen.
        metadata_checksums: of the file system; with them a torn superblock must be found to lose all.
    """

    synchronous: str = "FULL"
    presses: int = 150
    states: int = 500
    seed: int = 1
    jobs: int = 2
    lying: bool = False
    metadata_checksums: bool = False


def replay_campaign(linux: Linux, campaign: Campaign) -> dict[str, object]:
    """Record once, replay many crash states. Returns the report.

    Raises:
        RigUnavailable: when a tool is missing.
        GuestFaultError: when the recording failed.
    """
    started = time.monotonic()
    # The states are short-lived and rewritten all the time: memory spares the disk.
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    parent = memory if memory.is_dir() and shutil.disk_usage(memory).free > 1 << 30 else None
    with tempfile.TemporaryDirectory(prefix="mdt-block-replay-", dir=parent) as name:
        folder = Path(name)
        recording = record(linux, folder, campaign)
        recorded_s = time.monotonic() - started
        states = choose_states(recording, campaign.states, campaign.seed, lying=campaign.lying)
        verdict = _merge(_replay_in_lanes(recording, states, folder, campaign.jobs))
    return {
        **asdict(campaign),
        **{name: value for name, value in asdict(verdict).items() if name != "states"},
        "states_judged": verdict.states,
        "writes": len(recording.writes),
        "flushes": len(recording.barriers),
        "recorded_s": round(recorded_s, 1),
        "wall_s": round(time.monotonic() - started, 1),
    }


def _replay_in_lanes(
    recording: Recording, states: Sequence[CrashState], folder: Path, jobs: int
) -> Iterator[Verdict]:
    share = -(-len(states) // max(1, jobs))
    parts = [states[start : start + share] for start in range(0, len(states), share)]
    replayers = []
    for number in range(len(parts)):
        (folder / str(number)).mkdir()
        replayers.append(Replayer(recording, folder / str(number)))
    with ThreadPoolExecutor(len(parts)) as pool:
        yield from pool.map(Replayer.replay, replayers, parts)


def _merge(verdicts: Iterator[Verdict]) -> Verdict:
    total = Verdict()
    for verdict in verdicts:
        for name, value in asdict(verdict).items():
            setattr(total, name, getattr(total, name) + value)
    return total
