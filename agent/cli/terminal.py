"""The edge between a command and the person who reads it: nothing from outside acts on the terminal."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from agent.cli.exit_code import ExitCode
from agent.runtime.plain_text import harmless, told
from agent.runtime.shortage import is_passing

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


class PlainStream(io.TextIOBase):
    """A stream that passes text on line by line and tab by tab, everything else in it made harmless."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        """See io.TextIOBase.write."""
        self._out.write("\n".join(_harmless_line(line) for line in text.split("\n")))
        return len(text)

    def flush(self) -> None:
        """See io.IOBase.flush."""
        self._out.flush()

    def isatty(self) -> bool:
        """See io.IOBase.isatty."""
        return self._out.isatty()

    def fileno(self) -> int:
        """See io.IOBase.fileno."""
        return self._out.fileno()

    def close(self) -> None:
        """Nothing: what is written to is another's, and flushed while somebody hears its complaints."""

    def writable(self) -> bool:
        """See io.IOBase.writable."""
        return True

    def __getattr__(self, name: str) -> Any:
        """Encoding, buffer and the like are those of what is written to."""
        return getattr(self._out, name)


def _harmless_line(line: str) -> str:
    return "\t".join(harmless(part) for part in line.split("\t"))


def at_the_edge(command: Callable[[], int], *, draws: bool = False) -> int:
    """Run a command that a person reads, and return its exit code.

    What it prints is made harmless; a reader that has seen enough (`| head`) and Ctrl-C end it without a word
    of Python's; what the computer lacks at the moment is told in one sentence.

    Args:
        command: prints to sys.stdout and sys.stderr.
        draws: it draws on the terminal itself, and makes harmless what it draws itself.
    """
    out, err = sys.stdout, sys.stderr
    try:
        with (
            contextlib.nullcontext() if draws else contextlib.redirect_stdout(PlainStream(out)),
            contextlib.redirect_stderr(PlainStream(err)),
        ):
            code = command()
        # Now, while somebody listens to what goes wrong with it.
        out.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _give_up(out)
        return ExitCode.OK
    except (OSError, ImportError, MemoryError) as error:
        if not is_passing(error):
            raise
        print(f"this computer can not do it at the moment: {told(error)}", file=err)
        return ExitCode.UNAVAILABLE
    return code


def _give_up(out: TextIO) -> None:
    """Send what is left in the buffers nowhere: at its end Python would complain that nobody takes it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
