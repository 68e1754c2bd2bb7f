"""Where recordings go: a rotating set within a byte budget, or one file."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from agent.recorder.recording_file import RecordingFile

MIB = 1024 * 1024
RESERVE_MIB = 64
"""Free space that is left to the outbox: presses go before the black box."""


class RecordingFiles(Protocol):
    """Gives files to write to. Called on the recorder's worker."""

    def create(self, metadata: Mapping[str, str]) -> RecordingFile:
        """An open new file. Raises OSError."""
        ...

    def is_full(self, size_bytes: int) -> bool:
        """Whether a file of this size is to be ended and another begun."""
        ...

    def check_room(self) -> None:
        """Raises OSError when the disk is too full to go on."""
        ...


class RotatingFiles:
    """The black box: numbered files in a folder; the oldest goes when the budget is reached.

    The number and not a date orders them: at boot the clock is often wrong.
    """

    def __init__(
        self, folder: Path, *, budget_bytes: int, file_bytes: int, reserve_bytes: int = RESERVE_MIB * MIB
    ) -> None:
        self._folder = folder
        self._budget_bytes = budget_bytes
        self._file_bytes = min(file_bytes, budget_bytes)
        self._reserve_bytes = reserve_bytes

    def __str__(self) -> str:
        return str(self._folder)

    def create(self, metadata: Mapping[str, str]) -> RecordingFile:
        """See RecordingFiles."""
        self._folder.mkdir(parents=True, exist_ok=True)
        files = self._files()
        number = int(files[-1].name.partition("-")[0]) + 1 if files else 1
        self._make_room(files)
        boot = metadata.get("boot_id", "")[:8] or "unknown"
        file = RecordingFile(self._folder / f"{number:08d}-{boot}.mcap", metadata)
        file.open()
        return file

    def is_full(self, size_bytes: int) -> bool:
        """See RecordingFiles."""
        return size_bytes >= self._file_bytes

    def check_room(self) -> None:
        """See RecordingFiles."""
        if shutil.disk_usage(self._folder).free < self._reserve_bytes:
            raise OSError(errno.ENOSPC, "the rest of the disk is left to the outbox")

    def _make_room(self, files: list[Path]) -> None:
        """Remove the oldest files until one more fits into the budget and onto the disk."""
        sizes = {path: path.stat().st_size for path in files}
        while files:
            over = sum(sizes[path] for path in files) + self._file_bytes > self._budget_bytes
            tight = shutil.disk_usage(self._folder).free < self._reserve_bytes + self._file_bytes
            if not over and not tight:
                return
            files.pop(0).unlink(missing_ok=True)
        self.check_room()

    def _files(self) -> list[Path]:
        """Own files, oldest first; whatever else lies in the folder is left alone."""
        return sorted(
            path for path in self._folder.glob("*-*.mcap") if path.name.partition("-")[0].isdecimal()
        )


class OneFile:
    """A recording that a person asked for: one file, as long as it is."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def create(self, metadata: Mapping[str, str]) -> RecordingFile:
        """See RecordingFiles. Raises FileExistsError rather than overwrite."""
        file = RecordingFile(self._path, metadata)
        file.open()
        return file

    def is_full(self, size_bytes: int) -> bool:  # noqa: ARG002 - of the protocol
        """Never."""
        return False

    def check_room(self) -> None:
        """See RecordingFiles: the person may fill the disk."""
