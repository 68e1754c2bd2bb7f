"""An SLCAN adapter without hardware: the adapter's side of the protocol on a PTY, for python-can to open."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import tty
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

BITRATES = {
    b"S0": 10_000, b"S1": 20_000, b"S2": 50_000, b"S3": 100_000, b"S4": 125_000,
    b"S5": 250_000, b"S6": 500_000, b"S7": 800_000, b"S8": 1_000_000,
}  # fmt: skip
OK, BELL = b"\r", b"\a"
_TRANSMIT = re.compile(rb"[tTrRdDbB][0-9A-Fa-f]+")
_REGISTERS = re.compile(rb"s[0-9A-Fa-f]{4}")


def frame_line(can_id: int, extended: bool, data: bytes) -> bytes:
    """A frame as the adapter writes it; data of at most 8 bytes."""
    head = f"T{can_id:08X}" if extended else f"t{can_id:03X}"
    return f"{head}{len(data)}{data.hex().upper()}\r".encode()


class AdapterFirmware:
    """What runs in the adapter, without its wire.

    Attributes:
        bitrate: the bit rate of the bus, None until it is set.
        is_open: True while frames are passed on.
        listens_only: True when it was opened without the right to send or acknowledge.
        openings: how often it was opened.
        transmit_requests: every command that asked for something to be sent on the bus; none is obeyed.
    """

    def __init__(self) -> None:
        self.bitrate: int | None = None
        self.is_open = False
        self.listens_only = False
        self.openings = 0
        self.transmit_requests: list[bytes] = []
        self._rest = b""

    def receive(self, data: bytes) -> bytes:
        """Obey commands; returns the answers."""
        *commands, self._rest = (self._rest + data).split(b"\r")
        return b"".join(self._obey(command) for command in commands)

    def _obey(self, command: bytes) -> bytes:
        was_open = self.is_open
        if command in BITRATES or _REGISTERS.fullmatch(command):
            if not was_open:
                self.bitrate = BITRATES.get(command)
            return BELL if was_open else OK
        if command in (b"O", b"L"):
            if not was_open:
                self.is_open, self.listens_only = True, command == b"L"
                self.openings += 1
            return BELL if was_open else OK
        if command == b"C":
            self.is_open = False
            return OK if was_open else BELL
        if _TRANSMIT.fullmatch(command):
            self.transmit_requests.append(command)
            return BELL
        answers = {b"": OK, b"V": b"V1013\r", b"N": b"NA123\r", b"F": b"F00\r"}
        return answers.get(command, BELL)


class PtySlcanAdapter:
    """An adapter on a PTY. Used from one event loop.

    Args:
        link: a symbolic link to the PTY that stays the same when it is plugged in again, as udev's do.

    Attributes:
        firmware: the adapter itself; a new one each time it is plugged in, for it lives on the cable's power.
        transmit_requests: what was asked to be sent on the bus since the adapter was made, over all plugs.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        self.firmware = AdapterFirmware()
        self.transmit_requests: list[bytes] = []
        self._master: int | None = None
        self._opened = asyncio.Event()

    def plug(self) -> None:
        """Connect the cable."""
        if self._master is not None:
            return
        self.firmware = AdapterFirmware()
        self.firmware.transmit_requests = self.transmit_requests
        self._opened.clear()
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        target = os.ttyname(slave)
        os.close(slave)  # so that the master is told when the agent lets go
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(self.link)
        self._listen()

    def unplug(self) -> None:
        """Pull the cable: the agent's end hangs up, the name goes. Idempotent."""
        master, self._master = self._master, None
        if master is not None:
            asyncio.get_running_loop().remove_reader(master)
            os.close(master)
            self.firmware.is_open = False
            self._opened.clear()
            self.link.unlink(missing_ok=True)

    async def wait_open(self) -> None:
        """Wait until the agent opened the bus."""
        await self._opened.wait()

    def send(self, frames: Iterable[tuple[int, bool, bytes]]) -> int:
        """Pass frames (identifier, extended, data) on, as many as the line takes; what it does not is gone.

        Returns the number of frames passed on; none while the bus is closed.
        """
        sent = 0
        for frame in frames:
            if not self.send_bytes(frame_line(*frame)):
                break
            sent += 1
        return sent

    def send_bytes(self, data: bytes) -> bool:
        """Put bytes on the line as they are. False when the bus is closed or the line is full."""
        if self._master is None or not self.firmware.is_open or self._is_hung_up():
            return False
        with suppress(BlockingIOError):
            return os.write(self._master, data) == len(data)
        return False

    def _listen(self) -> None:
        if self._master is not None:
            asyncio.get_running_loop().add_reader(self._master, self._on_readable)

    def _on_readable(self) -> None:
        master = self._master
        if master is None:
            return
        try:
            data = os.read(master, 4096)
        except BlockingIOError:
            return
        except OSError:
            # Nobody has the other end open; it stays "readable" until then. Look again a little later.
            loop = asyncio.get_running_loop()
            loop.remove_reader(master)
            self.firmware.is_open = False
            self._opened.clear()
            loop.call_later(0.02, self._listen)
            return
        openings = self.firmware.openings
        answers = self.firmware.receive(data)
        if answers:
            with suppress(BlockingIOError):
                os.write(master, answers)
        if self.firmware.openings > openings:
            self._opened.set()
        if not self.firmware.is_open:
            self._opened.clear()  # who waits is woken all the same

    def _is_hung_up(self) -> bool:
        if self._master is None:
            return True
        poll = select.poll()
        poll.register(self._master, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))
