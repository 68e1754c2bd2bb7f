"""CPU that a sentence of the receiver takes, from the PTY to the merged fix."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
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
from hil.bench.figure import Figure, Target, middle
from hil.bench.setting import NotHereError, Setting
from hil.bench.trail import SECOND_NS, nmea_sentences
from hil.drive.nmea_writer import sentence

EPOCHS = 40
TEN_HERTZ_S = 10
LINE_BYTES = 16
"""A UART hands over so many at a time."""
LINE_BAUD = 38_400
GPSD_PORT = 29_471
FIRST = 10
"""By then the receiver has its fix."""
BAUD = 9600


_pause = threading.Event().wait


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
        Figure(
            "gnss_input.decode", ours_alone, unit, "pynmea2", theirs_alone, target=Target(6, at_most=True)
        ),
        *_beside_gpsd(folder, epochs, unit),
        _ten_hertz(folder, setting),
    ]


def _beside_gpsd(folder: Path, epochs: Sequence[bytes], unit: str) -> list[Figure]:
    """The same bytes through a PTY to us and to gpsd: an epoch at once, and as a serial line gives them."""
    stream = b"".join(epochs)
    line = [stream[at : at + LINE_BYTES] for at in range(0, len(stream), LINE_BYTES)]
    target = Target(3, at_most=True, of_ratio=True)
    figures = []
    for name, pieces, pause_s in (
        ("gnss_input.epochs", epochs, 0.1),
        ("gnss_input.line", line, LINE_BYTES * 10 / LINE_BAUD),
    ):
        sentences = stream.count(b"$") / 1e6
        ours_s = asyncio.run(_played(folder, pieces, pause_s))
        try:
            theirs_s, note = _gpsd(folder, pieces, pause_s), ""
        except NotHereError as error:
            theirs_s, note = None, str(error)
        theirs = None if theirs_s is None else theirs_s / sentences
        figures.append(Figure(name, ours_s / sentences, unit, "gpsd", theirs, target=target, note=note))
    return figures


def _ten_hertz(folder: Path, setting: Setting) -> Figure:
    """Ten epochs a second of a receiver with five constellations."""
    count = setting.count(10 * TEN_HERTZ_S, least=20)
    used_s = asyncio.run(_played(folder, [five_constellations(number) for number in range(count)], 0.1))
    share = 100 * used_s / (count * 0.1)
    return Figure("gnss_input.ten_hertz", share, "% of a core", "", None, target=Target(3, at_most=True))


def five_constellations(number: int) -> bytes:
    """The sentences of one epoch, 26 of them, as a receiver writes them ten times a second."""
    second, tenth = divmod(number, 10)
    time_text = f"12{second // 60 % 60:02d}{second % 60:02d}.{tenth}0"
    where = f"4222.{15000 + number % 50_000:05d},N,07102.{35000 + number % 50_000:05d},W"
    level = 30 + second % 9
    bodies = [
        f"GNRMC,{time_text},A,{where},29.657,205.10,140326,,,A,V",
        "GNVTG,205.10,T,,M,29.657,N,54.925,K,A",
        f"GNGGA,{time_text},{where},1,12,0.65,8.6,M,-28.0,M,,",
        *(f"GNGSA,A,3,03,06,10,11,14,23,28,,,,,,1.12,0.65,0.91,{system}" for system in range(1, 6)),
        *(
            f"{talker}GSV,3,{part},12,03,25,207,{level},06,44,079,40,10,42,041,37,11,36,315,36,1"
            for talker in ("GP", "GL", "GA", "GB", "GQ")
            for part in (1, 2, 3)
        ),
        f"GNGLL,{where},{time_text},A,A",
        f"GNGST,{time_text},25,,,,1.2,1.1,2.6",
        f"GNZDA,{time_text},14,03,2026,00,00",
    ]
    return b"".join(sentence(body) for body in bodies)


async def _played(folder: Path, pieces: Sequence[bytes], pause_s: float) -> float:
    """Seconds of CPU of the thread that reads what another one writes, a piece every `pause_s`."""
    receiver = PtyReceiver(folder / "played")
    receiver.plug()
    feed, decoder = SerialNmea(SerialLine(str(receiver.link), LINE_BAUD), SystemClock()), ReceiverDecoder()
    await feed.open()
    player = threading.Thread(target=_play, args=(receiver, pieces, pause_s), name="player")
    left, fixes = sum(map(len, pieces)), 0
    player.start()
    begun_s = time.thread_time()
    try:
        while left > 0:
            for chunk in await feed.read():
                left -= len(chunk.data)
                fixes += len(decoder.feed(chunk))
        used_s = time.thread_time() - begun_s
    finally:
        player.join()
        await feed.close()
        receiver.unplug()
    assert fixes
    return used_s


def _gpsd(folder: Path, pieces: Sequence[bytes], pause_s: float) -> float:
    """The same of gpsd, by the kernel's count. Raises NotHereError."""
    program = shutil.which("gpsd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise NotHereError("gpsd is not installed")
    receiver = PtyReceiver(folder / "gpsd")
    receiver.plug()
    process = subprocess.Popen(
        [program, "-N", "-n", "-b", "-S", str(GPSD_PORT), str(receiver.link)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline_s = time.monotonic() + 10
        while not receiver.is_heard:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise NotHereError("gpsd does not open the PTY")
            _pause(0.05)
        _play(receiver, pieces[:20], 0.1)  # it looks for speed and kind of the receiver first
        _pause(1)
        begun_s = _cpu_s(process.pid)
        _play(receiver, pieces, pause_s)
        _pause(0.2)
        return _cpu_s(process.pid) - begun_s
    finally:
        process.terminate()
        process.wait()
        receiver.unplug()


def _cpu_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]) / 1e9


def _play(receiver: PtyReceiver, pieces: Sequence[bytes], pause_s: float) -> None:
    due_s = time.monotonic()
    for piece in pieces:
        receiver.send(piece)
        due_s += pause_s
        _pause(max(0.0, due_s - time.monotonic()))


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
