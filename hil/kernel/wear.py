"""What a trail costs the card: bytes and flushes that reach the block device for each position record."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hil.kernel.block_replay import run_recorded
from hil.kernel.linux import Linux
from hil.kernel.write_log import Mark, read_write_log

SETTLED = 0.2
"""The share at the start that is left out: making the file is not what a shift costs."""


def measure_wear(
    linux: Linux,
    *,
    duration_s: int = 3600,
    group_commit_s: float = 10,
    disk_options: str = "noatime,lazytime",
) -> dict[str, float]:
    """Drive at 1 Hz through the real outbox on a recorded ext4 disk, in leaping time.

    The file system's own timers run too, so that its journal and write-back are counted as on a vehicle.
    Without `lazytime` ext4 commits its journal for the file's modification time alone, after each group.

    Returns:
        records, bytes_per_record, writes_per_record, flushes_per_record, all counted at the block device.

    Raises:
        RigUnavailable: without the purpose-built kernel.
        GuestFaultError: when the guest did not finish.
    """
    program = [
        "hil.kernel.guest_record",
        "--directory=/run/data/store",
        f"--trail-s={duration_s}",
        f"--group-commit-s={group_commit_s}",
    ]
    with tempfile.TemporaryDirectory(prefix="mdt-wear-") as name:
        log = run_recorded(linux, Path(name), program, time_travel=True, disk_options=disk_options)
        return _count(log, first_record=int(duration_s * SETTLED))


def _count(log: Path, *, first_record: int) -> dict[str, float]:
    records = start = 0
    size = writes = flushes = 0
    for entry in read_write_log(log):
        if isinstance(entry, Mark):
            head, _, number = entry.text.partition(":")
            if head == "TRAIL" and number.isdigit():
                records = int(number)
                if not start and records >= first_record:
                    start = records
                    size = writes = flushes = 0
        else:
            size += len(entry.data)
            writes += bool(entry.data)
            flushes += entry.is_barrier
    counted = max(1, records - start)
    return {
        "records": counted,
        "bytes_per_record": round(size / counted, 1),
        "writes_per_record": round(writes / counted, 3),
        "flushes_per_record": round(flushes / counted, 3),
    }
