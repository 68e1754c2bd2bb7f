"""Mangled bytes of receivers, a fixed number of inputs: `python -m hil.fuzz_receiver [INPUTS] [SEED]`.

Nothing may raise, and no fix may have a position that no valid sentence or message in its input gave.
"""

from __future__ import annotations

import random
import re
import struct
import sys
from collections.abc import Callable

from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.nmea_framing import MAX_SENTENCE_BYTES, checksum
from agent.sources.gnss.nmea_sentence import parse_thoroughly
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from agent.sources.gnss.sentence import Sentence
from agent.sources.gnss.ubx import HEADER_BYTES, SYNC
from agent.sources.gnss.ubx import checksum as ubx_checksum

INPUTS = 20_000
_SENTENCE = re.compile(rb"\$([^$*\r\n]{1,254})\*([0-9A-Fa-f]{2})")
_POSITIONS = {(0x01, 0x07): 24, (0x01, 0x02): 4}
"""Where longitude and latitude stand in NAV-PVT and NAV-POSLLH."""
Place = tuple[float, float]


def nmea(rng: random.Random, second: int) -> bytes:
    """An epoch of NMEA, of any make."""
    time = f"12{second // 60 % 60:02d}{second % 60:02d}.{rng.choice(['0', '00', '000', '304'])}"
    where = f"42{rng.uniform(0, 59.9):07.4f},N,071{rng.uniform(0, 59.9):07.4f},W"
    valid = rng.random() < 0.8
    talker = rng.choice(["GP", "GN"])
    bodies = [
        f"{talker}RMC,{time},{'A' if valid else 'V'},{where if valid else ',,,'},20.0,310.0,140926,,,A",
        f"{talker}GGA,{time},{where if valid else ',,,'},{int(valid)},07,1.1,12.0,M,-33.0,M,,",
        f"{talker}GSA,A,{3 if valid else 1},04,05,,,,,,,,,,,2.5,1.6,1.9",
        f"{talker}VTG,310.0,T,,M,20.0,N,37.0,K,A",
        f"{talker}GLL,{where},{time},{'A' if valid else 'V'},A",
        f"{talker}ZDA,{time},14,09,2026,00,00",
    ]
    rng.shuffle(bodies)
    said = bodies[: rng.randint(1, len(bodies))]
    return b"".join(f"${body}*{checksum(body.encode()):02X}\r\n".encode() for body in said)


def ubx(rng: random.Random, second: int) -> bytes:
    """A NAV-PVT."""
    lat, lon = rng.randint(-900_000_000, 900_000_000), rng.randint(-1_800_000_000, 1_800_000_000)
    payload = struct.pack(
        "<IHBBBBBBIiBBBBiiiiIIiiiii",
        second * 1000, 2026, 9, 14, 12, second // 60 % 60, second % 60, rng.randrange(8), 0,
        rng.randint(-999_999_999, 999_999_999), rng.randrange(6), rng.randrange(2), 0, 9, lon, lat, 0, 12_000,
        1_400, 0, 0, 0, 0, 10_289, 31_050_000,
    )  # fmt: skip
    body = bytes((0x01, 0x07)) + struct.pack("<H", len(payload) + 24) + payload + bytes(24)
    return SYNC + body + ubx_checksum(body)


MANGLES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    lambda rng, data: data.__setitem__(rng.randrange(len(data)), rng.randrange(256)),
    lambda rng, data: data.__delitem__(slice(at := rng.randrange(len(data)), at + rng.randint(1, 40))),
    lambda rng, data: data.insert(rng.randrange(len(data)), rng.choice(b"$*,\r\n\xb5b#")),
    lambda rng, data: data.extend(data[: rng.randrange(len(data))]),
    lambda rng, data: data.__setitem__(slice(0, rng.randrange(len(data))), rng.randbytes(rng.randrange(30))),
)


def one_input(rng: random.Random) -> bytes:
    """Some epochs, mangled a few times."""
    data = bytearray()
    second = rng.randrange(3600)
    for number in range(rng.randint(1, 5)):
        data += rng.choice((nmea, nmea, ubx))(rng, second + number)
    for _ in range(rng.randrange(6)):
        if data:
            rng.choice(MANGLES)(rng, data)
    return bytes(data)


def places_given(data: bytes) -> set[Place]:
    """Every position that a sentence or message with a right checksum gives, wherever it stands."""
    places: set[Place] = set()
    for match in _SENTENCE.finditer(data):
        body, digits = match.groups()
        if checksum(body) != int(digits, 16) or len(match[0]) > MAX_SENTENCE_BYTES or not body.isascii():
            continue
        sentence = parse_thoroughly(body.decode("ascii"))
        if isinstance(sentence, Sentence) and sentence.lat_deg is not None and sentence.lon_deg is not None:
            places.add((sentence.lat_deg, sentence.lon_deg))
    start = data.find(SYNC)
    while start >= 0:
        length = int.from_bytes(data[start + 4 : start + HEADER_BYTES], "little")
        body = data[start + 2 : start + HEADER_BYTES + length]
        given = data[start + HEADER_BYTES + length :][:2]
        at = _POSITIONS.get((data[start + 2], data[start + 3])) if len(body) > HEADER_BYTES else None
        if at is not None and ubx_checksum(body) == given and len(body) >= at + 12:
            lon, lat = struct.unpack_from("<ii", body, 4 + at)
            places.add((lat * 1e-7, lon * 1e-7))
        start = data.find(SYNC, start + 1)
    return places


def fuzz(inputs: int, seed: int) -> int:
    """Run; returns the number of positions found. Raises what the decoder raises, or ValueError."""
    found = 0
    for number in range(inputs):
        rng = random.Random(f"{seed}/{number}")
        data = one_input(rng)
        decoder, fixes, rest, at_ns = ReceiverDecoder(), [], data, 0
        while rest:
            cut = rng.randint(1, 200)
            at_ns += rng.choice((0, 1_000_000, 300_000_000))
            fixes += decoder.feed(NmeaBytes(rest[:cut], at_ns))
            rest = rest[cut:]
        fixes += decoder.finish()
        placed = {(fix.lat_deg, fix.lon_deg) for fix in fixes if fix.has_position}
        if strangers := placed - places_given(data):
            raise ValueError(f"input {number} of seed {seed}: {strangers} was in no valid sentence")
        found += len(placed)
    return found


def main(arguments: list[str]) -> int:
    """Count of inputs and seed, both with a default."""
    inputs = int(arguments[0]) if arguments else INPUTS
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    print(
        f"{inputs} inputs of seed {seed}: nothing raised, {fuzz(inputs, seed)} positions, each of them given"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
