"""A GNSS receiver on a serial port or PTY, or at a TCP port of an in-vehicle router."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import reduce
from operator import xor
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from agent.config import Baud, DevicePath, GnssDevice, Host
from agent.hal.clock import Clock
from agent.hal.gnss import NmeaBytes
from agent.runtime.log import EventLog
from firmware_shims.serial_line import SerialLine
from firmware_shims.serial_rates import RATES, RateSearch

log = EventLog("serial")

GATHER_S = 0.05
"""How long bytes are left to gather. A UART hands over 16 at a time, and waking up for each handful costs
more than all decoding."""


def _init_bytes(text: str) -> bytes:
    """An init string as it is sent. Raises ValueError."""
    if text.startswith("hex:"):
        return bytes.fromhex(text.removeprefix("hex:"))
    if not text.isascii() or not text.isprintable() or set("$*") & set(text):
        raise ValueError("a sentence is written without $ and checksum, in printable ASCII")
    return f"${text}*{reduce(xor, text.encode(), 0):02X}\r\n".encode()


def _can_be_sent(text: str) -> str:
    _init_bytes(text)
    return text


InitString = Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(_can_be_sent)]
"""A sentence or `hex:` message for the receiver."""


class GnssSerial(GnssDevice):
    """A receiver on a serial port or PTY."""

    kind: Literal["gnss_serial"] = "gnss_serial"
    device: DevicePath
    """The receiver's serial device. A router's TCP port is a device of kind "gnss_tcp"."""
    baud: Baud | Literal["auto"] = 9600
    """Speed of the line. "auto" looks for it, and looks again when the receiver changes it."""
    init: tuple[InitString, ...] = Field((), max_length=16)
    """What the receiver is told at each opening: sentences without `$` and checksum, such as "PMTK220,1000",
    or whole binary messages as `hex:` and digits."""

    def files(self) -> tuple[str, ...]:
        """The serial device."""
        return (self.device,)


class GnssTcp(GnssDevice):
    """A receiver at a TCP port, such as of an in-vehicle router."""

    kind: Literal["gnss_tcp"] = "gnss_tcp"
    host: Host
    """Its name or address."""
    port: int = Field(ge=1, le=65535)
    """Its TCP port."""

    def takes(self) -> tuple[str, ...]:
        """The address."""
        return (f"{self.host}:{self.port}",)


class SerialNmea:
    """The `NmeaFeed` of a `SerialLine`: bytes with the boot time at which they were read."""

    def __init__(self, line: SerialLine, clock: Clock, init: Sequence[bytes] = ()) -> None:
        self._line = line
        self._clock = clock
        self._init = init

    @property
    def name(self) -> str:
        """The device as configured."""
        return self._line.device

    async def open(self) -> None:
        """Open the device, and tell it how to be. Raises DeviceNotFoundError, DeviceLostError."""
        await self._line.open()
        for message in self._init:
            await self._line.write(message)

    async def read(self) -> Sequence[NmeaBytes]:
        """Wait until bytes arrived; they carry the time of the first of them.

        Safe to cancel. Raises DeviceLostError.
        """
        while True:
            await self._line.wait_readable()
            first_byte_ns = self._clock.boottime_ns()
            await asyncio.sleep(
                GATHER_S
            )  # nothing is taken before, so nothing is lost when this is cancelled
            if data := self._line.take():
                return (NmeaBytes(data=data, received_boottime_ns=first_byte_ns),)

    async def close(self) -> None:
        """Release the device; never raises."""
        await self._line.close()


class SearchingNmea(SerialNmea):
    """The same on a line whose speed is looked for.

    What is heard at a wrong speed is handed on: who reads it counts it, and says so.
    """

    def __init__(self, device: str, clock: Clock, init: Sequence[bytes] = ()) -> None:
        self._search = RateSearch(RATES[0])
        super().__init__(SerialLine(device, self._search.rate), clock, init)

    async def read(self) -> Sequence[NmeaBytes]:
        """See SerialNmea. Opens the line at another speed when nothing that comes can be read."""
        chunks = await super().read()
        settled = self._search.settled
        for chunk in chunks:
            if self._search.take(chunk.data, chunk.received_boottime_ns):
                device, rate = self._line.device, self._search.rate
                await self._line.close()
                self._line = SerialLine(device, rate)
                log.info("baud_tried", device=device, baud=rate)
                await self.open()
        if self._search.settled and not settled:
            log.info("baud_found", device=self._line.device, baud=self._search.rate)
        return chunks


def serial_receiver(settings: GnssSerial, clock: Clock) -> SerialNmea:
    """The receiver of a configuration."""
    init = [_init_bytes(text) for text in settings.init]
    if settings.baud == "auto":
        return SearchingNmea(settings.device, clock, init)
    return SerialNmea(SerialLine(settings.device, settings.baud), clock, init)


def tcp_receiver(settings: GnssTcp, clock: Clock) -> SerialNmea:
    """The receiver of a configuration."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return SerialNmea(SerialLine(f"socket://{host}:{settings.port}", 0), clock)
