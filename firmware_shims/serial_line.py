"""A line of bytes to a device: a serial port, a PTY, or `socket://host:port` of an in-vehicle router.

Ports are opened with pyserial and then read straight from their descriptor by the event loop, which costs
a hundredth of `readline()`. TCP is the standard library's: pyserial's own socket handler sleeps 0.3 s in
`close()`, which would stop the whole loop, and leaks its socket after the peer reset the connection.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import termios
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol
from urllib.parse import urlsplit

from agent.hal.errors import DeviceLostError, DeviceNotFoundError

READ_BYTES = 4096
CONNECT_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 5.0
"""A device that takes nothing for this long is treated as lost."""

_IMPORTING = threading.Lock()
"""An import that fails for want of a descriptor leaves another thread, which waited for it, half a module."""

# A router that lost power says nothing, ever: 10 s of idling and 3 unanswered probes, 5 s apart, end it.
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 10, 5, 3


class _Handle(Protocol):
    """What pyserial ports and sockets have in common."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class SerialLine:
    """One open device, read and written from the event loop; one reader at a time.

    Args:
        device: path of a serial port or PTY, or `socket://host:port`.
        baud: bits a second; ignored by PTYs and TCP.
    """

    def __init__(self, device: str, baud: int) -> None:
        self.device = device
        self.baud = baud
        self._handle: _Handle | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._write_turn = asyncio.Lock()

    async def open(self) -> None:
        """Open the device and lock it against other programs.

        Opening may block (name look-up, connecting, a slow USB stack), so a thread of its own does it.
        A thread can not be interrupted: when the caller gives up, what it opens later is closed at once.

        Raises:
            DeviceNotFoundError: not there, not permitted, in use, or not a device that can be opened.
        """
        if self._handle is not None:
            return
        opener = ThreadPoolExecutor(max_workers=1, thread_name_prefix="open-device")
        opening = opener.submit(_open_blocking, self.device, self.baud)
        try:
            self._handle = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opener.shutdown(wait=False)
            opening.add_done_callback(_close_unwanted)
            raise
        # termios.error is no OSError; ValueError is a malformed address or baud rate.
        except (OSError, termios.error, ValueError) as error:
            opener.shutdown()
            raise DeviceNotFoundError(self.device, _plain(error)) from error
        opener.shutdown()

    async def read(self) -> bytes:
        """Wait for at least one byte and return what there is, at most `READ_BYTES`.

        Safe to cancel: bytes are taken only after the waiting is over. Always lets the loop turn once, so
        that a device which floods can not starve the rest of the agent.

        Raises:
            DeviceLostError: not open, unplugged, or the peer hung up.
        """
        while True:
            await self.wait_readable()
            if data := self.take():
                return data

    async def wait_readable(self) -> None:
        """Wait until there is something to take, be it the news that the device is gone.

        Raises:
            DeviceLostError: not open, or closed while waiting.
        """
        loop = asyncio.get_running_loop()
        await self._wait_until(self._open_handle(), loop.add_reader, loop.remove_reader)

    def take(self) -> bytes:
        """Take what has arrived, at most `READ_BYTES`, without waiting; empty when nothing has.

        Raises:
            DeviceLostError: not open, unplugged, or the peer hung up.
        """
        try:
            data = os.read(self._open_handle().fileno(), READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise DeviceLostError(self.device, _plain(error)) from error
        if not data:
            raise DeviceLostError(self.device, "hung up")
        return data

    async def write(self, data: bytes) -> None:
        """Hand all of `data` to the kernel; concurrent writes do not mix.

        A cancelled write may have sent a part: the protocol on top needs checksums.

        Raises:
            DeviceLostError: not open, unplugged, the peer hung up, or it takes nothing for `WRITE_TIMEOUT_S`.
        """
        async with self._write_turn:
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self._write_all(data)
            except TimeoutError as error:
                raise DeviceLostError(self.device, f"took nothing for {WRITE_TIMEOUT_S:g} s") from error

    async def close(self) -> None:
        """Release the device; a waiting `read` or `write` ends with DeviceLostError.

        Idempotent; never raises.
        """
        handle, self._handle = self._handle, None
        if handle is None:
            return
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(DeviceLostError(self.device, "closed"))
        loop = asyncio.get_running_loop()
        loop.remove_reader(handle.fileno())
        loop.remove_writer(handle.fileno())
        _close(handle)

    async def _write_all(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            handle = self._open_handle()
            try:
                left = left[os.write(handle.fileno(), left) :]
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._wait_until(handle, loop.add_writer, loop.remove_writer)
            except OSError as error:
                raise DeviceLostError(self.device, _plain(error)) from error

    async def _wait_until(
        self, handle: _Handle, add: Callable[..., None], remove: Callable[[int], bool]
    ) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(ready)
        add(handle.fileno(), _wake, ready)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if self._handle is handle:  # else it is closed, and its number may be somebody else's by now
                remove(handle.fileno())

    def _open_handle(self) -> _Handle:
        if self._handle is None:
            raise DeviceLostError(self.device, "not open")
        return self._handle


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _open_blocking(device: str, baud: int) -> _Handle:
    return _open_tcp(device) if "://" in device else _open_port(device, baud)


def _open_port(device: str, baud: int) -> _Handle:
    with _IMPORTING:
        import serial  # lazily: only a configuration with a serial device pays for it

    # `exclusive` is flock(): a second reader would steal every other byte without either noticing.
    port = serial.Serial(port=None, baudrate=baud, timeout=0, exclusive=True)
    port.port = device
    port.open()
    try:
        # With pyserial's VMIN = 0 an empty read means "nothing yet" or "unplugged"; with 1 only the latter.
        settings = termios.tcgetattr(port.fileno())
        settings[6][termios.VMIN] = 1
        termios.tcsetattr(port.fileno(), termios.TCSANOW, settings)
    except (OSError, termios.error):
        port.close()
        raise
    return port


def _open_tcp(device: str) -> _Handle:
    url = urlsplit(device)
    if url.scheme != "socket" or not url.hostname or url.port is None or url.path or url.query:
        raise ValueError("not an address of the form socket://host:port")
    connection = socket.create_connection((url.hostname, url.port), timeout=CONNECT_TIMEOUT_S)
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    return connection


def _close(handle: _Handle) -> None:
    with suppress(OSError, termios.error):
        # Unsent bytes would make the kernel wait up to 30 s in close(); a socket refuses this call, rightly.
        termios.tcflush(handle.fileno(), termios.TCOFLUSH)
    with suppress(OSError):
        handle.close()


def _close_unwanted(opening: Future[_Handle]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _close(opening.result())


def _plain(error: Exception) -> str:
    """One sentence for a person; pyserial wraps the system's words in its own."""
    number = getattr(error, "errno", None)
    if number in (errno.EAGAIN, errno.EBUSY):
        return "in use by another program"
    if isinstance(error, termios.error) and error.args and isinstance(error.args[0], int):
        number = error.args[0]
    return os.strerror(number) if isinstance(number, int) and number > 0 else str(error)
