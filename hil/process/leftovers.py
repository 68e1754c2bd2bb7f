"""Agents that an earlier run of the harness left behind: they take what a newer run's devices say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PTY = "/dev/pts/"


@dataclass(frozen=True, slots=True)
class Leftover:
    """An agent whose harness is gone.

    Attributes:
        pid: its process id.
        config: its configuration file, which may be gone, too.
        devices: the pseudo-terminals it opens whenever they are there, whoever made them.
    """

    pid: int
    config: Path
    devices: tuple[str, ...]

    def __str__(self) -> str:
        where = ", ".join(self.devices) or "pseudo-terminals of a configuration that is gone"
        return f"process {self.pid}: mdt run --config {self.config} (opens {where})"


def leftover_agents(proc: Path = Path("/proc")) -> list[Leftover]:
    """Agents that nobody looks after and that would open a pseudo-terminal by its number.

    A pseudo-terminal is numbered anew as soon as it is free. An agent that was left behind opens it when
    it belongs to another run, and eats what that run's receiver and buttons say.
    """
    return list(_leftovers(proc))


def _leftovers(proc: Path) -> Iterator[Leftover]:
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            config = _config_of((folder / "cmdline").read_bytes())
            orphan = _parent_of((folder / "stat").read_text(encoding="ascii", errors="replace")) == 1
        except OSError:
            continue  # it has just ended, or is another user's
        if config is None or not orphan:
            continue
        devices = _pseudo_terminals(config)
        if devices is None or devices:
            yield Leftover(int(folder.name), config, devices or ())


def _config_of(command_line: bytes) -> Path | None:
    words = command_line.decode(errors="replace").split("\0")
    for at, word in enumerate(words[:-1]):
        if word.rpartition("/")[2] == "mdt" and words[at + 1] == "run" and "--config" in words[at:-1]:
            return Path(words[words.index("--config", at) + 1])
    return None


def _parent_of(stat: str) -> int:
    """Field 4; the name before it is in brackets and may hold anything."""
    return int(stat.rpartition(")")[2].split()[1])


def _pseudo_terminals(config: Path) -> tuple[str, ...] | None:
    """Those that a configuration names; None when it can not be read any more."""
    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return tuple(sorted({word for word in text.replace(chr(34), " ").split() if word.startswith(PTY)}))
