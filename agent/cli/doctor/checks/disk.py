"""Is there room on the data disk, may it be written to, and is it mounted as docs/install.md asks?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.cli.doctor.finding import Finding, Patient, Say

LEAST_FREE = 0.1
_MIB = 1024 * 1024
_FILE_SYSTEMS = ("ext4", "f2fs", "btrfs", "xfs")


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    folder = patient.known.store.directory
    existing = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        if patient.status is None or not isinstance(error, PermissionError):
            yield say.bad(
                str(folder), f"can not be written to: {error.strerror}", "is it mounted, and the user mdt's?"
            )
        else:
            yield say.unknown(
                str(folder), "not for this user to look at", "run this with sudo, or ask the agent"
            )
    else:
        yield say.good(str(folder), "can be written to")
    room = os.statvfs(existing)
    free_mib, share = room.f_bavail * room.f_frsize / _MIB, room.f_bavail / max(room.f_blocks, 1)
    needed_mib = patient.known.store.budget_mib + patient.known.store.replay_budget_mib
    if share < LEAST_FREE or free_mib < needed_mib:
        yield say.bad(
            "room", f"{free_mib:.0f} MiB are free, {share:.0%}; the store may take {needed_mib} MiB",
            "free some, or lower [store] budget_mib",
        )  # fmt: skip
    else:
        yield say.good("room", f"{free_mib:.0f} MiB are free, {share:.0%}")
    yield from _mount(existing, patient.root, say)


def _mount(folder: Path, root: Path, say: Say) -> Iterator[Finding]:
    found = mount_of(folder, (root / "proc/self/mounts").read_text(encoding="utf-8"))
    if found is None:
        yield say.unknown("mount", "where it is mounted is not known", "no harm")
        return
    point, kind, options = found
    if "ro" in options:
        yield say.bad(
            "mount",
            f"{point} is mounted read-only",
            "after an error? dmesg tells; then check the file system",
        )
    missing = [option for option in ("noatime", "lazytime") if option not in options]
    if kind not in _FILE_SYSTEMS:
        yield say.unknown("mount", f"{point} is a {kind}", "the store was tried on ext4 only")
    elif missing:
        yield say.bad(
            "mount", f"{point} is mounted without {' and '.join(missing)}: the card wears out twice as fast",
            "add them in /etc/fstab: defaults,noatime,lazytime",
        )  # fmt: skip
    else:
        yield say.good("mount", f"{point} is {kind} with noatime and lazytime")


def mount_of(folder: Path, mounts: str) -> tuple[str, str, list[str]] | None:
    """(mount point, file system, options) that a folder lies on, from the text of /proc/self/mounts."""
    best: tuple[str, str, list[str]] | None = None
    path = folder.resolve()
    for line in mounts.splitlines():
        fields = line.split(" ")
        point = fields[1].replace("\\040", " ")
        if path.is_relative_to(point) and (best is None or len(point) >= len(best[0])):
            best = (point, fields[2], fields[3].split(","))
    return best
