"""The guest's voice: lines on the machine's console that the host reads as messages."""

from __future__ import annotations

import os


def say(*words: object) -> None:
    """Tell the host: one line, unbuffered, so that it has left the machine when this returns."""
    os.write(1, ("@" + " ".join(str(word) for word in words) + "\n").encode())
