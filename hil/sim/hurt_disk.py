"""A disk that refuses or gives nothing back, made of what the operating system really refuses."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from agent.runtime.worker import Done
from hil.rig import DiskTrouble
from hil.sim.inline_worker import InlineWorker

T = TypeVar("T")

_NOBODY = 65_534


class HurtWorker(InlineWorker):
    """An inline worker on a disk that can be hurt.

    While there is trouble, each piece of work runs under limits of the operating system, so that SQLite and
    the agent meet real refusals: a file-size limit of 0 fails every write to an open file; a limit of 0 on
    open files, or another user's rights on the folder, fail the probe in its own way. For a disk that gives
    nothing back, the descriptors through which SQLite has the store open are, for as long, such as were
    opened for writing only. All this holds for the whole process, but only while the work runs, and nothing
    else runs then.

    Attributes:
        trouble: what the disk says to writes, or to reads.
        dead: the computer has no power. Its folder was copied for the next boot, so what a daemon still does
            there reaches nothing, and it can close what it opened.

    Args:
        folder: of the store.
    """

    def __init__(self, folder: Path) -> None:
        self.trouble: DiskTrouble | None = None
        self.dead = False
        self._folder = folder

    def submit(self, work: Callable[[], T], done: Done, *, urgent: bool = False) -> None:
        """Do `work` now."""
        trouble = None if self.dead else self.trouble
        with contextlib.nullcontext() if trouble is None else _refusing(trouble, self._folder):
            super().submit(work, done, urgent=urgent)


@contextmanager
def _refusing(trouble: DiskTrouble, folder: Path) -> Iterator[None]:
    if trouble == "unreadable":
        with _write_only(folder):
            yield
        return
    with _limit(resource.RLIMIT_FSIZE):
        if trouble == "full":
            yield
        elif trouble == "io_error":
            with _limit(resource.RLIMIT_NOFILE):
                yield
        else:
            with _write_protected(folder):
                yield


@contextmanager
def _limit(which: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


@contextmanager
def _write_only(folder: Path) -> Iterator[None]:
    """Let every read through a descriptor that is open on the store fail; new descriptors are sound."""
    kept: list[tuple[int, int]] = []
    for link in Path("/proc/self/fd").iterdir():
        descriptor = int(link.name)
        with contextlib.suppress(OSError):
            path = link.readlink()
            if path.parent == folder and path.name.startswith("outbox.db") and path.exists():
                kept.append((descriptor, os.dup(descriptor)))
                blind = os.open(path, os.O_WRONLY)
                os.dup2(blind, descriptor)
                os.close(blind)
    try:
        yield
    finally:
        for descriptor, sound in kept:
            # What SQLite closed meanwhile may be another file by now.
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(descriptor), os.fstat(sound)):
                    os.dup2(sound, descriptor)
            os.close(sound)


@contextmanager
def _write_protected(folder: Path) -> Iterator[None]:
    mode = folder.stat().st_mode & 0o7777
    folder.chmod(mode & ~0o222)
    root = os.geteuid() == 0
    if root:
        os.seteuid(_NOBODY)  # root writes to folders whatever their rights say
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(mode)
