"""Receivers in the network: gpsd, and routers that send NMEA by UDP."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from pydantic import Field

from agent.config import GnssDevice, Host
from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from agent.hal.gnss import NmeaBytes
from firmware_shims.serial_line import SerialLine
from firmware_shims.serial_nmea import SerialNmea

WATCH = b'?WATCH={"enable":true,"json":true};\n'
"""What makes gpsd talk (gpsd_json(5))."""
DATAGRAM_BYTES = 65_536
DATAGRAMS_A_READ = 64


class GnssGpsd(GnssDevice):
    """A receiver that gpsd reads, on this computer or another."""

    kind: Literal["gnss_gpsd"] = "gnss_gpsd"
    host: Host = "127.0.0.1"
    """Where gpsd runs."""
    port: int = Field(2947, ge=1, le=65535)
    """Its TCP port."""

    @property
    def speaks_gpsd(self) -> bool:
        """JSON objects, no sentences."""
        return True

    def takes(self) -> tuple[str, ...]:
        """The address."""
        return (f"{self.host}:{self.port}",)


class GnssUdp(GnssDevice):
    """NMEA that a router sends here by UDP."""

    kind: Literal["gnss_udp"] = "gnss_udp"
    bind: Host = "0.0.0.0"  # noqa: S104 - a router's datagrams come from outside; what is heard is only read
    """Address of this computer to listen at; all of them when left out."""
    port: int = Field(ge=1, le=65535)
    """UDP port to listen at."""
    sender: Host | None = None
    """Only datagrams of this address are heard; of any when left out."""

    def takes(self) -> tuple[str, ...]:
        """The port."""
        return (f"udp:{self.port}",)


class Gpsd(SerialNmea):
    """gpsd's TCP port, asked for its JSON."""

    async def open(self) -> None:
        """Connect and ask. Raises DeviceNotFoundError, DeviceLostError."""
        await super().open()
        await self._line.write(WATCH)


class UdpReceiver:
    """Datagrams as they come. Event loop only.

    Args:
        settings: where to listen.
        clock: the boot's.
    """

    def __init__(self, settings: GnssUdp, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._socket: socket.socket | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        """The address as configured."""
        return f"udp://{self._settings.bind}:{self._settings.port}"

    async def open(self) -> None:
        """Listen. Raises DeviceNotFoundError."""
        if self._socket is not None:
            return
        family = socket.AF_INET6 if ":" in self._settings.bind else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_DGRAM)
        try:
            listening.setblocking(False)
            listening.bind((self._settings.bind, self._settings.port))
        except OSError as error:
            listening.close()
            raise DeviceNotFoundError(self.name, os.strerror(error.errno or 0)) from error
        self._socket = listening

    async def read(self) -> Sequence[NmeaBytes]:
        """Wait for datagrams of the sender and return them. Safe to cancel. Raises DeviceLostError."""
        while True:
            await self._wait_readable()
            at_ns = self._clock.boottime_ns()
            if chunks := [NmeaBytes(data, at_ns) for data in self._take()]:
                return chunks

    async def close(self) -> None:
        """Stop listening; a waiting `read` ends. Idempotent; never raises."""
        listening, self._socket = self._socket, None
        if listening is None:
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(DeviceLostError(self.name, "closed"))
        asyncio.get_running_loop().remove_reader(listening.fileno())
        listening.close()

    async def _wait_readable(self) -> None:
        if self._socket is None:
            raise DeviceLostError(self.name, "not open")
        loop, listening = asyncio.get_running_loop(), self._socket
        waiter = self._waiter = loop.create_future()
        loop.add_reader(listening.fileno(), lambda: None if waiter.done() else waiter.set_result(None))
        try:
            await waiter
        finally:
            if self._socket is listening:
                loop.remove_reader(listening.fileno())

    def _take(self) -> list[bytes]:
        if self._socket is None:
            raise DeviceLostError(self.name, "not open")
        datagrams: list[bytes] = []
        with suppress(BlockingIOError):
            while len(datagrams) < DATAGRAMS_A_READ:
                try:
                    data, (sender, *_) = self._socket.recvfrom(DATAGRAM_BYTES)
                except ConnectionError:
                    continue  # an answer to somebody's datagram, not to ours
                if data and self._settings.sender in (None, sender):
                    datagrams.append(data)
        return datagrams


def gpsd_receiver(settings: GnssGpsd, clock: Clock) -> Gpsd:
    """The receiver of a configuration."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return Gpsd(SerialLine(f"socket://{host}:{settings.port}", 0), clock)
