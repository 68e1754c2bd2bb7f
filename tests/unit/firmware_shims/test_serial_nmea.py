"""Init strings of a receiver, on a real PTY."""

from __future__ import annotations

import asyncio
import os
import pty
import tty

import pytest
from pydantic import ValidationError

from firmware_shims.serial_nmea import GnssSerial, serial_receiver
from firmware_shims.system_clock import SystemClock


def test_the_receiver_is_told_how_to_be_at_each_opening() -> None:
    async def run() -> None:
        master, slave = pty.openpty()
        tty.setraw(slave)
        try:
            settings = GnssSerial(device=os.ttyname(slave), init=("PMTK220,1000", "hex:b562 0604 0000 0a22"))
            receiver = serial_receiver(settings, SystemClock())
            for _ in range(2):
                await receiver.open()
                heard = b""
                async with asyncio.timeout(20):
                    while len(heard) < 26:
                        heard += await asyncio.to_thread(os.read, master, 100)
                assert heard == b"$PMTK220,1000*1F\r\n" + bytes.fromhex("b56206040000") + b"\x0a\x22"
                await receiver.close()
        finally:
            os.close(slave)
            os.close(master)

    asyncio.run(run())


@pytest.mark.parametrize("text", ["$PMTK220,1000*1F", "hex:b", "hex:zz", "", "PMTK\n", "PÄTK"])
def test_what_can_not_be_sent_is_refused_before_the_road(text: str) -> None:
    with pytest.raises(ValidationError):
        GnssSerial(device="/dev/gnss", init=(text,))
