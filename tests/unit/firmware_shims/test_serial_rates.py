"""The speed of a receiver is found, and found again when it changes, without anybody's hand."""

from __future__ import annotations

import asyncio
import contextlib
import random
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from firmware_shims import serial_nmea
from firmware_shims.serial_nmea import GnssSerial, serial_receiver
from firmware_shims.serial_rates import RATES, RateSearch, good_messages
from firmware_shims.simulated.nmea_receiver import PtyReceiver
from firmware_shims.system_clock import SystemClock

S = 1_000_000_000
RMC = b"$GPRMC,113258,A,3238.9148,N,10822.4466,W,005.3,247.1,181022,009.3,E*6B\r\n"
UBX_ACK = bytes.fromhex("b5620501020006010f38")
SPEEDS = {getattr(termios, f"B{rate}"): rate for rate in RATES}


def garbled(data: bytes, rng: random.Random) -> bytes:
    return bytes(rng.randrange(256) for _ in data)


def test_a_message_counts_when_its_checksum_is_right() -> None:
    assert good_messages(RMC * 3 + b"$GPRMC,1*00\r\n") == 3
    assert good_messages(b"\x00\x9f" + UBX_ACK + UBX_ACK[:-1] + b"\x00") == 1
    assert good_messages(b"\xb5\x62" * 500) == 0


@pytest.mark.parametrize("true_rate", RATES)
def test_every_usual_speed_is_found_in_bounded_time(true_rate: int) -> None:
    search, rng = RateSearch(9600), random.Random(1)
    for second in range(60):
        search.take(RMC if search.rate == true_rate else garbled(RMC, rng), second * S)
        if search.settled:
            break
    assert (search.rate, search.settled) == (true_rate, True)


def test_a_receiver_that_changes_its_speed_is_found_again_and_a_bad_moment_changes_nothing() -> None:
    search, rng, true_rate = RateSearch(9600), random.Random(2), 9600
    for second in range(300):
        if second == 100:
            true_rate = 115_200
        bad_moment = 50 <= second < 54
        right = search.rate == true_rate and not bad_moment
        search.take(RMC if right else garbled(RMC, rng), second * S)
        if second < 100:
            assert search.rate == 9600
    assert (search.rate, search.settled) == (115_200, True)


def test_silence_is_no_reason_to_look_elsewhere() -> None:
    search = RateSearch(9600)
    for second in range(0, 3600, 60):
        assert not search.take(b"\x00", second * S) or search.rate != 9600
    assert search.rate in (9600, RATES[1])


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 5)), max_size=60))
def test_whatever_is_heard_a_speed_is_kept_for_a_while(heard: list[tuple[bytes, int]]) -> None:
    search, now_s, changed_s = RateSearch(4800), 0, 0
    for data, passed_s in heard:
        now_s += passed_s
        if search.take(data, now_s * S):
            assert now_s - changed_s >= 3
            changed_s = now_s


def test_a_line_is_opened_at_one_speed_after_the_other_until_the_receiver_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_nmea, "GATHER_S", 0.001)
    monkeypatch.setattr(RateSearch, "DWELL_NS", 20_000_000)
    receiver = PtyReceiver(tmp_path / "gnss")

    async def speak() -> None:
        """At 115,200: whoever listens at another speed hears something else."""
        rng = random.Random(3)
        while True:
            with contextlib.suppress(OSError, termios.error):
                assert receiver._master is not None
                speed = SPEEDS.get(termios.tcgetattr(receiver._master)[5])
                receiver.send(RMC if speed == 115_200 else garbled(RMC, rng))
            await asyncio.sleep(0.005)

    async def heard() -> AsyncIterator[NmeaBytes]:
        feed = serial_receiver(GnssSerial(device=str(receiver.link), baud="auto"), SystemClock())
        await feed.open()
        try:
            while True:
                for chunk in await feed.read():
                    yield chunk
        finally:
            await feed.close()

    async def main() -> int:
        speaking, decoder = asyncio.create_task(speak()), ReceiverDecoder()
        chunks = heard()
        try:
            async with asyncio.timeout(60):
                async for chunk in chunks:
                    decoder.feed(chunk)
                    if decoder.sentences > 5:
                        return decoder.sentences
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
        return 0

    receiver.plug()
    try:
        assert asyncio.run(main()) > 5
    finally:
        receiver.unplug()
