"""Exit codes of the mdt command, as in sysexits.h."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell and systemd are told."""

    OK = 0
    FAILED = 1
    NO_INPUT = 66
    """EX_NOINPUT: a file that was named can not be read."""
    UNAVAILABLE = 69
    """EX_UNAVAILABLE: the daemon or the broker does not answer."""
    SOFTWARE = 70
    """EX_SOFTWARE: a part of the agent failed too often."""
    BAD_CONFIG = 78
    """EX_CONFIG: the configuration can not be used."""
