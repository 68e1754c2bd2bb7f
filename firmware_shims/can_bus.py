"""A vehicle bus through python-can: a SocketCAN interface, or an SLCAN adapter on a serial line.

python-can opens and configures the bus. Frames are then taken straight from its descriptor, many at a time:
`recv()` costs 16 us a frame on SocketCAN, and several hundred on SLCAN, where it makes two system calls a
byte. There is no way to send through this module.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import termios
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from agent.config import Baud, CanDevice, DevicePath
from agent.hal.can import CanFilter, CanFrame
from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError, DeviceNotFoundError, DeviceProtocolError, HardwareError
from agent.runtime.absent_library import absent
from agent.runtime.spared_library import without_plugins
from firmware_shims.can_drain import SO_RXQ_OVFL, SlcanDrain, SocketCanDrain, WantedFrames
from firmware_shims.slcan_line import SlcanLine

DRAIN_INTERVAL_S = 0.1
"""Frames are taken in batches: waking for each would cost ten times what decoding it does."""
BUSY_DRAIN_INTERVAL_S = 0.02
"""After a batch of many. The kernel keeps about 500 frames; a full 500 kbit/s bus brings 90 in this time."""
RECEIVE_BUFFER_BYTES = 1 << 20
CLOSE_TIMEOUT_S = 2.0
BITRATES = (10_000, 20_000, 50_000, 83_300, 100_000, 125_000, 250_000, 500_000, 750_000, 1_000_000)
"""What SLCAN has a command for."""
INTERFACE_NAME_LETTERS = 15
"""IFNAMSIZ of the kernel, without the final zero."""


def _known_bitrate(bitrate: int) -> int:
    if bitrate not in BITRATES:
        raise ValueError(f"no adapter can be set to it; there are {', '.join(map(str, BITRATES))}")
    return bitrate


def _interface_name(channel: str) -> str:
    if "/" in channel:
        raise ValueError(
            'a path, where a network interface is expected; a serial adapter is kind = "can_slcan"'
        )
    if not channel or len(channel) > INTERFACE_NAME_LETTERS or any(letter.isspace() for letter in channel):
        raise ValueError(f"no interface can have this name (1 to {INTERFACE_NAME_LETTERS} letters, no space)")
    return channel


InterfaceName = Annotated[str, AfterValidator(_interface_name)]
"""What the kernel may call a network interface."""
Bitrate = Annotated[int, AfterValidator(_known_bitrate)]


class SocketCan(CanDevice):
    """A CAN interface of the kernel. Whoever brings the link up sets its bit rate (see systemd/)."""

    kind: Literal["can_socketcan"] = "can_socketcan"
    channel: InterfaceName
    """Name of the network interface, such as "can0"."""

    def takes(self) -> tuple[str, ...]:
        """The interface."""
        return (f"interface {self.channel}",)


class Slcan(CanDevice):
    """An adapter on a serial line that speaks SLCAN (Lawicel), set to listen only."""

    kind: Literal["can_slcan"] = "can_slcan"
    device: DevicePath
    """The adapter's serial device."""
    baud: Baud | None = None
    """Speed of the serial line; an adapter on USB has none, and it is left as it is."""
    bitrate: Bitrate = 500_000
    """Of the bus, in bits a second."""
    settle_s: float = Field(0, ge=0, le=10)
    """How long the adapter needs after its port is opened."""

    @property
    def channel(self) -> str:
        """As python-can writes it."""
        return self.device if self.baud is None else f"{self.device}@{self.baud}"

    def files(self) -> tuple[str, ...]:
        """The serial device."""
        return (self.device,)


