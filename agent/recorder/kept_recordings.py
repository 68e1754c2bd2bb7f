"""The folder of recordings that are kept: numbered files which the black box never rotates away."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.recorder.recording_file import RecordingFile
from agent.recorder.recording_format import KEPT_TOPIC, METADATA_NAME, unpack_json

UNTOLD = ".untold"
"""Behind a file's name until the journal has its final record; after a power cut it is told then."""
RESERVE_BYTES = 16 * 1024 * 1024
"""Free space that is left to the outbox."""
_BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A recording as it lies on the disk.

    Attributes:
        id: by which it is fetched.
        size_bytes: of the file.
        sha256: of the file, hexadecimal.
        complete: whether it reaches its own end.
        boot_id: of the boot in which it was made; empty when that can not be read.
        trigger: what for; empty likewise.
    """

    id: str
    size_bytes: int
    sha256: str
    complete: bool
    boot_id: str
    trigger: str


class KeptRecordings:
    """Numbered recordings, of which the newest `most` are kept. Used on one worker.

    Args:
        folder: where; made when it is needed.
        most: how many.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self._most = most

    def __str__(self) -> str:
        return str(self.folder)

    def create(self, metadata: Mapping[str, str]) -> RecordingFile:
        """A new file, open and on the disk, in the place of the oldest. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files = self._files()
        for gone in files[: max(0, len(files) - self._most + 1)]:
            gone.unlink(missing_ok=True)
        if shutil.disk_usage(self.folder).free < RESERVE_BYTES:
            raise OSError(errno.ENOSPC, "the rest of the disk is left to the outbox")
        number = _number(files[-1]) + 1 if files else 1
        boot = metadata.get("boot_id", "")[:8] or "unknown"
        file = RecordingFile(self.folder / f"{number:06d}-{boot}.mcap{UNTOLD}", metadata)
        file.open()
        return file

    def told(self, recording: str) -> None:
        """The journal has the final record of a recording. Raises OSError."""
        untold = self.folder / f"{recording}.mcap{UNTOLD}"
        if untold.exists():
            untold.replace(self.folder / f"{recording}.mcap")
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def prepare(self) -> list[str]:
        """Load what writing needs, so that nothing has to be loaded after an impact; what `untold` gives."""
        import mcap.writer  # noqa: F401  # loaded for what comes

        return self.untold()

    def untold(self) -> list[str]:
        """Ids of the recordings whose final record the journal may not have, oldest first."""
        return [_id(path) for path in self._files() if path.name.endswith(UNTOLD)]

    def listing(self) -> list[str]:
        """Ids of all, oldest first."""
        return [_id(path) for path in self._files()]

    def path_of(self, recording: str) -> Path | None:
        """The file of an id; None when there is none, or no more."""
        return next((path for path in self._files() if _id(path) == recording), None)

    def look_at(self, recording: str) -> KeptFile:
        """Read a recording through. Raises OSError."""
        path = self.path_of(recording)
        if path is None:
            raise FileNotFoundError(errno.ENOENT, f"no recording {recording}")
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
        metadata, complete = _contents(path)
        return KeptFile(
            id=recording,
            size_bytes=path.stat().st_size,
            sha256=digest.hexdigest(),
            complete=complete,
            boot_id=metadata.get("boot_id", ""),
            trigger=metadata.get("trigger", ""),
        )

    def _files(self) -> list[Path]:
        """Own files, oldest first; whatever else lies in the folder is left alone."""
        found = [*self.folder.glob("*-*.mcap"), *self.folder.glob(f"*-*.mcap{UNTOLD}")]
        return sorted((path for path in found if _number(path) > 0), key=_number)


def _number(path: Path) -> int:
    digits = path.name.partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdecimal() else 0


def _id(path: Path) -> str:
    return path.name.partition(".")[0]


def _contents(path: Path) -> tuple[Mapping[str, str], bool]:
    """What a file says of itself, and whether it was written to its end."""
    from mcap.records import Channel, Message, Metadata

    metadata: Mapping[str, str] = {}
    complete = False
    topics: dict[int, str] = {}
    for record in _records(path):
        if isinstance(record, Metadata) and record.name == METADATA_NAME:
            metadata = record.metadata
        elif isinstance(record, Channel):
            topics[record.id] = record.topic
        elif isinstance(record, Message) and topics.get(record.channel_id) == KEPT_TOPIC:
            with suppress(ValueError):
                complete = unpack_json(record.data).get("end") is True or complete
    return metadata, complete


def _records(path: Path) -> Iterator[Any]:
    from agent.recorder.mcap_records import DamagedError, read_records

    with path.open("rb") as stream:
        try:
            yield from read_records(stream, path.stat().st_size)
        except DamagedError:
            return
