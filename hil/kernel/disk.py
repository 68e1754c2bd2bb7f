"""The machine's disk: an ext4 file system in an image file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hil.kernel.linux import need_tool


def make_disk(path: Path, *, size_mib: int, journal_mib: int = 4, metadata_checksums: bool = False) -> None:
    """Make a sparse image with a fresh ext4, fully initialised so that no write comes later by itself.

    Args:
        path: of the image.
        size_mib: of the file system.
        journal_mib: of its journal.
        metadata_checksums: as mkfs does by itself. docs/install.md says why a vehicle's disk is made without.

    Raises:
        RigUnavailable: when mkfs.ext4 is missing.
    """
    mkfs = need_tool("mkfs.ext4", "e2fsprogs")
    make_blank(path, size_mib=size_mib)
    options = ["-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", f"size={journal_mib}"]
    options += [] if metadata_checksums else ["-O", "^metadata_csum"]
    subprocess.run([mkfs, "-q", "-F", "-b", "4096", *options, path], check=True, capture_output=True)


def make_blank(path: Path, *, size_mib: int) -> None:
    """Make a sparse image of zeros."""
    with path.open("wb") as image:
        image.truncate(size_mib << 20)