class CanBus:
    """Implements agent.hal.can.CanFeed. Used from the event loop; a thread of its own opens and closes.

    Args:
        settings: which bus.
        clock: stamps the frames.
        drain_interval_s: least time between two batches of a quiet bus.
    """

    def __init__(
        self,
        settings: SocketCan | Slcan,
        clock: Clock,
        *,
        drain_interval_s: float = DRAIN_INTERVAL_S,
    ) -> None:
        self._settings = settings
        self._channel = settings.channel
        self._clock = clock
        self._wanted: tuple[CanFilter, ...] = ()
        self._drain_interval_s = drain_interval_s
        self._bus: Any = None
        self._drain: SocketCanDrain | SlcanDrain | None = None
        self._readable: asyncio.Future[None] | None = None
        self._next_drain_at = 0.0

    @property
    def name(self) -> str:
        """The device as configured."""
        return self._channel

    @property
    def overruns(self) -> int:
        """Frames known to be lost since the bus was opened.

        They were dropped by the kernel for want of room, or damaged on an adapter's serial line.
        """
        return 0 if self._drain is None else self._drain.lost

    @property
    def error_frames(self) -> int:
        """Error frames that the controller reported since the bus was opened."""
        return self._drain.error_frames if isinstance(self._drain, SocketCanDrain) else 0

    def listen_for(self, wanted: Sequence[CanFilter]) -> None:
        """Pass only frames that are `wanted` from the next `open` on; all of them when it is empty."""
        self._wanted = tuple(wanted)

    async def open(self) -> None:
        """Open the bus, listening only.

        Opening may block (a slow USB stack, the adapter's settling, loading python-can), so a thread of its
        own does it. A thread can not be interrupted: when the caller gives up, what it opens later is closed.

        Raises:
            DeviceNotFoundError: no such interface or device, not permitted, or the interface is down.
            DeviceProtocolError: the adapter can not do what is asked.
        """
        if self._bus is not None:
            return
        opener = ThreadPoolExecutor(max_workers=1, thread_name_prefix="open-can")
        opening = opener.submit(self._open_blocking)
        try:
            bus = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opener.shutdown(wait=False)
            opening.add_done_callback(_shut_down_unwanted)
            raise
        except HardwareError:
            opener.shutdown()
            raise
        opener.shutdown()
        self._bus = bus
        if isinstance(self._settings, SocketCan):
            self._drain = SocketCanDrain(bus.socket)
        else:
            self._drain = SlcanDrain(bus.fileno(), SlcanLine(WantedFrames(self._wanted).includes))
        self._next_drain_at = 0.0

    async def read(self) -> Sequence[CanFrame]:
        """Wait until frames arrived and return them all.

        Safe to cancel: nothing is taken before it is returned.

        Raises:
            DeviceLostError: not open, unplugged, or the interface went down.
        """
        loop = asyncio.get_running_loop()
        while True:
            # Always at least one turn of the loop, so that a flooded bus can not starve the rest.
            await asyncio.sleep(max(self._next_drain_at - loop.time(), 0))
            drain = self._drain
            if drain is None:
                raise DeviceLostError(self._channel, "not open")
            try:
                frames = drain.frames(self._clock)
            except OSError as error:
                raise DeviceLostError(self._channel, error.strerror or str(error)) from error
            except EOFError as error:
                raise DeviceLostError(self._channel, "hung up") from error
            pause_s = BUSY_DRAIN_INTERVAL_S if drain.was_busy else self._drain_interval_s
            self._next_drain_at = loop.time() + pause_s
            if frames:
                return frames
            await self._wait_readable(loop, drain)

    async def close(self) -> None:
        """Release the bus; a waiting `read` ends with DeviceLostError. Idempotent, never raises."""
        bus, drain = self._bus, self._drain
        self._bus = self._drain = None
        if bus is None or drain is None:
            return
        asyncio.get_running_loop().remove_reader(drain.fileno)
        if self._readable is not None and not self._readable.done():
            self._readable.set_exception(DeviceLostError(self._channel, "closed"))
        # Closing sends a command to an adapter and waits for it to go out: never on the loop.
        closer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="close-can")
        closing = closer.submit(_shut_down, bus)
        closer.shutdown(wait=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.shield(asyncio.wrap_future(closing))

    async def _wait_readable(
        self, loop: asyncio.AbstractEventLoop, drain: SocketCanDrain | SlcanDrain
    ) -> None:
        readable: asyncio.Future[None] = loop.create_future()
        self._readable = readable
        loop.add_reader(drain.fileno, _wake, readable)
        try:
            await readable
        finally:
            self._readable = None
            if self._drain is drain:  # else it is closed, and its number may be somebody else's by now
                loop.remove_reader(drain.fileno)

    def _open_blocking(self) -> Any:
        can = import_can()
        try:
            if isinstance(self._settings, SocketCan):
                return self._open_socketcan(can)
            return self._open_slcan(can, self._settings)
        except can.CanError as error:
            raise DeviceNotFoundError(self._channel, _plain(error)) from error
        except (OSError, termios.error) as error:
            raise DeviceNotFoundError(self._channel, _plain(error)) from error
        except (ValueError, NotImplementedError) as error:
            raise DeviceProtocolError(self._channel, str(error)) from error

    def _open_socketcan(self, can: Any) -> Any:
        _probe(self._channel)
        filters = [
            {"can_id": can_id, "can_mask": mask, "extended": extended}
            for can_id, mask, extended in self._wanted
        ]
        bus = can.Bus(
            interface="socketcan",
            channel=self._channel,
            fd=True,
            can_filters=filters or None,
            ignore_config=True,  # else ~/.canrc, /etc/can.conf and the environment have a say
        )
        with suppress(OSError):  # both are improvements, not needs
            bus.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            bus.socket.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        return bus

    def _open_slcan(self, can: Any, settings: Slcan) -> Any:
        # python-can talks to the adapter before we could lock it: see first whether somebody else has it.
        _check_free(settings.device)
        bus = can.Bus(
            interface="slcan",
            channel=self._channel,
            bitrate=settings.bitrate,
            listen_only=True,
            sleep_after_open=settings.settle_s,
            ignore_config=True,
        )
        try:
            _make_exclusive(bus.fileno())
        except (OSError, termios.error):
            _shut_down(bus)
            raise
        return bus


def import_can() -> Any:
    """python-can without asammdf, which its MF4 log reader would load, and without interfaces of others."""
    with absent("asammdf"), without_plugins():
        import can
    return can


def socketcan_available(channel: str) -> bool:
    """True when the kernel has a CAN interface of that name and it is up."""
    try:
        _probe(channel)
    except OSError:
        return False
    return True


def _probe(channel: str) -> None:
    """Bind a socket to a CAN interface. Raises OSError: ENETDOWN for an interface that is down."""
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as probe:
        probe.bind((channel,))
        code = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))


def _check_free(device: str) -> None:
    """See that no other program has a serial device. Raises OSError."""
    fileno = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fileno)


def _make_exclusive(fileno: int) -> None:
    """Lock out other programs, and make an empty read mean "unplugged" and nothing else. Raises OSError."""
    if not os.isatty(fileno):
        return
    fcntl.flock(fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
    settings = termios.tcgetattr(fileno)
    settings[6][termios.VMIN] = 1
    termios.tcsetattr(fileno, termios.TCSANOW, settings)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _shut_down(bus: Any) -> None:
    with suppress(Exception):  # a device that is gone may refuse in any way, and nothing is left to be done
        bus.shutdown()


def _shut_down_unwanted(opening: Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _shut_down(opening.result())


def _plain(error: Exception) -> str:
    """One sentence for a person; python-can wraps pyserial's exception, which wraps the system's words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BlockingIOError):
            return "in use by another program"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    return str(error)
