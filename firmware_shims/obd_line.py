"""OBD-II over ISO-TP (ISO 15765-2): by the kernel where it can, else by the can-isotp library.

This is the only module that sends on a vehicle's bus. Its interface is one of its own: one on which another
`[[device]]` listens is refused by the configuration.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Literal, Protocol

from agent.config import DeviceName, DiagnosticDevice
from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError, DeviceNotFoundError, HardwareError
from firmware_shims.can_bus import InterfaceName

ANSWERS_ABOVE = 8
CLOSE_TIMEOUT_S = 2.0
_OPTIONS = struct.Struct("=IIBBBB")
_TX_PADDING = 0x004
_SOL_CAN_ISOTP, _CAN_ISOTP_OPTS = 106, 1
_FRAME = struct.Struct("=IB3x8s")
_NO_ISOTP = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.ENOPROTOOPT, errno.EPROTOTYPE)
_GONE = (errno.ENODEV, errno.ENETDOWN, errno.ENXIO)
_PADDING = 0x00


class ObdIsotp(DiagnosticDevice):
    """A CAN interface of the kernel on which control units are asked by OBD-II; not listen-only."""

    kind: Literal["obd_isotp"] = "obd_isotp"
    name: DeviceName = "obd"
    channel: InterfaceName
    """Name of the network interface, such as "can1": not one that the agent listens on."""

    def takes(self) -> tuple[str, ...]:
        """The interface."""
        return (f"interface {self.channel}",)


class FrameLine(Protocol):
    """Classic frames with 11-bit identifiers, to and from one control unit."""

    def send(self, can_id: int, data: bytes) -> None:
        """Send a frame. Raises OSError."""
        ...

    def receive(self, timeout_s: float) -> tuple[int, bytes] | None:
        """The next frame; None when none came in time. Raises OSError."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class RawFrames:
    """Implements FrameLine on a raw CAN socket that hears one identifier only."""

    def __init__(self, channel: str, answer_id: int) -> None:
        self._socket = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        try:
            wanted = struct.pack("=II", answer_id, socket.CAN_SFF_MASK | socket.CAN_EFF_FLAG)
            self._socket.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, wanted)
            self._socket.bind((channel,))
        except OSError:
            self._socket.close()
            raise

    def send(self, can_id: int, data: bytes) -> None:
        """See FrameLine."""
        self._socket.send(_FRAME.pack(can_id, len(data), data))

    def receive(self, timeout_s: float) -> tuple[int, bytes] | None:
        """See FrameLine."""
        self._socket.settimeout(max(timeout_s, 0.001))
        try:
            raw = self._socket.recv(_FRAME.size)
        except TimeoutError:
            return None
        can_id, length, data = _FRAME.unpack(raw)
        return can_id & socket.CAN_SFF_MASK, data[: min(length, 8)]

    def close(self) -> None:
        """See FrameLine."""
        self._socket.close()


def ask_by_library(
    frames: FrameLine, controller: int, request: bytes, timeout_s: float, now: Callable[[], float]
) -> bytes | None:
    """Ask by the can-isotp library; blocks. Raises OSError, and ImportError where that is not there."""
    import isotp

    address = isotp.Address(
        isotp.AddressingMode.Normal_11bits, txid=controller, rxid=controller + ANSWERS_ABOVE
    )
    end_s = now() + timeout_s

    def receive(timeout: float) -> Any:
        frame = frames.receive(min(timeout or 0.0, max(end_s - now(), 0.0)))
        return None if frame is None else isotp.CanMessage(arbitration_id=frame[0], data=frame[1], dlc=8)

    def send(message: Any) -> None:
        frames.send(message.arbitration_id, bytes(message.data))

    layer = isotp.TransportLayerLogic(
        rxfn=receive,
        txfn=send,
        address=address,
        # What can not be put together ends as no answer, which the asker counts.
        error_handler=lambda _: None,
        params={"tx_padding": _PADDING, "max_frame_size": 4095, "rx_consecutive_frame_timeout": 1000},
    )
    layer.send(request)
    while now() < end_s:
        layer.process(rx_timeout=0.02)
        if layer.available():
            answer = layer.recv()
            return None if answer is None else bytes(answer)
    return None


