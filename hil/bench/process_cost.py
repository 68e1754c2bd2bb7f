"""What a process takes, as Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KIB_PER_MIB = 1024


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads so far."""
    # The name, in parentheses, may contain spaces.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def memory_mib(pid: int, field: str = "VmRSS") -> float:
    """Memory in MiB: VmRSS resident now, VmHWM at its highest."""
    return _kib(Path(f"/proc/{pid}/status"), field) / KIB_PER_MIB


def proportional_mib(pid: int) -> float:
    """PSS in MiB: pages shared with other processes are divided among them."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss") / KIB_PER_MIB


def threads(pid: int) -> int:
    """Number of threads."""
    return _kib(Path(f"/proc/{pid}/status"), "Threads")


def _kib(path: Path, field: str) -> int:
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise KeyError(f"{path} has no {field}")
