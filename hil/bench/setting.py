"""Where and how large a run of the benchmarks is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class NotHereError(Exception):
    """Something can not be measured on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What each benchmark is given.

    Attributes:
        folder: on the disk that is measured; a benchmark may leave files, they go with the folder.
        scale: factor on the numbers of records; 1 for the figures of docs/benchmarks.md.
        rounds: how often each contender has its turn.
        say: tells a person what is going on.
    """

    folder: Path
    scale: float
    rounds: int
    say: Callable[[str], None]

    def count(self, full: int, *, least: int = 1) -> int:
        """A number of records at this scale."""
        return max(least, round(full * self.scale))

    def fresh_folder(self, name: str) -> Path:
        """An empty folder of that name."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path