class ObdLine:
    """Implements agent.hal.diagnostics.DiagnosticLine; a thread of its own does what blocks.

    Args:
        settings: which interface.
        clock: measures the waiting for an answer.
        open_frames: gives the raw line where the kernel has no ISO-TP; for tests.
        by_kernel: whether the kernel is tried first.
    """

    def __init__(
        self,
        settings: ObdIsotp,
        clock: Clock,
        *,
        open_frames: Callable[[str, int], FrameLine] = RawFrames,
        by_kernel: bool = True,
    ) -> None:
        self._channel = settings.channel
        self._clock = clock
        self._open_frames = open_frames
        self._by_kernel = by_kernel
        self._thread: ThreadPoolExecutor | None = None
        self._asking: Future[bytes | None] | None = None

    @property
    def name(self) -> str:
        """The interface."""
        return self._channel

    async def open(self) -> None:
        """Look whether the interface is there. Raises HardwareError."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="obd")
        await self._do(self._look)

    async def ask(self, controller: int, request: bytes, timeout_s: float) -> bytes | None:
        """See DiagnosticLine."""
        return await self._do(lambda: self._ask(controller, request, timeout_s))

    async def close(self) -> None:
        """See DiagnosticLine."""
        thread, self._thread = self._thread, None
        asking, self._asking = self._asking, None
        if thread is not None:
            thread.shutdown(wait=False, cancel_futures=True)
        if asking is not None and not asking.cancelled():
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await asyncio.shield(asyncio.wrap_future(asking))

    async def _do(self, work: Callable[[], bytes | None]) -> bytes | None:
        if self._thread is None:
            raise DeviceLostError(self._channel, "not open")
        self._asking = self._thread.submit(work)
        try:
            return await asyncio.shield(asyncio.wrap_future(self._asking))
        except OSError as error:
            raise self._told(error) from error

    def _look(self) -> None:
        self._frames(0x7E8).close()

    def _ask(self, controller: int, request: bytes, timeout_s: float) -> bytes | None:
        """Runs on the thread."""
        if self._by_kernel:
            try:
                return self._ask_kernel(controller, request, timeout_s)
            except OSError as error:
                if error.errno not in _NO_ISOTP:
                    raise
                self._by_kernel = False
        frames = self._frames(controller + ANSWERS_ABOVE)
        try:
            return ask_by_library(
                frames, controller, request, timeout_s, lambda: self._clock.boottime_ns() / 1e9
            )
        except ImportError as error:
            why = "the kernel has no ISO-TP, and the library can-isotp is not installed"
            raise DeviceNotFoundError(self._channel, why) from error
        finally:
            frames.close()

    def _frames(self, answer_id: int) -> FrameLine:
        return self._open_frames(self._channel, answer_id)

    def _ask_kernel(self, controller: int, request: bytes, timeout_s: float) -> bytes | None:
        with socket.socket(socket.AF_CAN, socket.SOCK_DGRAM, socket.CAN_ISOTP) as line:
            options = _OPTIONS.pack(_TX_PADDING, 0, 0, _PADDING, 0, 0)
            line.setsockopt(_SOL_CAN_ISOTP, _CAN_ISOTP_OPTS, options)
            line.bind((self._channel, controller + ANSWERS_ABOVE, controller))
            line.settimeout(timeout_s)
            line.send(request)
            try:
                return line.recv(4096)
            except TimeoutError:
                return None
            except OSError as error:
                if error.errno in (errno.ECOMM, errno.EILSEQ, errno.ETIMEDOUT, errno.EBADMSG):
                    return None  # what came is no answer that could be put together
                raise

    def _told(self, error: OSError) -> HardwareError:
        if error.errno in _GONE:
            return DeviceNotFoundError(self._channel, "no such interface, or it is down")
        if error.errno in (errno.EPERM, errno.EACCES):
            return DeviceNotFoundError(self._channel, "not permitted")
        return DeviceLostError(self._channel, error.strerror or "the interface failed")
