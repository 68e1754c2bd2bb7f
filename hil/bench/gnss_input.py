"""CPU that a sentence of the receiver takes, from the PTY to the merged fix."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from firmware_shims.serial_line import SerialLine
from firmware_shims.serial_nmea import SerialNmea
from firmware_shims.simulated.nmea_receiver import PtyReceiver, paced_epochs
from firmware_shims.system_clock import SystemClock
from hil.bench.figure import Figure, middle
from hil.bench.setting import Setting
from hil.bench.trail import SECOND_NS, nmea_sentences

EPOCHS = 40
FIRST = 10
"""By then the receiver has its fix."""
BAUD = 9600


def measure(setting: Setting) -> list[Figure]:
    """Microseconds of CPU a sentence; an epoch at a time, as a receiver sends them."""
    folder = setting.fresh_folder("gnss_input")
    count = setting.count(EPOCHS, least=3)
    shift = [epoch for _, epoch in paced_epochs(b"".join(nmea_sentences()))]
    epochs = shift[FIRST : FIRST + count]
    ours, theirs = asyncio.run(_contest(folder, epochs, setting.rounds))
    decodes = [_decode(shift) for _ in range(setting.rounds)]
    ours_alone, theirs_alone = (middle(column) for column in zip(*decodes, strict=True))
    unit = "us of CPU a sentence"
    return [
        Figure("gnss_input", middle(ours), unit, "pyserial readline, pynmea2", middle(theirs)),
        Figure("gnss_input.decode", ours_alone, unit, "pynmea2", theirs_alone),
    ]


async def _contest(folder: Path, epochs: Sequence[bytes], rounds: int) -> tuple[list[float], list[float]]:
    sentences = sum(epoch.count(b"$") for epoch in epochs)
    ours, theirs = [], []
    for turn in range(rounds):
        receiver = PtyReceiver(folder / f"gnss-{turn}")
        receiver.plug()
        try:
            ours.append(await _ours(receiver, epochs) / sentences * 1e6)
            theirs.append(_theirs(receiver, epochs) / sentences * 1e6)
        finally:
            receiver.unplug()
    return ours, theirs


async def _ours(receiver: PtyReceiver, epochs: Sequence[bytes]) -> float:
    feed, decoder = SerialNmea(SerialLine(str(receiver.link), BAUD), SystemClock()), ReceiverDecoder()
    await feed.open()
    used_s, fixes = 0.0, 0
    try:
        for epoch in epochs:
            receiver.send(epoch)
            begun_s = time.process_time()
            left = len(epoch)
            while left > 0:
                for chunk in await feed.read():
                    left -= len(chunk.data)
                    fixes += len(decoder.feed(chunk))
            used_s += time.process_time() - begun_s
    finally:
        await feed.close()
    assert fixes >= len(epochs) - 2
    return used_s


def _theirs(receiver: PtyReceiver, epochs: Sequence[bytes]) -> float:
    import pynmea2
    import serial

    used_s = 0.0
    parsed: list[Any] = []
    with serial.Serial(str(receiver.link), BAUD, timeout=5) as port:
        for epoch in epochs:
            receiver.send(epoch)
            begun_s = time.process_time()
            parsed = [
                pynmea2.parse(port.readline().decode("ascii").strip()) for _ in range(epoch.count(b"$"))
            ]
            used_s += time.process_time() - begun_s
    assert parsed
    return used_s


def _decode(epochs: Sequence[bytes]) -> tuple[float, float]:
    """Without the PTY: ours to merged fixes, theirs to single sentences."""
    import pynmea2

    sentences = sum(epoch.count(b"$") for epoch in epochs)
    decoder = ReceiverDecoder()
    begun_s = time.process_time()
    for number, epoch in enumerate(epochs):
        decoder.feed(NmeaBytes(epoch, number * SECOND_NS))
    ours_s = time.process_time() - begun_s
    begun_s = time.process_time()
    for epoch in epochs:
        for line in epoch.decode("ascii").split():
            pynmea2.parse(line)
    theirs_s = time.process_time() - begun_s
    return ours_s / sentences * 1e6, theirs_s / sentences * 1e6
