"""Writing a small file so that a power cut leaves the old one or the new one, and never a part."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, raw: bytes, mode: int = 0o600) -> None:
    """Put `raw` into `file`, on the disk when this returns. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(file.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        os.fchmod(descriptor, mode)  # whatever the umask
        opened.write(raw)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
