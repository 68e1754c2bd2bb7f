"""Runs in the machine: what a power cut takes. One file is flushed, one is not; then it waits for the cut.

At the next boot it says which of the two are there: `FOUND flushed unflushed`, each as its number of bytes.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from hil.kernel.console import say

DATA = Path("/run/data")
SIZE_BYTES = 5000


def main() -> None:
    """Entry point."""
    flushed, unflushed = DATA / "flushed", DATA / "unflushed"
    say("FOUND", *(path.stat().st_size if path.exists() else "nothing" for path in (flushed, unflushed)))
    with flushed.open("wb") as file:
        file.write(b"x" * SIZE_BYTES)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(DATA, os.O_RDONLY)
    os.fsync(folder)
    with unflushed.open("wb") as file:
        file.write(b"x" * SIZE_BYTES)
    say("WRITTEN")
    signal.pause()


if __name__ == "__main__":
    main()
