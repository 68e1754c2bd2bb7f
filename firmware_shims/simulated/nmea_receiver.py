"""A GNSS receiver without hardware: NMEA bytes on a PTY, for the serial driver to open."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import tty
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TIMED = re.compile(rb"\$(?!P)\w\w(?:(?:RMC|GGA|GNS|ZDA),|GLL,(?:[^,]*,){4})(\d\d)(\d\d)(\d\d(?:\.\d*)?)[,*]")
DAY_S = 86_400
GAP_S = 60
"""A longer silence in a recording is played as one epoch's: nobody wants to wait for it."""


def paced_epochs(log: bytes) -> Iterator[tuple[float, bytes]]:
    """Cut a recorded log into epochs at the sentences' own times.

    Args:
        log: NMEA text; comment lines that begin with `#` are left out.

    Yields:
        Seconds since the first epoch, and the bytes of the epoch. Midnight is passed forward; a jump of more
        than `GAP_S` or backwards counts as one second.
    """
    at_s, time_s, epoch = 0.0, None, b""
    for line in log.splitlines(keepends=True):
        if line.startswith(b"#"):
            continue
        match = _TIMED.match(line)
        if match is not None:
            line_s = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
            if time_s is not None and line_s != time_s:
                yield at_s, epoch
                passed_s = (line_s - time_s) % DAY_S
                at_s, epoch = at_s + (passed_s if passed_s <= GAP_S else 1.0), b""
            time_s = line_s
        epoch += line
    if epoch:
        yield at_s, epoch


class PtyReceiver:
    """A receiver on a PTY. Used from one event loop.

    Args:
        link: a symbolic link to the PTY that stays the same when it is plugged in again, as udev's do.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        self._master: int | None = None

    def plug(self) -> None:
        """Connect the cable."""
        if self._master is not None:
            return
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        target = os.ttyname(slave)
        os.close(slave)  # so that the master is told when the agent lets go
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(self.link)

    def unplug(self) -> None:
        """Pull the cable: the agent's end hangs up, the name goes. Idempotent."""
        master, self._master = self._master, None
        if master is not None:
            os.close(master)
            self.link.unlink(missing_ok=True)

    @property
    def is_heard(self) -> bool:
        """True while somebody has the PTY open."""
        if self._master is None:
            return False
        poll = select.poll()
        poll.register(self._master, 0)
        return not any(event & select.POLLHUP for _, event in poll.poll(0))

    def send(self, data: bytes) -> None:
        """Send as a UART does: what nobody takes is gone."""
        if self._master is not None and self.is_heard:
            with suppress(BlockingIOError):
                os.write(self._master, data)

    async def play(self, log: bytes, speed: float = 1.0) -> None:
        """Send a recorded log, each epoch at its time, `speed` times as fast as it was."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        for at_s, epoch in paced_epochs(log):
            await asyncio.sleep(max(0.0, begun_s + at_s / speed - loop.time()))
            self.send(epoch)
