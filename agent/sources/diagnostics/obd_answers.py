"""What control units answer to OBD-II requests (SAE J1979, ISO 15031-5): trouble codes and the VIN."""

from __future__ import annotations

import hashlib

CONFIRMED, PENDING, VEHICLE = 0x03, 0x07, 0x09
CURRENT = 0x01
VIN_ITEM = 0x02
ANSWER_TO = 0x40
REFUSED = 0x7F
LISTENS_FROM, ANSWERS_FROM = 0x7E0, 0x7E8
VIN_LETTERS = 17
_SYSTEMS = "PCBU"
MOST_CODES = 127


def codes_of(answer: bytes, mode: int) -> list[str] | None:
    """Trouble codes such as "P0300"; None for what is no answer to `mode`.

    On CAN the count stands behind the mode, two bytes a code behind it; a code of zeroes is padding.
    """
    if len(answer) < 2 or answer[0] != mode + ANSWER_TO:  # noqa: PLR2004  # mode and count
        return None
    count, data = answer[1], answer[2:]
    if count > MOST_CODES or len(data) < 2 * count:
        return None
    pairs = [data[at : at + 2] for at in range(0, 2 * count, 2)]
    return sorted({_code(pair) for pair in pairs if any(pair)})


def _code(pair: bytes) -> str:
    high = pair[0]
    return f"{_SYSTEMS[high >> 6]}{high >> 4 & 3}{high & 0xF:X}{pair[1]:02X}"


def vin_of(answer: bytes) -> str | None:
    """The VIN out of an answer to 09-02; None when there is none that could be one."""
    if len(answer) < 3 or answer[0] != VEHICLE + ANSWER_TO or answer[1] != VIN_ITEM:  # noqa: PLR2004
        return None
    return plausible_vin(answer[3:])


def plausible_vin(raw: bytes) -> str | None:
    """17 capital letters without I, O and Q, and digits (ISO 3779); padding in front is left out."""
    text = raw.strip(b"\x00\xff ").decode("ascii", "replace")
    allowed = set("ABCDEFGHJKLMNPRSTUVWXYZ0123456789")
    return text if len(text) == VIN_LETTERS and set(text) <= allowed else None


def hashed_vin(vin: str, agency: str) -> str:
    """A pseudonym of a vehicle within an agency: the same for the same vehicle, without the VIN in it."""
    return hashlib.blake2s(vin.encode(), key=agency.encode()[:32], digest_size=12).hexdigest()
